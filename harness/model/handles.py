"""What ops made and others use, until one ends it: by kind of handle and number (`harness.program.kinds.handles`)."""

from __future__ import annotations

from collections.abc import Iterator

from harness.program.kinds import Handle

Tree = tuple[int, int, int, int]
"""A tree of tables, by its root: that one's address, pages and level, and the bits of the addresses that it translates;
0 if it is for one entry alone."""


class Made:
    """Something that an op made. `kind` and `number` are its handle's, from `Handles.keep` on."""

    kind: Handle
    number: int

    def tree(self) -> Tree | None:
        """What it holds, if it holds any tables."""
        return None

    def end(self) -> None:
        """End it, as no op did."""
        raise NotImplementedError


class Handles:
    """A run's handles. Each kind counts from 0 what ops set out to make, whether they succeed or not."""

    __slots__ = ("_begun", "_live")

    def __init__(self) -> None:
        self._begun: dict[int, int] = {}
        self._live: dict[tuple[int, int], Made] = {}
        """In the order of their making."""

    def begin(self, kind: Handle) -> None:
        """An op sets out to make the next of that kind."""
        self._begun[kind.number] = self._begun.get(kind.number, 0) + 1

    def begun(self, kind: Handle) -> int:
        """How many of that kind ops set out to make so far."""
        return self._begun.get(kind.number, 0)

    def keep(self, kind: Handle, made: Made) -> int:
        """It has made it. Its number."""
        made.kind, made.number = kind, self._begun[kind.number] - 1
        self._live[kind.number, made.number] = made
        return made.number

    def get(self, kind: Handle, number: int) -> Made | None:
        """What lives under that number; None for what was not made, not yet made, or has ended."""
        return self._live.get((kind.number, number))

    def end(self, made: Made) -> None:
        """An op ends it, or gives it away: nobody can use it any more."""
        del self._live[made.kind.number, made.number]

    def live(self) -> Iterator[Made]:
        """What lives, by kind and number."""
        return (self._live[key] for key in sorted(self._live))

    def end_all(self) -> None:
        """End what lives still, in reverse order of making."""
        while self._live:
            _, made = self._live.popitem()
            made.end()

    def __bool__(self) -> bool:
        """Whether anything lives."""
        return bool(self._live)
