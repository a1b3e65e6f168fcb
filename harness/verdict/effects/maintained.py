"""Memory that was maintained in an op, and when."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

NEVER: Final = -1
EVERYTHING: Final = 1 << 64
"""More than any time, or address."""


class Maintained:
    """Memory that was maintained in an op, and when."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._in_order: list[tuple[int, int]] = []
        self._largest = 0
        self.bytes = 0

    def add(self, start: int, size: int, at: int, number: int) -> None:
        self._pieces.setdefault((start, size), []).append((at, number))
        self._largest = max(self._largest, size)
        self.bytes += size

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each, once."""
        yield from self._pieces

    def when(self, start: int, size: int, after: int = NEVER, before: int = EVERYTHING) -> int | None:
        """The number of an event by which all of it was maintained between two times; None where it was not."""
        fitting = self._pieces.get((start, size))
        if fitting is not None:
            for time, number in fitting:
                if after < time < before:
                    return number
        if len(self._in_order) < len(self._pieces):
            self._in_order = sorted(self._pieces)
        reached, last = start, None
        for at in range(bisect_left(self._in_order, (start - self._largest, 0)), len(self._in_order)):
            first, length = piece = self._in_order[at]
            if first > reached:
                break
            numbers = [number for time, number in self._pieces[piece] if after < time < before]
            if numbers and first + length > reached:
                reached, last = first + length, numbers[0]
                if reached >= start + size:
                    return last
        return None
