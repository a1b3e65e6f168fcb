"""Page-table entries, and what others make of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from harness.program.kinds.kind import ONE_BYTE, Searched, Unreadable, one_of, parse_number
from harness.program.kunit import CForm
from harness.program.source import CHOICES, LITERAL, Source
from harness.program.space import MEMORY, Space

PLANTED_NAMES: Final[Mapping[str, int]] = {"locked": 1 << 10, "table": 0b11}
"""Entries with a name of their own: one that another CPU holds (KVM_INVALID_PTE_LOCKED), and one that points to a
table. What reads as a table must not say where that is: it is always a fresh page of the pool. At level 3 the same
bits are a page, at any address."""
_PLANTED_BY_VALUE: Final = {value: name for name, value in PLANTED_NAMES.items()}

VISITORS: Final = ("look", "clear", "lock", "table", "eagain", "enomem", "einval", "e2big")
"""What a walk's visitor does besides recording: nothing, write the entry (as `plant` does), or return an error. A
visitor's value is the index of one of them in its lowest VISITOR_BITS bits; above these, the number of the visit that
it is done at, from 1; 0 is every visit."""
VISITOR_BITS: Final = 3
_WRITING: Final = ("clear", "lock", "table")

_PTE_BITS: Final = (1 << 0, 1 << 6, 1 << 7, 1 << 54, 1 << 55, 1 << 56, 1 << 58, 1 << 2)
"""Valid, readable, writable, not executable, three software bits, and a bit of the memory type (or an owner's id)."""
_PLAIN_PA: Final = 1 << 48
"""Below it an address is its own encoding in an entry."""
_LOCKED, _TABLE = PLANTED_NAMES["locked"], PLANTED_NAMES["table"]
_PLANTED: Final = (
    *(_LOCKED, _TABLE, 0, _LOCKED | 1 << 2, 1 << 2, 0xFF << 2, 1 << 55, 0x7DB),
    *(0x7D9, 0x3DB, 0x3D9, 0x75B, 1 << 54 | 0x7D9, 1 << 55 | 0x7DB, 0x7C7, 0x781),
)
"""Entries without their addresses: invalid ones with and without a lock or an owner, one with a software bit; then a
page and a block, old ones, a read-only page, a block that is not executable, a page with a software bit, one of device
memory, and a block without a memory type."""


class Pte(Searched):
    """An entry's bits that say something to software: valid or not, permissions, software bits."""

    forms: Sequence[bytes] = ONE_BYTE

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal()
        return sum([bit for index, bit in enumerate(_PTE_BITS) if first >> index & 1])


class Planted(Searched):
    """What an entry becomes by somebody else's hand. Valid ones translate to where maps of the address do, a block or a
    page on."""

    forms: Sequence[bytes] = ONE_BYTE

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.words = tuple(PLANTED_NAMES)

    def format(self, value: int) -> str:
        return _PLANTED_BY_VALUE.get(value) or f"{value:#x}"

    def parse(self, text: str, name: str) -> int:
        return PLANTED_NAMES[text] if text in PLANTED_NAMES else parse_number(text)

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal()
        entry, shift = _PLANTED[first & 15], first >> 4 & 3
        if entry & 1 == 0 or entry == _TABLE:
            return entry
        phys = address + MEMORY + (shift & 1) * space.block + (shift >> 1) * space.page
        return entry | phys & _PLAIN_PA - 1 & -space.page


class Visitor(Searched):
    """What a walk's visitor does, and at which visit."""

    forms: Sequence[bytes] = ONE_BYTE

    def __init__(self, name: str, limit: int) -> None:
        super().__init__(name, limit)
        self.words = VISITORS
        self.hint = "look@2 at the second visit only"

    def format(self, value: int) -> str:
        nth = value >> VISITOR_BITS
        return VISITORS[value & (1 << VISITOR_BITS) - 1] + (f"@{nth}" if nth else "")

    def parse(self, text: str, name: str) -> int:
        action, at, nth = text.partition("@")
        if action not in VISITORS:
            raise Unreadable(f"expected {one_of(VISITORS)}, and at which visit (@1), got `{text}`")
        try:
            number = parse_number(nth) if at else 0
        except Unreadable as error:
            raise Unreadable(error.problem, len(action) + 1) from error
        if at and not number:
            raise Unreadable(f"`{text}` is out of range for {name}")
        return number << VISITOR_BITS | VISITORS.index(action)

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal() % (self.limit + 1)
        return 0 if first < CHOICES else first - CHOICES

    def c_form(self, value: int) -> CForm | None:
        action = VISITORS[value & (1 << VISITOR_BITS) - 1]
        if action in _WRITING:
            return None
        return CForm(f"{'0' if action == 'look' else f'-{action.upper()}'}, {value >> VISITOR_BITS}")


PTE: Final = Pte("page-table entry")
PLANTED: Final = Planted("what an entry becomes")
VISITOR: Final = Visitor("what a walk's visitor does", 0x7FFF)
