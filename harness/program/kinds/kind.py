"""What a kind of argument is: the one place that knows its range, its text, its bytes, what is simple, and its C.

Every argument is an unsigned 64-bit value on every side. A kind is an object: nothing switches over kinds. What others
must know of one (is it an address, a size, a handle?) is its `role`.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from harness.program.kunit import CForm, c_number
from harness.program.source import LITERAL, Source, literal
from harness.program.space import U64_MAX, Space

SUFFIXES: Final = {"K": 10, "M": 20, "G": 30, "T": 40}
"""Powers of 1024, as shifts."""
_NUMBER: Final = re.compile(r"(0x[0-9a-fA-F_]+|[0-9]+)([KMGT]?)")
_NO_BITS: Final[Mapping[str, int]] = {}
_WIDEST: Final = 64
"""A set bit costs more than any length."""
_FEW_LIMIT, _MANY_LIMIT = 1 << 12, 1 << 16
"""Up to which limit small values are tried one by one; from which on values are rounded."""


class Role(enum.Enum):
    """What an argument is to those who move, merge or shrink what an op works on."""

    ADDRESS = "input address: of the guest, or of hyp"
    SIZE = "bytes from the op's address on"
    PHYS = "output address"
    FLAGS = "bits with names"
    HANDLE = "what another op made"
    OTHER = "none of these"


class Unreadable(ValueError):
    """A value's text is wrong; `offset` is where in it, in characters."""

    def __init__(self, problem: str, offset: int = 0) -> None:
        super().__init__(problem)
        self.problem = problem
        self.offset = offset


class Kind:
    """A kind of argument whose values are plain numbers up to `limit`, written in hexadecimal.

    Others are subclasses. `name` is what messages and `Capabilities.lacks` call it.
    """

    role: Role = Role.OTHER
    is_pagewise: bool = False
    """Of a size, whether what is done with it is done page by page, so that much of it is dear."""

    def __init__(self, name: str, limit: int = U64_MAX) -> None:
        self.name = name
        self.limit = limit
        """The largest value; of flags, the mask of all bits."""
        self.bits: Mapping[str, int] = _NO_BITS
        """Of flags, the bits by name."""
        self.forbidden = 0
        """Bits that must be clear."""
        self.words: Sequence[str] = ()
        """What values, or parts of them, are written with besides numbers."""
        self.hint = ""
        """What more there is to say of how they are written."""
        self.edges: Sequence[bytes] = ()
        """Whole arguments, as bytes, whose values lie at an edge: a limit, the end of a table, an odd size."""

    def __repr__(self) -> str:
        return f"<{self.name}>"

    def allows(self, value: int) -> bool:
        """Whether both sides can carry `value` out."""
        return 0 <= value <= self.limit and not value & self.forbidden

    # Text

    def format(self, value: int) -> str:
        """`value` as people write it."""
        return f"{value:#x}"

    def parse(self, text: str, name: str) -> int:
        """The value that people wrote, of the argument `name`. Raises Unreadable; the range is checked elsewhere."""
        return parse_number(text)

    # Bytes

    def decode(self, source: Source, space: Space, address: int) -> int:
        """The value that the next bytes choose, in an op at `address` (0 as long as that is not known). Any bytes
        choose one. How many they are is said by the first of them alone."""
        first = source.byte()
        return source.literal() % (self.limit + 1) if first == LITERAL else first % (self.limit + 1)

    def encode(self, value: int, space: Space, address: int) -> bytes:
        """Bytes that decode to `value` there."""
        return bytes((value,)) if value < LITERAL else literal(value)

    def normal(self, part: bytes) -> bytes:
        """The bytes of an argument without what means nothing yet, so that what is added later does not change them."""
        return part

    # What is simple

    def cost(self, value: int, page: int) -> int:
        """How far from simple a value is: round numbers are short. `page` is the granule's, in bytes."""
        return value.bit_count() * _WIDEST + value.bit_length() + 1

    def proposed(self, value: int, page: int) -> Iterator[int]:
        """Values that may be simpler than `value`, in any order; some may not be allowed."""
        yield from (0, 1)
        if self.limit <= _FEW_LIMIT:
            yield from range(min(value, 8))
        if self.limit > _MANY_LIMIT:
            for shift in level_shifts(page):
                yield from (1 << shift, value >> shift << shift, value & (1 << shift) - 1)
            yield value // 2 & -page
            top = value.bit_length()
            yield from (1 << top, 1 << top - 1 if top else 0)
        yield from (value & ~(1 << bit) for bit in range(value.bit_length()) if value >> bit & 1)

    # C

    def c_form(self, value: int) -> CForm | None:
        """`value` in C (`harness.program.kunit`); None where C has no way to say what is asked for."""
        return CForm(c_number(value))


class Searched(Kind):
    """A kind most of whose values are among those that `forms` decode to: `encode` looks there before it spells a
    value out, as nine bytes."""

    forms: Sequence[bytes] = ()

    def __init__(self, name: str, limit: int = U64_MAX) -> None:
        super().__init__(name, limit)
        self._known: dict[tuple[int, Space, int], bytes] = {}

    def encode(self, value: int, space: Space, address: int) -> bytes:
        known = self._known.get((value, space, address))
        if known is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            known = self._known[value, space, address] = self._search(value, space, address)
        return known

    def _search(self, value: int, space: Space, address: int) -> bytes:
        for form in self.forms:
            if self.decode(Source(form), space, address) == value:
                return form
        return literal(value)


_MOST_KNOWN: Final = 1 << 14

ONE_BYTE: Final = tuple(bytes((byte,)) for byte in range(LITERAL))
"""Every form of one byte."""


def level_shifts(page: int) -> list[int]:
    """What an entry of each level covers, as shifts, from the largest, with pages of `page` bytes."""
    first = page.bit_length() - 1
    return [first + level * (first - 3) for level in (3, 2, 1, 0)]


def parse_number(text: str) -> int:
    """A number as people write it: 0x… or decimal, with an optional suffix K, M, G or T. Raises Unreadable."""
    match = _NUMBER.fullmatch(text)
    digits = match.group(1).replace("_", "") if match else ""
    if match is None or digits == "0x":
        raise Unreadable(f"expected a number (0x…, or decimal, with K, M, G or T), got `{text}`")
    value = int(digits, 16 if digits.startswith("0x") else 10) << SUFFIXES.get(match.group(2), 0)
    if value > U64_MAX:
        raise Unreadable(f"`{text}` does not fit 64 bits")
    return value


def parse_choice(text: str, name: str, names: Sequence[str]) -> int:
    """The number of one of `names`. Raises Unreadable."""
    if text not in names:
        raise Unreadable(f"expected {' or '.join(reversed(names))} for {name}, got `{text}`")
    return names.index(text)


def one_of(names: Iterable[str]) -> str:
    """Names to choose from, for people."""
    return ", ".join(names)
