"""Addresses, and sizes of what lies behind them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.program.kinds.kind import ONE_BYTE, SUFFIXES, Role, Searched
from harness.program.source import LITERAL, Source
from harness.program.space import MEMORY, ODD_PAGES, U64_MAX, Space

_ODD: Final = 1 << 16
"""What a number costs that is no multiple of a page, beyond its own."""
_PAGE_COUNTS: Final = (1, 1, 2, 3, 4, 5, 8, 16)
_NEAR: Final = 16
"""Pages."""
_FOREIGN: Final = 15
"""Which choice among the sizes is one of another granule's."""
_ODD_COUNT: Final = len(ODD_PAGES) + 5
_HUGE: Final = bytes((_ODD_COUNT << 4 | 15,))
"""The first byte of a huge size; the next chooses. Rare, for an op that fills or invalidates so much spends the whole
budget, and the program ends with it."""
_HUGE_COUNT: Final = 12
_ODD_PAGEWISE: Final = 240
"""From this byte on, a size of what is done page by page is an odd one."""


def _grid(byte: int, steps: int, space: Space) -> int:
    """An address from one byte of coordinates; `steps` of them (of level 1, then 2, then 3) are used."""
    top, block, page = space.steps
    address = top[byte >> 6]
    if steps > 1:
        address += block[byte >> 3 & 7]
    if steps > 2:
        address += page[byte & 7]
    return address


class _Address(Searched):
    """Costs more where it is not aligned to a page."""

    def cost(self, value: int, page: int) -> int:
        return super().cost(value, page) + (_ODD if value % page else 0)


class Ipa(_Address):
    """An input address: of the guest, or of hyp."""

    role = Role.ADDRESS
    forms: Sequence[bytes] = (
        *(bytes((0, byte)) for byte in range(256)),
        *(bytes((byte,)) for byte in range(LITERAL) if byte & 7 == 5),
    )

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.edges = tuple(bytes((byte,)) for byte in range(LITERAL) if byte & 7 == 5)

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal()
        form, rest = first & 7, first >> 3
        if form < 5:
            return _grid(source.byte(), (3, 2, 3, 3, 1)[form], space)
        if form == 5:
            return (space.limit - ((rest & 7) << space.units[rest >> 3 & 3])) & U64_MAX
        if form == 6:
            return (rest << space.units[source.byte() & 3]) % space.limit
        return _grid(source.byte(), 3, space) + space.offsets[rest]


class Phys(_Address):
    """An output address."""

    role = Role.PHYS
    forms: Sequence[bytes] = (
        *(bytes((byte,)) for byte in range(LITERAL) if byte & 7 in (0, 6)),
        *(bytes((7, byte)) for byte in range(256)),
    )

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.edges = tuple(bytes((byte,)) for byte in range(LITERAL) if byte & 7 == 6)

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal()
        form, rest = first & 7, first >> 3
        if form < 6:
            return (address + space.deltas[rest & 3]) & U64_MAX
        if form == 6:
            return space.phys_ends[rest >> 4] - ((rest & 7) << space.units[rest >> 3 & 1]) & U64_MAX
        is_aligned = address % space.block == 0
        steps = 2 if is_aligned and rest < 24 else 3  # what does not line up is mapped page by page
        return MEMORY + _grid(source.byte(), steps, space) + space.phys_offsets[not is_aligned][rest]


class _Size(Searched):
    """Costs more where it is no multiple of a page, or nothing at all."""

    role = Role.SIZE

    def format(self, value: int) -> str:
        return format_size(value)

    def cost(self, value: int, page: int) -> int:
        return super().cost(value, page) + (_ODD if value % page or not value else 0)


class Size(_Size):
    """The size of a range. Blocks where the address is aligned to one, else mostly pages: filling a table entry by
    entry is the dearest thing a program can do."""

    forms: Sequence[bytes] = (
        *(form for form in ONE_BYTE if form != _HUGE),
        *(_HUGE + bytes((byte,)) for byte in range(_HUGE_COUNT)),
    )

    def __init__(self, name: str) -> None:
        super().__init__(name)
        ends = (byte for byte in range(LITERAL) if byte & 15 == 14)
        odd = (byte << 4 | 15 for byte in range(_ODD_COUNT))
        self.edges = tuple(bytes((byte,)) for byte in (*ends, *odd))

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal()
        form, rest = first & 15, first >> 4
        if form == 14:
            return _size_to_an_edge(address, space, rest)
        if form == 15:
            return space.odd_sizes[rest] if first != _HUGE[0] else space.huge_sizes[source.byte() % _HUGE_COUNT]
        if address % space.block and (form or rest):
            if rest == _FOREIGN:
                sizes = space.foreign_sizes[1]
                return sizes[form % len(sizes)]
            return _PAGE_COUNTS[rest & 7] * space.page
        if form < 6:
            return (rest % 3 + 1) * space.block
        if form == 6 and address % space.large == 0:
            return 1 << space.units[3] if rest > 13 else (rest % 3 + 1) * space.large
        if form == 6 and address % space.block == 0:
            return space.large if rest == 0 else (rest % 3 + 1) * space.block
        if rest == _FOREIGN and address % space.block == 0:
            sizes = space.foreign_sizes[0]
            return sizes[form % len(sizes)]
        return _PAGE_COUNTS[rest & 7] * space.page


def _size_to_an_edge(address: int, space: Space, rest: int) -> int:
    """Up to the limit, or to the end of a table, where one is near; give or take a page."""
    limit, block = space.limit, space.block
    edge = limit if address <= limit < address + 16 * block else address - address % block + block
    if edge != limit and edge - address > _NEAR * space.page:
        return _PAGE_COUNTS[rest & 7] * space.page if address % block else block << (rest & 1)
    return max(0, edge - address + ((rest & 3) - 1) * space.page)


class PagewiseSize(_Size):
    """The size of what is done page by page."""

    is_pagewise = True
    forms: Sequence[bytes] = ONE_BYTE

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.edges = tuple(bytes((byte,)) for byte in range(_ODD_PAGEWISE, LITERAL))

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal()
        if first < _ODD_PAGEWISE:
            return _PAGE_COUNTS[first & 7] * space.page
        return space.odd_sizes[(first - _ODD_PAGEWISE) % _ODD_COUNT]


def format_size(value: int) -> str:
    """A size with the largest suffix that divides it, or in hexadecimal where that would be longer than helpful."""
    for suffix, shift in reversed(SUFFIXES.items()):
        if value and value % (1 << shift) == 0 and value >> shift < 4096:
            return f"{value >> shift}{suffix}"
    return f"{value:#x}" if value else "0"


IPA: Final = Ipa("ipa")
PHYS: Final = Phys("phys")
SIZE: Final = Size("size")
PAGEWISE_SIZE: Final = PagewiseSize("size of what is done page by page")
