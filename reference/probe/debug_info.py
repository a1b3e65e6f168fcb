"""What an image says of itself: its symbols, and out of its DWARF the functions and lines (through pyelftools)."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

from elftools.dwarf.descriptions import describe_form_class
from elftools.dwarf.ranges import BaseAddressEntry
from elftools.elf.elffile import ELFFile

_FUNCTION_TAGS: Final = ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine")

Line = tuple[int, str, int]
"""An address, the name of a file, and the line of it that the address is of."""


class Scope(NamedTuple):
    """The addresses of a function, which may be inlined into another; `unit` is the path of what was compiled."""

    low: int
    high: int
    function: str
    unit: str


def addresses(elf: Path) -> dict[str, int]:
    """Of every symbol, its address."""
    with elf.open("rb") as stream:
        symbols = ELFFile(stream).get_section_by_name(".symtab").iter_symbols()
        return {symbol.name: symbol["st_value"] for symbol in symbols}


def tables(elf: Path) -> tuple[list[Scope], list[Line]]:
    """The functions, each before those that are inlined into it, and the lines by their addresses."""
    functions: list[Scope] = []
    lines: list[Line] = []
    with elf.open("rb") as stream:
        dwarf = ELFFile(stream).get_dwarf_info()
        for unit in dwarf.iter_CUs():
            functions += _functions_of(dwarf, unit)
            lines += _lines_of(dwarf, unit)
    return functions, sorted(lines, key=itemgetter(0))  # of an address' lines the last in the table holds


def _functions_of(dwarf: Any, unit: Any) -> Iterator[Scope]:
    name = unit.get_top_DIE().attributes["DW_AT_name"].value.decode()
    for die in unit.iter_DIEs():
        if die.tag in _FUNCTION_TAGS:
            for low, high in _ranges(dwarf, unit, die):
                yield Scope(low, high, _name(die), name)


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


def _lines_of(dwarf: Any, unit: Any) -> Iterator[Line]:
    program = dwarf.line_program_for_CU(unit)
    if program is None:
        return
    files = program["file_entry"]
    for entry in program.get_entries():
        state = entry.state
        if state is not None and not state.end_sequence:
            name = files[state.file - 1].name.decode() if 0 < state.file <= len(files) else "?"
            yield state.address, Path(name).name, state.line
