"""From addresses in the test kernel to functions, files and lines, out of its DWARF (through pyelftools)."""

from __future__ import annotations

import functools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile

_FUNCTION_TAGS: Final = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine")


@dataclass(frozen=True, slots=True)
class Place:
    """A place in the source: the innermost (perhaps inlined) function, the file's name and the line."""

    function: str
    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.function} ({self.file}:{self.line})"


class _Scope(NamedTuple):
    """The addresses of a function, which may be inlined into another; `unit` is the path of what was compiled."""

    low: int
    high: int
    function: str
    unit: str


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

    def _holders(self, pc: int) -> list[_Scope]:
        """The function at `pc`, then those inlined into it, from the outermost."""
        return [scope for scope in self._functions if scope.low <= pc < scope.high]

    @functools.cached_property
    def _addresses(self) -> dict[str, int]:
        with self.elf.open("rb") as stream:
            symbols = ELFFile(stream).get_section_by_name(".symtab").iter_symbols()
            return {symbol.name: symbol["st_value"] for symbol in symbols}

    @functools.cached_property
    def _functions(self) -> list[_Scope]:
        return self._tables[0]

    @functools.cached_property
    def _lines(self) -> list[tuple[int, str, int]]:
        return self._tables[1]

    @functools.cached_property
    def _tables(self) -> tuple[list[_Scope], list[tuple[int, str, int]]]:
        functions: list[_Scope] = []
        lines: list[tuple[int, str, int]] = []
        with self.elf.open("rb") as stream:
            dwarf = ELFFile(stream).get_dwarf_info()
            for unit in dwarf.iter_CUs():
                functions += _functions_of(dwarf, unit)
                lines += _lines_of(dwarf, unit)
        return functions, sorted(lines, key=itemgetter(0))  # of an address' lines the last in the table holds


def _calls(pcs: Sequence[int]) -> list[int]:
    """Addresses of a backtrace: the first as it is, of the others, to which calls return, those of the calls."""
    return [pc if index == 0 else pc - 4 for index, pc in enumerate(pcs)]


def _functions_of(dwarf: Any, unit: Any) -> Iterator[_Scope]:
    name = unit.get_top_DIE().attributes["DW_AT_name"].value.decode()
    for die in unit.iter_DIEs():
        if die.tag in _FUNCTION_TAGS:
            for low, high in _ranges(dwarf, unit, die):
                yield _Scope(low, high, _name(die), name)


def _name(die: Any) -> str:
    while "DW_AT_name" not in die.attributes and "DW_AT_abstract_origin" in die.attributes:
        die = die.get_DIE_from_attribute("DW_AT_abstract_origin")
    return die.attributes["DW_AT_name"].value.decode() if "DW_AT_name" in die.attributes else "?"


def _ranges(dwarf: Any, unit: Any, die: Any) -> Iterator[tuple[int, int]]:
    attributes = die.attributes
    if "DW_AT_low_pc" in attributes and "DW_AT_high_pc" in attributes:
        low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
        yield low, high.value if describe_form_class(high.form) == "address" else low + high.value
    elif "DW_AT_ranges" in attributes:
        top = unit.get_top_DIE().attributes
        base = top["DW_AT_low_pc"].value if "DW_AT_low_pc" in top else 0
        for entry in dwarf.range_lists().get_range_list_at_offset(attributes["DW_AT_ranges"].value, unit):
            if isinstance(entry, BaseAddressEntry):
                base = entry.base_address
            else:
                yield base + entry.begin_offset, base + entry.end_offset


def _lines_of(dwarf: Any, unit: Any) -> Iterator[tuple[int, str, int]]:
    program = dwarf.line_program_for_CU(unit)
    if program is None:
        return
    files = program["file_entry"]
    for entry in program.get_entries():
        state = entry.state
        if state is not None and not state.end_sequence:
            name = files[state.file - 1].name.decode() if 0 < state.file <= len(files) else "?"
            yield state.address, Path(name).name, state.line
