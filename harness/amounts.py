"""Numbers in text for people: readable when they are large, and always of something. In JSON they stay numbers."""

from __future__ import annotations

from typing import Final

_SHORT: Final = 10_000
"""From here on digits come in groups; below, `4096` reads as well without."""


def number(value: int) -> str:
    """`4096`, `34,501`."""
    return f"{value:,}" if abs(value) >= _SHORT else str(value)


def counted(value: int, one: str, several: str = "") -> str:
    """`1 program`, `34,501 programs`, `2 entries`; `several` is the plural where it is not `one` with an s."""
    return f"{number(value)} {one if value == 1 else several or f'{one}s'}"
