"""What table entries look like, as the judges see it: stated here again, rather than taken from `pgtable`, for a judge
must not share its eyes with one of the parties."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.program.granule import FIRST_LEVEL, LAST_LEVEL
from harness.program.machine import DEFAULT_MACHINE, Machine
from harness.program.ops import INIT
from harness.program.results import signed

TABLE: Final = 0b11
"""The type bits of an entry that points to a table; at the last level, of a page."""


def is_table_entry(entry: int, level: int) -> bool:
    """Whether a PTE of that level points to a table (Arm ARM, VMSAv8-64 descriptor formats)."""
    return level < LAST_LEVEL and entry & TABLE == TABLE


@dataclass(frozen=True, slots=True)
class AddressField:
    """Where PTEs keep output addresses: from bit `low` to below `top` in place, bits 51 down to `top` from bit `at` on,
    or nowhere."""

    low: int
    top: int
    at: int | None
    bits: int = field(init=False)
    """Those of a PTE that hold them."""
    _in_place: int = field(init=False)
    _high: int = field(init=False)
    """The mask of the others, moved down to bit 0."""

    def __post_init__(self) -> None:
        in_place = (1 << self.top) - (1 << self.low)
        high = 0 if self.at is None else (1 << _MAX_PA_BITS - self.top) - 1
        for name, value in {"bits": in_place | high << (self.at or 0), "_in_place": in_place, "_high": high}.items():
            object.__setattr__(self, name, value)

    def address(self, entry: int) -> int:
        """The output address of a PTE."""
        return entry & self._in_place | (entry >> (self.at or 0) & self._high) << self.top

    def put(self, entry: int, address: int) -> int:
        """The PTE with another output address."""
        return entry & ~self.bits | address & self._in_place | (address >> self.top & self._high) << (self.at or 0)


_MAX_PA_BITS: Final = 52
_FIELDS: Final = {
    (12, 0): AddressField(12, 48, None),
    (14, 0): AddressField(14, 48, None),
    (16, 0): AddressField(16, 48, 12),
    (12, 1): AddressField(12, 50, 8),
    (14, 1): AddressField(14, 50, 8),
    (16, 1): AddressField(16, 50, 8),
}
"""By granule and LPA2 (Arm ARM, VMSAv8-64 descriptor formats). LPA2 with 64K pages is no machine that exists, but one
that the code under test can be told that it runs on."""


_ROOT: Final = AddressField(1, 48, None)
_WIDE_ROOT: Final = AddressField(6, 48, 2)


def address_field(machine: Machine = DEFAULT_MACHINE) -> AddressField:
    """Of the PTEs on that machine."""
    return _FIELDS[machine.granule.shift, machine["lpa2"]]


def root_field(machine: Machine = DEFAULT_MACHINE) -> AddressField:
    """Of VTTBR_EL2 on that machine: where addresses have 52 bits, bits 51:48 are in 5:2 (Arm ARM, VTTBR_EL2.BADDR)."""
    return _WIDE_ROOT if machine["lpa2"] or machine["pa_bits_52"] else _ROOT


def entry_address(entry: int, machine: Machine = DEFAULT_MACHINE) -> int:
    """The output address of a PTE on that machine."""
    return address_field(machine).address(entry)


def level_of(outs: Sequence[int]) -> int | None:
    """The start level among the out-values of an init; None where there is none, or one that cannot be."""
    if len(outs) <= _START_LEVEL:
        return None
    level = signed(outs[_START_LEVEL])
    return level if FIRST_LEVEL <= level <= LAST_LEVEL else None


_START_LEVEL: Final = [result.name for result in INIT.results].index("start_level")
