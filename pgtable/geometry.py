"""The arithmetic of a granule: how input addresses split into levels and entries.

All addresses are u64: sums wrap at 64 bits, as they do in C. Levels are the architecture's, 3 for
pages down to -1 (Arm ARM, "Translation tables and the translation process").
"""

from dataclasses import dataclass, field
from typing import Final

U64: Final = (1 << 64) - 1
U32: Final = (1 << 32) - 1
ENTRY_SIZE: Final = 8
"""Bytes of one entry."""
FIRST_LEVEL: Final = -1
LAST_LEVEL: Final = 3

CONCATENATION_BITS: Final = 4
MIN_STAGE2_LEVELS: Final = 2
_PAGE_SHIFTS: Final = (12, 14, 16)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes and indices for one granule. Raises ValueError unless page_shift is 12, 14 or 16."""

    page_shift: int
    page_size: int = field(init=False)
    entries: int = field(init=False)
    """Entries in one table page."""
    min_block_level: int = field(init=False)
    """The level of the largest block KVM uses: 1 (1 GiB) with 4K pages, else 2 (kvm_pgtable.h)."""

    _shifts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Of levels 0 to 3, then -1: so that a level is its own index."""

    def __post_init__(self) -> None:
        if self.page_shift not in _PAGE_SHIFTS:
            raise ValueError(f"page_shift must be one of {_PAGE_SHIFTS}, not {self.page_shift}")
        page_size = 1 << self.page_shift
        object.__setattr__(self, "page_size", page_size)
        object.__setattr__(self, "entries", page_size // ENTRY_SIZE)
        object.__setattr__(self, "min_block_level", 1 if self.page_shift == _PAGE_SHIFTS[0] else 2)
        shifts = tuple(self.level_shift(level) & 63 for level in (0, 1, 2, 3, -1))
        object.__setattr__(self, "_shifts", shifts)

    def level_shift(self, level: int) -> int:
        """Log2 of the bytes that one entry of this level maps."""
        return (4 - level) * (self.page_shift - 3) + 3

    def level_size(self, level: int) -> int:
        """Bytes that one entry of this level maps.

        Where a granule has no such level the shift is taken modulo 64, as an arm64 shift does.
        """
        return 1 << self._shifts[level]

    def index_range(self, addr: int, end: int, level: int) -> tuple[int, int]:
        """Which entries of the table of this level that translates addr translate [addr, end).

        The first, and one past the last. The range must not be empty.
        """
        shift = self._shifts[level]
        first = (addr >> shift) & (self.entries - 1)
        stop = first + ((end - 1) >> shift) - (addr >> shift) + 1
        return first, stop if stop < self.entries else self.entries

    def page_align_down(self, addr: int) -> int:
        """The start of addr's page."""
        return addr & U64 & -self.page_size

    def page_align_up(self, addr: int) -> int:
        """The first page boundary at or after addr; wraps to 0 in the last page of 2^64."""
        return (addr + self.page_size - 1) & U64 & -self.page_size

    def levels(self, bits: int) -> int:
        """Levels needed to translate this many address bits with a root of one page.

        pgtable-hwdef.h's formula; it rounds (bits - page_shift) / (page_shift - 3) up. C reckons in 32 bits without
        sign: of less than 4 bits it makes millions of levels.
        """
        return (bits - 4 & U32) // (self.page_shift - 3)

    def start_level(self, ia_bits: int) -> int:
        """The level at which KVM starts a stage-2 walk of ia_bits (32..52).

        Up to 16 root pages are concatenated, which saves a level where 4 bits make the difference
        (stage2_pgtable.h); there are at least two levels, so that blocks remain possible.
        """
        return 4 - max(MIN_STAGE2_LEVELS, self.levels(ia_bits - CONCATENATION_BITS))

    def root_index(self, addr: int, ia_bits: int, start_level: int) -> int:
        """Which page of a concatenated root translates addr; bits above ia_bits are ignored.

        A root page maps what one entry of the level above would. For start_level 0 that level is -1. In the first
        version (thread "KVM: arm64: Add stand-alone page-table walker infrastructure", 2020-09) a u32 underflows
        there, but 4 - level comes out right, 5, all the same.
        """
        return (addr & ((1 << ia_bits) - 1)) >> (self.level_shift(start_level - 1) & 63)

    def root_pages(self, ia_bits: int, start_level: int) -> int:
        """Pages in the root: 1, or up to 16 when `start_level` concatenated."""
        return self.root_index(U64, ia_bits, start_level) + 1


GRANULE_4K: Final = Geometry(12)
GRANULE_16K: Final = Geometry(14)
GRANULE_64K: Final = Geometry(16)
