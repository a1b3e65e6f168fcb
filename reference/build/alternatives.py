"""What has to be done to an object that the kernel's own build made, before it can run in the test kernel.

Linux patches its code when it boots: alternatives, by the CPU's capabilities. And its stores to page-table entries,
barriers and WARNs are instructions, where in our own build of the same file they are calls that are recorded. Here the
object is read, and its recorded instructions are replaced by BRKs; `kernel/alternatives.c` does the rest, in the test
kernel, with the tables that `tables` writes.

Encodings: Arm ARM, C4.1 (A64 instruction set encoding). Layouts: `struct alt_instr` (asm/alternative.h), `struct
bug_entry` (asm-generic/bug.h).
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from elftools.elf.elffile import ELFFile

from harness.errors import ToolFailure
from reference.probe.symbols import Place, Symbols

NOP: Final = 0xD503201F
MAX_SITES: Final = 0x1000
_SITE_BRK: Final = 0xE000
"""Immediates of BRK from here on are recorded instructions, as in kernel/kernel.h."""

_CALLBACK: Final = 1 << 15
_ALTERNATIVE: Final = struct.Struct("<iiHBB")
# With and without CONFIG_DEBUG_BUGVERBOSE: the size, and where the flags are.
_VERBOSE_BUG: Final = 12
_VERBOSE_FLAGS: Final = 10
_SHORT_BUG: Final = 8
_SHORT_FLAGS: Final = 4


@dataclass(frozen=True, slots=True)
class Alternative:
    """One instruction at `offset` in .text that is `replacement` where the CPU has `capability`, else `original`."""

    offset: int
    original: int
    replacement: int
    capability: int


@dataclass(frozen=True, slots=True)
class Site:
    """An instruction that is recorded. `what` is its class, as `CLASSES` has it, or `store`; `function` has its code,
    where `place` tells of the inlined one."""

    offset: int
    instruction: int
    what: str
    function: str
    place: Place | None


@dataclass(frozen=True, slots=True)
class Bug:
    """A WARN or BUG: a BRK at `offset`, in `function` (as __func__ has it)."""

    offset: int
    function: str
    flags: int


@dataclass(frozen=True, slots=True)
class Patches:
    """What is to be done to one object. `unrecorded` are instructions of the same classes as sites', with the reason
    why they are left alone."""

    alternatives: tuple[Alternative, ...]
    sites: tuple[Site, ...]
    bugs: tuple[Bug, ...]
    unrecorded: tuple[tuple[Site, str], ...]

    @property
    def is_empty(self) -> bool:
        """Whether the object is to be left as it is."""
        return not (self.alternatives or self.sites or self.bugs)


CLASSES: Final[tuple[tuple[str, int, int], ...]] = (
    ("dsb", 0xFFFFF0FF, 0xD503309F),
    ("isb", 0xFFFFF0FF, 0xD50330DF),
    ("dmb", 0xFFFFF0FF, 0xD50330BF),
    ("sb", 0xFFFFF0FF, 0xD50330FF),
    ("dsb nxs", 0xFFFFF3FF, 0xD503323F),
    ("stlr", 0xFFFFFC00, 0xC89FFC00),
    ("cas", 0xFFA07C00, 0xC8A07C00),
    ("stlr other", 0x3F808000, 0x08808000),
    ("exclusive", 0x3F800000, 0x08000000),
    ("atomic", 0x3F200C00, 0x38200000),
    ("tlbi", 0xFFF8F000, 0xD5088000),
    ("cache maintenance", 0xFFF8F000, 0xD5087000),
    ("hvc", 0xFFE0001F, 0xD4000002),
    ("smc", 0xFFE0001F, 0xD4000003),
)
"""What orders, invalidates or leaves EL2: name, mask and value; the first that fits counts. Plain stores are found by
their place in the source, for any store may be one."""

_PLAIN_STORES: Final[tuple[tuple[int, int], ...]] = (
    (0xFFC00000, 0xF9000000),  # STR (immediate), unsigned offset
    (0xFFE00C00, 0xF8000000),  # STUR
    (0xFFE0EC00, 0xF8206800),  # STR (register), LSL
)
_ANY_STORE: Final = (0x0A400000, 0x08000000)  # loads and stores, with the bit that makes most of them loads clear

_RECORDED: Final = {"dsb", "isb", "tlbi", "stlr", "cas", "store"}

_REASONS: Final[tuple[tuple[str, str, str], ...]] = (
    ("isb", r"\bkvm_call_hyp\(", "after a call of a hyp function, a VHE host synchronises; it is no part of the file"),
    ("hvc", r"\bkvm_call_hyp\(", "how a host at EL1 calls hyp; this one is at EL2 (ARM64_HAS_VIRT_HOST_EXTN)"),
    ("exclusive", r"^__ll_sc_", "the compare-and-swap of CPUs without LSE atomics; this one has them"),
    ("dmb", r"^__ll_sc_", "the end of that compare-and-swap"),
)
"""Instructions that are not recorded: class, the place and source line they come from, why not."""


WINDOWS: Final = frozenset({"cas"})
"""All that is looked at of a file whose stores are no stores to PTEs: before a compare-and-exchange another CPU may
come in between."""


def read(path: Path, source: Path | None = None, classes: frozenset[str] | None = None) -> Patches:
    """What is to be patched in the object `path`, which was compiled from `source` with debugging information; without
    a source, nothing of it is recorded, else only `classes` of instructions, if these are given.

    Raises ToolFailure for what is not understood: another layout, an unknown callback, a store of a form that cannot
    be carried out.
    """
    symbols = Symbols(path)
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        text = elf.get_section_by_name(".text")
        if text is None:
            raise ToolFailure(f"{path.name} has no .text")
        words = struct.unpack(f"<{text.data_size // 4}I", text.data())
        alternatives = tuple(_alternatives(elf, words))
        bugs = tuple(_bugs(elf, symbols))
        functions = _functions(elf)
        if elf.get_section_by_name("__jump_table") is not None:
            raise ToolFailure(f"{path.name} has static keys, which are not patched yet")
        relocated = _targets(elf, ".text")
    if source is None:
        return Patches(alternatives, (), bugs, ())
    lines = source.read_text(errors="replace").splitlines()
    patched = {one.offset for one in alternatives}
    sites, unrecorded = [], []
    for site in _sites(words, functions, symbols, lines, source.name):
        if classes is not None and site.what not in classes:
            continue
        reason = _reason(site, lines, source.name)
        if reason is None and (site.offset in patched or site.offset in relocated):
            raise ToolFailure(f"{path.name}: the {site.what} at {site.offset:#x} changes when it is linked or booted")
        if reason is None:
            sites.append(site)
        else:
            unrecorded.append((site, reason))
    if len(sites) > MAX_SITES:
        raise ToolFailure(f"{path.name} has {len(sites)} instructions to be recorded")
    return Patches(alternatives, tuple(sites), bugs, tuple(unrecorded))


def with_sites(path: Path, patches: Patches) -> bytes:
    """The object's bytes, with a BRK in place of every recorded instruction."""
    content = bytearray(path.read_bytes())
    with path.open("rb") as stream:
        start = ELFFile(stream).get_section_by_name(".text")["sh_offset"]
    for index, site in enumerate(patches.sites):
        struct.pack_into("<I", content, start + site.offset, 0xD4200000 | (_SITE_BRK + index) << 5)
    return bytes(content)


def tables(path: Path, patches: Patches) -> str:
    """Assembly for the test kernel's tables. Addresses are counted from a global function of the object."""
    name, offset = _anchor(path)

    def at(where: int) -> str:
        return f"{name} + {where - offset}"

    rows = ["/* Generated by reference/build/alternatives.py. */", '\t.section .s2fuzz_alternatives, "a"']
    for one in patches.alternatives:
        rows += [f"\t.quad {at(one.offset)}", f"\t.word {one.original:#x}, {one.replacement:#x}"]
        rows += [f"\t.quad {one.capability}"]
    rows.append('\t.section .s2fuzz_sites, "a"')
    rows += [f"\t.quad {at(site.offset)}, {site.instruction:#x}" for site in patches.sites]
    functions = sorted({bug.function for bug in patches.bugs})
    rows.append('\t.section .s2fuzz_bugs, "a"')
    rows += [
        f"\t.quad {at(bug.offset)}, .Lfunction{functions.index(bug.function)}, {bug.flags}" for bug in patches.bugs
    ]
    rows.append('\t.section .rodata.s2fuzz_names, "a"')
    rows += [f'.Lfunction{index}:\t.asciz "{function}"' for index, function in enumerate(functions)]
    rows.append('\t.section .note.GNU-stack, "", @progbits')
    return "\n".join(rows) + "\n"


def _anchor(path: Path) -> tuple[str, int]:
    with path.open("rb") as stream:
        elf = ELFFile(stream)
        index = elf.get_section_index(".text")
        for symbol in elf.get_section_by_name(".symtab").iter_symbols():
            if symbol["st_info"]["bind"] == "STB_GLOBAL" and symbol["st_shndx"] == index:
                return symbol.name, symbol["st_value"]
    raise ToolFailure(f"{path.name} has no global function")


# Alternatives


def _alternatives(elf: Any, words: Sequence[int]) -> Iterator[Alternative]:
    section = elf.get_section_by_name(".altinstructions")
    if section is None:
        return
    data, targets = section.data(), _targets(elf, ".altinstructions")
    linked = _targets(elf, ".text")
    replacements = elf.get_section_by_name(".altinstr_replacement")
    if replacements is not None and replacements.data_size:
        raise ToolFailure("the replacements of alternatives have a section of their own, as in kernels before 5.18")
    if len(data) % _ALTERNATIVE.size:
        raise ToolFailure(f"alternatives have another layout: {len(data)} bytes")
    for start in range(0, len(data), _ALTERNATIVE.size):
        _, _, capability, length, new_length = _ALTERNATIVE.unpack_from(data, start)
        where, new = targets.get(start), targets.get(start + 4)
        if where is None or new is None or where[0] != ".text" or length % 4:
            raise ToolFailure(f"the alternative at {start:#x} of .altinstructions is not understood")
        if capability & _CALLBACK:
            if new[0] != "alt_cb_patch_nops":
                raise ToolFailure(f"alternatives with the callback {new[0]} are not understood")
            replacement = [NOP] * (length // 4)
        elif new[0] != ".text" or new_length != length:
            raise ToolFailure(f"the alternative at {start:#x} of .altinstructions is not understood")
        else:
            block = range(new[1], new[1] + length)
            replacement = [
                moved(_linked(words[i // 4], i, linked.get(i)), i, where[1] + i - new[1], block)
                for i in range(new[1], new[1] + length, 4)
            ]
        if any(where[1] + i in linked for i in range(0, length, 4)):
            raise ToolFailure(f"the alternative at {where[1]:#x} would be relocated")
        for index, instruction in enumerate(replacement):
            offset = where[1] + 4 * index
            yield Alternative(offset, words[offset // 4], instruction, capability & ~_CALLBACK)


def _targets(elf: Any, name: str) -> dict[int, tuple[str, int]]:
    """By their offset in section `name`, what its relocations point to: a section and an offset in it, or the name of
    an undefined symbol and an addend."""
    relocations = elf.get_section_by_name(f".rela{name}")
    if relocations is None:
        return {}
    symbols = elf.get_section(relocations["sh_link"])
    found = {}
    for relocation in relocations.iter_relocations():
        symbol = symbols.get_symbol(relocation["r_info_sym"])
        index, addend = symbol["st_shndx"], relocation["r_addend"]
        if isinstance(index, int):
            target = elf.get_section(index).name, symbol["st_value"] + addend
        else:
            target = symbol.name, addend
        found[relocation["r_offset"]] = target
    return found


def _linked(instruction: int, offset: int, target: tuple[str, int] | None) -> int:
    """The instruction at `offset` as the linker would have it, by its relocation's target in the same section."""
    if target is None:
        return instruction
    field = _branch_field(instruction)
    if field is None or target[0] != ".text":
        raise ToolFailure(f"the alternative {instruction:#010x} refers to {target[0]}")
    shift, bits = field
    return instruction | ((target[1] - offset) // 4 & ((1 << bits) - 1)) << shift


def moved(instruction: int, old: int, new: int, block: range) -> int:
    """The instruction at address `old`, as it reads at `new`: a branch out of `block`, the instructions moved along
    with it, keeps its target (as get_alt_insn() of arch/arm64/kernel/alternative.c has it).

    Raises ToolFailure for what depends on its place and is no branch.
    """
    field = _branch_field(instruction)
    if field is None:
        if instruction & 0x1F000000 == 0x10000000:  # ADR, ADRP
            raise ToolFailure(f"the alternative {instruction:#010x} takes its own address")
        return instruction
    shift, bits = field
    mask = (1 << bits) - 1
    distance = instruction >> shift & mask
    distance = (distance - (1 << bits) if distance >> (bits - 1) else distance) * 4
    if old + distance in block:
        return instruction
    distance += old - new
    if not -(1 << (bits + 1)) <= distance < 1 << (bits + 1):
        raise ToolFailure(f"the alternative's branch {instruction:#010x} does not reach its target")
    return instruction & ~(mask << shift) | (distance // 4 & mask) << shift


def _branch_field(instruction: int) -> tuple[int, int] | None:
    """Where a branch has its distance: the lowest bit, and how many."""
    if instruction & 0x7C000000 == 0x14000000:  # B, BL
        return 0, 26
    if instruction & 0xFE000000 == 0x54000000 or instruction & 0x7E000000 == 0x34000000:  # B.cond, CBZ, CBNZ
        return 5, 19
    if instruction & 0x7E000000 == 0x36000000:  # TBZ, TBNZ
        return 5, 14
    return None


# WARNs and BUGs


def _bugs(elf: Any, symbols: Symbols) -> Iterator[Bug]:
    section = elf.get_section_by_name("__bug_table")
    if section is None:
        return
    data, targets = section.data(), _targets(elf, "__bug_table")
    size = _VERBOSE_BUG if 4 in targets else _SHORT_BUG
    for start in range(0, len(data), size):
        where = targets.get(start)
        if where is None or where[0] != ".text":
            raise ToolFailure(f"the entry at {start:#x} of __bug_table is not understood")
        place = symbols.place(where[1])
        if place is None:
            raise ToolFailure(f"the WARN at {where[1]:#x} is in no function: the object lacks debugging information")
        flags = start + (_VERBOSE_FLAGS if size == _VERBOSE_BUG else _SHORT_FLAGS)
        yield Bug(where[1], place.function, struct.unpack_from("<H", data, flags)[0])


# Recorded instructions


def class_of(instruction: int) -> str | None:
    """The class of an instruction, of `CLASSES`; None for every other."""
    return next((name for name, mask, value in CLASSES if instruction & mask == value), None)


def _functions(elf: Any) -> list[tuple[int, str]]:
    """Where each function of .text begins, in ascending order."""
    index = elf.get_section_index(".text")
    return sorted(
        (symbol["st_value"], symbol.name)
        for symbol in elf.get_section_by_name(".symtab").iter_symbols()
        if symbol["st_info"]["type"] == "STT_FUNC" and symbol["st_shndx"] == index
    )


def _sites(
    words: Sequence[int], functions: Sequence[tuple[int, str]], symbols: Symbols, lines: Sequence[str], source: str
) -> Iterator[Site]:
    function = "?"
    begins = dict(functions)
    for index, instruction in enumerate(words):
        function = begins.get(4 * index, function)
        what = class_of(instruction)
        if what is not None:
            yield Site(4 * index, instruction, what, function, symbols.place(4 * index))
        elif instruction & _ANY_STORE[0] == _ANY_STORE[1]:
            place = symbols.place(4 * index)
            if "WRITE_ONCE(" in _line(place, lines, source):
                if not any(instruction & mask == value for mask, value in _PLAIN_STORES):
                    raise ToolFailure(f"the store {instruction:#010x} of {place} has a form that is not understood")
                yield Site(4 * index, instruction, "store", function, place)


def _line(place: Place | None, lines: Sequence[str], source: str) -> str:
    """The source line, where it is in `source` itself."""
    if place is None or place.file != source or not 0 < place.line <= len(lines):
        return ""
    return lines[place.line - 1]


def _reason(site: Site, lines: Sequence[str], source: str) -> str | None:
    """Why a site is not recorded, None when it is. Raises ToolFailure when nobody has thought of it."""
    origin = f"{site.place} {_line(site.place, lines, source)}"
    for what, pattern, reason in _REASONS:
        if site.what == what and re.search(pattern, origin):
            return reason
    if site.what in _RECORDED:
        return None
    raise ToolFailure(f"{site.what} ({site.instruction:#010x}) in {site.place} is neither recorded nor explained")
