"""From addresses in the test kernel to functions, files and lines."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reference.probe.debug_info import Line, Scope
# What reads images takes long to import, and nobody asks about a kernel that behaves.


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the source: the innermost (perhaps inlined) function, the file's name and the line."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.function} ({self.file}:{self.line})"


class Symbols:
    """The symbols of one image. Nothing is read before the first question."""

    def __init__(self, elf: Path) -> None:
        self.elf = elf

    def describe(self, pc: int) -> str:
        """`function (file:line)`, or the bare address where the image knows nothing of it."""
        place = self.place(pc)
        return f"{pc:#x}" if place is None else str(place)

    def place(self, pc: int) -> Place | None:
        """Where `pc` is in the source; None outside the image's text."""
        holders = self._holders(pc)
        if not holders:
            return None
        index = bisect_right(self._lines, pc, key=itemgetter(0)) - 1
        _, file, line = self._lines[index] if index >= 0 else (0, "?", 0)
        return Place(holders[-1].function, file, line)

    def address(self, name: str) -> int:
        """The address of a symbol. Raises KeyError when there is none of that name."""
        return self._addresses[name]

    def trace(self, pcs: Sequence[int]) -> list[str]:
        """One line per address: the first is where it happened, the others are return addresses."""
        return [self.describe(pc) for pc in _calls(pcs)]

    def innermost(self, pcs: Sequence[int]) -> str | None:
        """The function of the first of these addresses that lies in one: of a call of NULL, its caller."""
        return next((place.function for pc in _calls(pcs) if (place := self.place(pc)) is not None), None)

    def outermost(self, pcs: Sequence[int], is_left_out: Callable[[str], bool]) -> str | None:
        """The function of the last of these addresses that is compiled from none of the files that are left out, told
        by their path. One that is inlined counts as the function that holds it, which is the same wherever in it the
        address is."""
        holders = [found[0] for pc in _calls(pcs) if (found := self._holders(pc))]
        return next((scope.function for scope in reversed(holders) if not is_left_out(scope.unit)), None)

    def _holders(self, pc: int) -> list[Scope]:
        """The function at `pc`, then those inlined into it, from the outermost."""
        return [scope for scope in self._functions if scope.low <= pc < scope.high]

    @functools.cached_property
    def _addresses(self) -> dict[str, int]:
        from reference.probe import debug_info  # noqa: PLC0415

        return debug_info.addresses(self.elf)

    @functools.cached_property
    def _functions(self) -> list[Scope]:
        return self._tables[0]

    @functools.cached_property
    def _lines(self) -> list[Line]:
        return self._tables[1]

    @functools.cached_property
    def _tables(self) -> tuple[list[Scope], list[Line]]:
        from reference.probe import debug_info  # noqa: PLC0415

        return debug_info.tables(self.elf)


def _calls(pcs: Sequence[int]) -> list[int]:
    """Addresses of a backtrace: the first as it is, of the others, to which calls return, those of the calls."""
    return [pc if index == 0 else pc - 4 for index, pc in enumerate(pcs)]
