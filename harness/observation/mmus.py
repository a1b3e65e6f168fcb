"""A VM's MMUs as its ops' records tell of them: which is in use, which VMID each has, and which share a table."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from harness.observation.layout import FIRST_MMU, Record
from harness.program.machine import Machine
from harness.program.ops import OPS_BY_NAME

_INIT, _USE, _FIRST, _FREE, _SHARE = (
    OPS_BY_NAME[name].number for name in ("mmu_init", "mmu_use", "mmu_first", "mmu_free", "mmu_share")
)
_NUMBERS: Final = frozenset((_INIT, _USE, _FIRST, _FREE, _SHARE))
_PLACES: Final = {
    OPS_BY_NAME[name].number: [result.name for result in OPS_BY_NAME[name].results].index("mmu")
    for name in ("mmu_init", "mmu_use", "mmu_free", "mmu_share")
}
"""Where an op's results name the MMU; the VMID follows, of one that is made."""


def vmid_mask(machine: Machine) -> int:
    """The bits of a VMID that the CPU has."""
    return (1 << 8 * (1 + machine["vmid_bits"])) - 1


def made_by(record: Record) -> int | None:
    """The number of the MMU that the record's op has made with a table of its own; None where it has made none."""
    place = _PLACES[_INIT]
    if record.definition.number != _INIT or record.ret != 0 or len(record.outs) <= place:
        return None
    return record.outs[place] + 1


class Mmus:
    """Those that live, by their numbers in observations: FIRST_MMU, and one more than the handle's."""

    __slots__ = ("_tables", "_vmids", "in_use")

    def __init__(self, machine: Machine) -> None:
        self.in_use = FIRST_MMU
        self._vmids = {FIRST_MMU: machine["vmid"] & vmid_mask(machine)}
        self._tables = {FIRST_MMU: FIRST_MMU}
        """By MMU, the number of the one whose table it was first."""

    def follow(self, record: Record) -> bool:
        """Take in what an op has done. Whether it had to do with MMUs, and succeeded."""
        definition = record.definition
        if definition.number not in _NUMBERS or record.ret != 0:
            return False
        number = definition.number
        if number == _FIRST:
            self.in_use = FIRST_MMU
            return True
        place = _PLACES[number]
        if len(record.outs) <= place:
            return False  # of a kernel with a bug, or a budget that was spent
        mmu = record.outs[place] + 1
        if number == _USE:
            self.in_use = mmu if mmu in self._vmids else self.in_use
        elif number == _FREE:
            self._vmids.pop(mmu, None)
            self._tables.pop(mmu, None)
            self.in_use = FIRST_MMU if self.in_use == mmu else self.in_use
        else:
            self._vmids[mmu] = record.outs[place + 1]
            self._tables[mmu] = mmu if number == _INIT else self._tables[self.in_use]
        return True

    @property
    def are_several(self) -> bool:
        """Whether it is not the first one alone."""
        return len(self._vmids) > 1 or self.in_use != FIRST_MMU

    @property
    def table(self) -> int:
        """The number of the table in use: that of the MMU whose it was first."""
        return self._tables[self.in_use]

    def vmid(self, mmu: int | None) -> int:
        """The VMID of an MMU, None for the one in use; of one that does not live as well, which a kernel with a bug may
        name."""
        return self._vmids.get(self.in_use if mmu is None else mmu, self._vmids[self.in_use])

    def sharing(self, table: int) -> list[int]:
        """The MMUs that share a table, by number."""
        return [mmu for mmu, its in sorted(self._tables.items()) if its == table]

    def tables(self) -> Iterable[int]:
        """Those that any MMU has, each once, by number."""
        return sorted(set(self._tables.values()))

    def vmids(self, table: int) -> list[int]:
        """Under which VMIDs TLBs may hold what a table says."""
        return [self._vmids[mmu] for mmu in self.sharing(table)]
