"""Handles: what one op makes and others use, until one ends it.

An op that makes something is given the next number of its kind, from 0, whether it succeeds or not. In text the number
is a name, `t1` for the first: `t1 = create_unlinked …`. Numbers alone are read as well, counted from 0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from harness.program.kinds.kind import Role, Unreadable, parse_number
from harness.program.kinds.small import Number

MAX_HANDLES: Final = 4096
"""Of a kind that a program can make: one with each of its ops."""
_COMMON: Final = (0, 0, 0, 1, 1, 2, 3)
NAME: Final = re.compile(r"[a-z_][a-z0-9_]*")
"""What people may call what an op makes."""


class Handle(Number):
    """Something that an op makes. `prefix` begins its names in text; `number` stands for the kind in observations and
    in the test kernel, from 1, and is never used again."""

    role = Role.HANDLE

    def __init__(self, name: str, number: int, prefix: str) -> None:
        super().__init__(name, MAX_HANDLES - 1, _COMMON)
        self.number = number
        self.prefix = prefix

    def format(self, value: int) -> str:
        return f"{self.prefix}{value + 1}"

    def parse(self, text: str, name: str) -> int:
        """Of a name that the program gives to nothing, the number it has."""
        own = re.fullmatch(rf"{self.prefix}([1-9][0-9]*)", text)
        if own is not None:
            return int(own[1]) - 1
        if NAME.fullmatch(text):
            raise Unreadable(f"nothing in the program is called `{text}`: expected what an op makes, {self.prefix}1")
        return parse_number(text)

    def proposed(self, value: int, page: int) -> Iterator[int]:
        yield from range(min(value, 8))


UNLINKED: Final = Handle("unlinked table", 2, "t")
"""A table that create_unlinked made, which no entry points to. (In observations, holder 1 is the table under test.)"""
MMU: Final = Handle("MMU", 3, "m")
"""A stage-2 MMU, beside the first one of the program's first VM. (In observations, that is 0, and `m1` is 1.)"""
MAX_MMUS: Final = 16
"""Of a program, its first one included, whether they still live or not."""
