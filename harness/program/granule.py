"""The granules, as programs, observations and their judge see them. What a table entry looks like is `compare`'s."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from harness.errors import BadInput

LAST_LEVEL: Final = 3
FIRST_LEVEL: Final = -1
_ENTRY_BYTES_SHIFT: Final = 3
_MOST_ROOT_BITS: Final = 4


@dataclass(frozen=True, slots=True)
class Granule:
    """A size of page, and of table. `name` is as people write it; `shift` is log2 of the page's bytes."""

    name: str
    shift: int
    page: int = field(init=False)
    """Bytes of a page."""
    entries: int = field(init=False)
    """Entries of a table, which is a page."""
    block: int = field(init=False)
    """Bytes that an entry of level 2 covers: the smallest block."""
    has_large_blocks: bool = field(init=False)
    """Whether KVM uses blocks of level 1, too: with 4K pages only."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "page", 1 << self.shift)
        object.__setattr__(self, "entries", self.page >> _ENTRY_BYTES_SHIFT)
        object.__setattr__(self, "block", self.page * self.entries)
        object.__setattr__(self, "has_large_blocks", self.shift == _SHIFT_4K)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled by its name: it is one of `GRANULES`, and its class may be a compiled one where it is unpickled."""
        return granule_named, (self.name,)

    def level_shift(self, level: int) -> int:
        """How many bits of address one entry of a level, -1 to 3, covers."""
        return (LAST_LEVEL + 1 - level) * (self.shift - _ENTRY_BYTES_SHIFT) + _ENTRY_BYTES_SHIFT

    def root_pages(self, ia_bits: int) -> int:
        """Pages of a stage 2's root: at least two levels, and up to 16 tables in a row instead of a level more."""
        levels = max(2, (ia_bits - _MOST_ROOT_BITS - 4) // (self.shift - _ENTRY_BYTES_SHIFT))
        return 1 << max(0, ia_bits - self.level_shift(LAST_LEVEL - levels))


_SHIFT_4K: Final = 12
GRANULES: Final = (Granule("4k", _SHIFT_4K), Granule("16k", 14), Granule("64k", 16))
"""In the order of the knob's values."""
GRANULE_4K: Final = GRANULES[0]
_OWN_LEVELS: Final = (3, 2, 1)


def foreign_units(granule: Granule) -> tuple[int, ...]:
    """The bytes that an entry covers with other granules and with this one none does, of levels 3 to 1, in order: what
    code that was written for another granule takes for a boundary."""
    own, all_units = (
        {1 << one.level_shift(level) for one in granules for level in _OWN_LEVELS}
        for granules in ((granule,), GRANULES)
    )
    return tuple(sorted(all_units - own))


_BY_NAME: Final = {granule.name: granule for granule in GRANULES}


def granule_named(name: str) -> Granule:
    """The granule of that name. Raises BadInput."""
    if name not in _BY_NAME:
        raise BadInput(f"`{name}` is not a granule: expected {', '.join(_BY_NAME)}")
    return _BY_NAME[name]
