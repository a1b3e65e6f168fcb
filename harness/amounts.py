"""Numbers in text for people: readable when they are large, and always of something. In JSON they stay numbers."""

from __future__ import annotations


def number(value: int) -> str:
    """`985`, `4,096`, `34,501`."""
    return f"{value:,}"


def counted(value: int, one: str, several: str = "") -> str:
    """`1 program`, `34,501 programs`, `2 entries`; `several` is the plural where it is not `one` with an s."""
    return f"{number(value)} {one if value == 1 else several or f'{one}s'}"
