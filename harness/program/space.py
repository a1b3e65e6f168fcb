"""The addresses that a machine's programs choose from: few, so that operations meet, and near what matters to
page-table code."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.program.granule import Granule, foreign_units
from harness.program.machine import Machine

U64_MAX: Final = (1 << 64) - 1

_TOP_STEPS: Final = (0, 1, 2, 3)
_BLOCK_STEPS: Final = (0, 1, 2, 3, 4, 8, -2, -1)
_PAGE_STEPS: Final = (0, 0, 0, 1, 2, 3, -2, -1)
"""Coordinates of an address, in entries of levels 1 to 3: few, so that ops overlap; the last ones count from the end of
a table, and touch its edge."""

MEMORY: Final = 0x8000_0000
"""Physical minus intermediate address of most mappings."""
_DELTAS: Final = {
    48: (MEMORY, 0, 0x4000_0000, 0x1_0000_0000),
    52: (MEMORY, 0, 0x5_0000_4000_0000, 0xA_0001_0000_0000),
}
"""Physical minus intermediate address, by bits of physical address, for mappings whose blocks line up."""

ODD_PAGES: Final = (3, 5, 7, 8, 12, 15, 16, 17, 31)
"""Sizes in pages that fill no block."""


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The addresses that the bytes of one program choose from. There is one of a kind: see `space_of`."""

    limit: int
    """Where intermediate addresses end; phys_end, where physical ones do."""
    phys_end: int
    granule: Granule
    page: int
    block: int
    large: int
    """The largest thing that one op maps without filling tables: a block of level 1, or else several of level 2."""
    steps: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Coordinates in bytes, to be added."""
    units: tuple[int, ...]
    """Bits of address that an entry covers, from level 3 up to 0."""
    odd_sizes: tuple[int, ...]
    huge_sizes: tuple[int, ...]
    deltas: tuple[int, ...]
    phys_ends: tuple[int, int]
    offsets: tuple[int, ...]
    """To be added to an address so that it lies within a page, or at a boundary of another granule."""
    phys_offsets: tuple[tuple[int, ...], tuple[int, ...]]
    """The same for a physical address: where the other address is aligned to a block, so that the two still line up,
    or both are rounded to a page, which is cheap; and where it is not."""
    foreign_sizes: tuple[tuple[int, ...], tuple[int, ...]]
    """Sizes of other granules' pages and blocks that fill no table here: for an address that is aligned to a block, and
    for one that is not."""


def space_of(machine: Machine) -> Space:
    """The space of that machine."""
    return _space(machine.granule, machine["va_bits" if machine["stage"] == 1 else "ia_bits"], machine.phys_bits)


@functools.cache
def _space(granule: Granule, bits: int, phys_bits: int) -> Space:
    page, block = granule.page, granule.block
    units = tuple(granule.level_shift(level) for level in (3, 2, 1, 0))
    top = max(min(units[2], bits - 2), units[1])  # four of them are within the limit, where there is room
    large = 1 << units[2] if granule.has_large_blocks else 4 * block
    last = 1 << units[2]
    foreign = [unit for unit in foreign_units(granule) if unit < 1 << max(bits - 1, 0)] or [page]
    lining_up = [unit for unit in foreign if unit < page or unit % block == 0] or [0]
    pages, blocks = (
        [unit for unit in foreign if unit <= _MOST_PAGES * page],
        [unit for unit in foreign if unit >= block],
    )
    some_blocks = [unit for unit in blocks if unit <= _MOST_PAGES * block]
    return Space(
        limit=1 << bits,
        phys_end=1 << phys_bits,
        granule=granule,
        page=page,
        block=block,
        large=large,
        steps=(
            tuple(step << top for step in _TOP_STEPS),
            tuple(step % (1 << top - units[1]) << units[1] for step in _BLOCK_STEPS),
            tuple(step % granule.entries << units[0] for step in _PAGE_STEPS),
        ),
        units=units,
        odd_sizes=(0, 1, page + 1, *(count * page for count in ODD_PAGES), block - 1, block + page),
        huge_sizes=(
            *(2 * block - page, 2 * block + 1, last - page, 1 << 31, 1 << 33, 1 << 36, 1 << 39, 1 << 40),
            *(1 << 47, 1 << 63, U64_MAX, U64_MAX - page + 1),
        ),
        deltas=_DELTAS[phys_bits],
        phys_ends=(1 << phys_bits, 1 << 64),
        offsets=(*(step * _ODD_STEP for step in _ODD_STEPS), *_repeated(foreign, _OFFSETS - len(_ODD_STEPS))),
        phys_offsets=(_phys_offsets(lining_up), _phys_offsets(foreign)),
        foreign_sizes=((*pages, *some_blocks) or (page,), tuple(pages) or (page,)),
    )


_ODD_STEP: Final = 0x88
_ODD_STEPS: Final = (*range(15), 31)
"""How often it is added to an address that is to be aligned to nothing."""
_OFFSETS: Final = 32
_MOST_PAGES: Final = 32
"""Or blocks: entries that an op fills without being dear."""


def _repeated(values: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(values[number % len(values)] for number in range(count))


def _phys_offsets(foreign: Sequence[int]) -> tuple[int, ...]:
    """Every second one is a boundary of another granule."""
    return tuple(
        foreign[number // 2 % len(foreign)] if number & 1 else number // 2 % 2 * _ODD_STEP for number in range(_OFFSETS)
    )
