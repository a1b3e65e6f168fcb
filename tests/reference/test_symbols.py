"""Addresses become functions, files and lines, the inlined ones included."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from altered_tree import CLEAR_PTE_SIGNATURE, IN_CLEAR_PTE, before
from elftools.elf.elffile import ELFFile
from sample_programs import ONE_PAGE, unmap_op

from harness.program.program import Program
from reference.build.image import Image, build
from reference.build.own_files import is_ours, own_files
from reference.probe.symbols import Symbols


def symbols_of(elf: Path) -> dict[str, tuple[int, int]]:
    """Address and size of the named symbols."""
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        return {symbol.name: (symbol["st_value"], symbol["st_size"]) for symbol in table.iter_symbols()}


def functions_of_pgtable(elf: Path) -> list[int]:
    """The addresses of the instructions that pgtable.c became."""
    with elf.open("rb") as stream:
        table = ELFFile(stream).get_section_by_name(".symtab")
        symbols = list(table.iter_symbols())
    hosted = False
    pcs: list[int] = []
    for symbol in symbols:
        kind, local = symbol["st_info"]["type"], symbol["st_info"]["bind"] == "STB_LOCAL"
        hosted = symbol.name == "pgtable.c" if kind == "STT_FILE" else hosted
        if symbol.name.startswith("sancov."):
            continue  # made by the compiler, from no line
        if kind == "STT_FUNC" and ((local and hosted) or symbol.name.startswith("kvm_pgtable_")):
            pcs += range(symbol["st_value"], symbol["st_value"] + symbol["st_size"], 4)
    return pcs


def holds(source: list[str], function: str, line: int) -> bool:
    """Whether `line` (from 1) is within the definition of `function`, as the source's layout shows it."""
    signature = re.compile(rf"[a-z_].*\b{function}\(")
    starts = [number for number in range(line) if signature.match(source[number])]
    return bool(starts) and "}" not in source[starts[-1] : line - 1]


def test_a_function_is_found_by_its_address(image: Image) -> None:
    address, _ = symbols_of(image.elf)["kvm_pgtable_stage2_map"]
    place = Symbols(image.elf).place(address)
    assert place is not None
    assert (place.function, place.file) == ("kvm_pgtable_stage2_map", "pgtable.c")
    assert holds(image.tree.pgtable.read_text().split("\n"), place.function, place.line)
    assert str(place) == f"kvm_pgtable_stage2_map (pgtable.c:{place.line})"


@pytest.mark.parametrize("flavour", ["plain", "ubsan"])
def test_lines_lie_in_the_functions_that_are_named(image: Image, flavour: str) -> None:
    """The source itself says where its functions begin and end. Not quite all: of code that the compiler merged, a
    line or a function may be missing from what it tells debuggers."""
    elf = build(image.tree, flavour).elf
    symbols, source = Symbols(elf), image.tree.pgtable.read_text().split("\n")
    places = [symbols.place(pc) for pc in functions_of_pgtable(elf)]
    assert None not in places
    known = [place for place in places if place and place.file == "pgtable.c" and place.line]
    wrong = [str(place) for place in known if not holds(source, place.function, place.line)]
    assert len(known) > 1000
    assert len({place.function for place in known}) > 40
    assert len(wrong) < len(known) / 150, wrong


def test_nothing_is_known_outside_the_text(image: Image) -> None:
    named = symbols_of(image.elf)
    symbols = Symbols(image.elf)
    for name in ("text_end", "rodata_start", "data_start", "stack_end"):
        assert symbols.place(named[name][0]) is None
    assert [symbols.place(pc) for pc in (0, named["text_start"][0] - 4, 1 << 63, (1 << 64) - 4)] == [None] * 4
    assert symbols.describe(0xDEAD0) == "0xdead0"


def test_return_addresses_are_those_of_their_calls(image: Image) -> None:
    """A trace's later entries are what a call returns to: the last call of a function is still that function's."""
    named = symbols_of(image.elf)
    start, size = named["kvm_pgtable_stage2_map"]
    first, second = Symbols(image.elf).trace([start, start + size])
    assert first.startswith("kvm_pgtable_stage2_map (pgtable.c:")
    assert Symbols(image.elf).describe(start + size - 4) == second


def test_address_of_a_symbol(image: Image) -> None:
    symbols = Symbols(image.elf)
    assert symbols.address("kvm_pgtable_stage2_map") == symbols_of(image.elf)["kvm_pgtable_stage2_map"][0]
    with pytest.raises(KeyError):
        symbols.address("s2fuzz_absent")


def test_an_inlined_function_is_named(altered) -> None:
    changes = {CLEAR_PTE_SIGNATURE: CLEAR_PTE_SIGNATURE.replace("static", "static __always_inline")}
    changes |= before(IN_CLEAR_PTE, "WARN_ON(1);")
    with altered(changes) as kernel:
        observation = kernel.observe(Program((*ONE_PAGE.ops, unmap_op(0x1000))))
        assert "kvm_clear_pte" not in symbols_of(kernel.image.elf)
        line = kernel.image.tree.pgtable.read_text().split("\n").index(changes[IN_CLEAR_PTE]) + 1
    assert {(note.record, note.text) for note in observation.notes} == {
        (2, f"WARN at kvm_clear_pte (pgtable.c:{line})")
    }


def test_our_files_are_told_from_the_trees() -> None:
    """Wherever they lay when they were compiled, and whatever the tree's are called."""
    assert is_ours("/elsewhere/reference/kernel/main.c")
    assert not any(is_ours(f"/linux/arch/arm64/kvm/hyp/nvhe/{path.name}") for path in own_files())


def test_a_trace_ends_in_hosted_code(image: Image) -> None:
    symbols, named = Symbols(image.elf), symbols_of(image.elf)
    pcs = [named["kvm_pgtable_stage2_unmap"][0], named["kvm_pgtable_stage2_map"][0] + 4, named["kernel_main"][0] + 4]
    assert symbols.outermost(pcs, is_ours) == "kvm_pgtable_stage2_map"
