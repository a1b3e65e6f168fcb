"""The inputs in the folder of a fuzzing process, as its libFuzzer writes and removes them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fuzz.corpus.store import name_of, read_input


class Spool:
    """The files of `folder`. What is whole there is handed out once, to be recorded."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._whole: set[str] = set()
        """Names of those that were handed out."""
        self._found: set[str] = set()
        """Of these, those that nobody had found before, as far as they have not been replaced."""
        self._gone: set[str] = set()
        """Of these, those that were not there any more when that was looked at last."""

    def whole(self) -> Iterator[bytes]:
        """What is new, and whole."""
        for path, data in self._new():
            if name_of(data) == path.name:
                self._whole.add(path.name)
                yield data

    def broken(self) -> Iterator[tuple[Path, int]]:
        """What is not whole, and its bytes: it is being written, or, where the process has ended, damaged."""
        return ((path, len(data)) for path, data in self._new())

    def _new(self) -> Iterator[tuple[Path, bytes]]:
        """One that goes in between is left out: libFuzzer found a shorter one for it."""
        for name in sorted(set(os.listdir(self._folder)) - self._whole):
            try:
                yield self._folder / name, read_input(self._folder / name)
            except FileNotFoundError:
                continue

    def found(self, names: Iterable[str]) -> None:
        """Of what was handed out, these are recorded, and were not before."""
        self._found.update(names)

    def holds(self, name: str) -> bool:
        """Whether its process has that input."""
        return (self._folder / name).exists()

    def replaced(self, others: Sequence[Spool]) -> list[str]:
        """Those that it found and took away again, and none of the `others` has. libFuzzer takes one away when it has a
        shorter input that steers it as well, which it writes next: at a second look, and with nothing half written,
        that one has been recorded."""
        there = set(os.listdir(self._folder))
        if not there <= self._whole:
            return []
        gone = self._found - there
        replaced = sorted(one for one in self._gone & gone if not any(other.holds(one) for other in others))
        self._gone = gone
        self._found.difference_update(replaced)
        return replaced
