"""A VM's MMUs as its ops' records tell of them: which is in use, which VMID each has, and which share a table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from harness.observation.layout import FIRST_MMU, UNDER_TEST, Observation, Record, Root
from harness.program.machine import Machine
from harness.program.ops import INIT, OPS_BY_NAME

MMU_INIT, MMU_SHARE, MMU_FREE = (OPS_BY_NAME[name] for name in ("mmu_init", "mmu_share", "mmu_free"))
_USE, _FIRST, _AGAIN = (OPS_BY_NAME[name] for name in ("mmu_use", "mmu_first", "mmu_again"))
_OF_MMUS: Final = frozenset(one.number for one in (INIT, MMU_INIT, MMU_SHARE, MMU_FREE, _USE, _FIRST, _AGAIN))
_PLACES: Final = {
    one.number: [result.name for result in one.results].index("mmu") for one in (MMU_INIT, MMU_SHARE, MMU_FREE, _USE)
}
"""Where an op's results name the MMU; the VMID follows, of one that is made."""
_VTCR: Final = [result.name for result in INIT.results].index("vtcr")


class Mmu(NamedTuple):
    """One that lives: its VMID, the number of the MMU whose its table was first, and VTCR_EL2."""

    vmid: int
    table: int
    vtcr: int


def named_by(record: Record) -> int | None:
    """The number of the MMU that the record's op has made, chosen or freed; None where it did none of that."""
    place = _PLACES.get(record.definition.number)
    if place is None or record.ret != 0 or len(record.outs) <= place:
        return None
    return record.outs[place] + 1


def vmid_made_by(record: Record) -> int:
    """The VMID of the MMU that the record's op has made."""
    return record.outs[_PLACES[record.definition.number] + 1]


class Mmus:
    """Those that live, by their numbers in observations: FIRST_MMU, and one more than the handle's."""

    __slots__ = ("_mmus", "in_use")

    def __init__(self, machine: Machine) -> None:
        self.in_use = FIRST_MMU
        vmids = (1 << machine.vmid_bits) - 1
        self._mmus = {FIRST_MMU: Mmu(machine["vmid"] & vmids, FIRST_MMU, 0)}

    def follow(self, record: Record) -> None:
        """Take in what an op has done."""
        definition = record.definition
        if definition.number not in _OF_MMUS or record.ret != 0:
            return
        mmu = named_by(record)
        if definition is _FIRST:
            self.in_use = FIRST_MMU
        elif definition in (INIT, _AGAIN):
            self._is_initialised(record)
        elif mmu is None:
            return  # a kernel with a bug tells none
        elif definition is _USE:
            self.in_use = mmu if mmu in self._mmus else self.in_use
        elif definition is MMU_FREE:
            self._mmus.pop(mmu, None)
            self.in_use = FIRST_MMU if self.in_use == mmu else self.in_use
        elif definition is MMU_INIT:
            self._mmus[mmu] = Mmu(vmid_made_by(record), mmu, record.outs[_VTCR])
        else:
            of = self._mmus[self.in_use]
            self._mmus[mmu] = Mmu(vmid_made_by(record), of.table, of.vtcr)

    def _is_initialised(self, record: Record) -> None:
        if record.outs:
            one = self._mmus[self.in_use]
            self._mmus[self.in_use] = Mmu(one.vmid, one.table, record.outs[_VTCR])

    def __iter__(self) -> Iterator[int]:
        """Their numbers, in order."""
        return iter(sorted(self._mmus))

    @property
    def are_several(self) -> bool:
        """Whether there is another one than the first."""
        return len(self._mmus) > 1

    @property
    def table(self) -> int:
        """The number of the table in use."""
        return self._mmus[self.in_use].table

    @property
    def vtcr(self) -> int:
        """VTCR_EL2 of the one in use; 0 before it has a table."""
        return self._mmus[self.in_use].vtcr

    def vmid(self, mmu: int | None = None) -> int:
        """The VMID of an MMU, None for the one in use; of one that does not live as well, which a kernel with a bug may
        name."""
        return self._mmus.get(self.in_use if mmu is None else mmu, self._mmus[self.in_use]).vmid

    def table_of(self, mmu: int) -> int | None:
        """The number of an MMU's table; None where it does not live."""
        one = self._mmus.get(mmu)
        return None if one is None else one.table

    def sharing(self, table: int) -> list[int]:
        """The MMUs that share a table, by number."""
        return [number for number in self if self._mmus[number].table == table]


def mmus_at_end(observation: Observation) -> Mmus:
    """Those that live when the program is over."""
    mmus = Mmus(observation.machine)
    for record in observation.records:
        mmus.follow(record)
    return mmus


def root_in_use(observation: Observation) -> Root | None:
    """Of the table of the MMU in use when the program is over, if there is one."""
    return observation.held(UNDER_TEST).get(mmus_at_end(observation).in_use)
