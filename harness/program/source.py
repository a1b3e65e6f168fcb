"""Input bytes as choices."""

from __future__ import annotations

from typing import Final

LITERAL: Final = 0xFF
"""As the first byte of a value: the value follows in eight bytes, little-endian."""
CHOICES: Final = 192
"""Below this, the first byte of many kinds picks from a short list; from here on, the value is spelt out."""


class Source:
    """Input bytes, read one after the other, followed by as many zeros as are asked for."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        """The next byte."""
        at = self.at
        self.at = at + 1
        return self.data[at] if at < len(self.data) else 0

    def literal(self) -> int:
        """The next eight bytes, as a number."""
        at = self.at
        self.at = at + 8
        return int.from_bytes(self.data[at : at + 8].ljust(8, b"\0"), "little")


def literal(value: int) -> bytes:
    """A value that is spelt out."""
    return bytes((LITERAL,)) + value.to_bytes(8, "little")
