"""What has to be patched in an object is read right. The objects are the tests' own, assembled or compiled here."""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile

from harness.errors import ToolFailure
from reference.build.alternatives import NOP, Alternative, class_of, moved, read, tables, with_sites
from reference.tools import find_toolchain

# As asm/alternative-macros.h has them: the replacement in a subsection, its length checked elsewhere.
ALTERNATIVE = """
.macro alternative old, new, capability
661:	\\old
662:	.pushsection .altinstructions, "a"
	.word 661b - ., 663f - .
	.hword \\capability
	.byte 662b - 661b, 664f - 663f
	.popsection
	.subsection 1
663:	\\new
664:	.previous
.endm
.macro callback old, callback, capability
661:	\\old
662:	.pushsection .altinstructions, "a"
	.word 661b - ., \\callback - .
	.hword \\capability | 1 << 15
	.byte 662b - 661b, 0
	.popsection
.endm
	.text
	.globl function
	.type function, %function
"""


def assemble(folder: Path, text: str, header: str = ALTERNATIVE) -> tuple[Path, Path]:
    """The object, and its source."""
    return compiled(folder / "file.S", header + text)


def compiled(source: Path, text: str) -> tuple[Path, Path]:
    source.write_text(text)
    made = source.with_suffix(".o")
    flags = ["--target=aarch64-linux-gnu", "-march=armv8.5-a", "-gdwarf-4", "-O2", "-fno-pic", "-c"]
    subprocess.run([find_toolchain().clang, *flags, str(source), "-o", str(made)], check=True)
    return made, source


def words_of(folder: Path, text: str) -> list[int]:
    made, _ = compiled(folder / "words.S", text)
    with made.open("rb") as stream:
        data = ELFFile(stream).get_section_by_name(".text").data()
    return [word for (word,) in struct.iter_unpack("<I", data)]


def test_a_branch_keeps_its_target(tmp_path: Path) -> None:
    """An instruction from a replacement far below, put where the first nop is, jumps to where it jumped from there."""
    for branch in ("b {}", "bl {}", "b.ne {}", "cbz x3, {}", "cbnz w3, {}", "tbz x3, #5, {}", "tbnz x3, #45, {}"):
        *_, there = words_of(tmp_path, f"nop\n1: nop\n.rept 20\nnop\n.endr\n{branch.format('1b')}\n")
        here, *_ = words_of(tmp_path, f"{branch.format('1f')}\n1: nop\n")
        assert moved(there, 22 * 4, 0, range(22 * 4, 23 * 4)) == here, branch


def test_a_branch_within_the_replacement_stays_as_it_is(tmp_path: Path) -> None:
    first, *_ = words_of(tmp_path, "cbz x0, 1f\nnop\n1: nop\n")
    assert moved(first, 400, 0, range(400, 412)) == first
    assert moved(first, 400, 0, range(400, 408)) != first


def test_other_instructions_move_unchanged(tmp_path: Path) -> None:
    for instruction in ("nop", "add x1, x2, x3", "ldr x1, [x2, #8]", "dsb ish", "ret"):
        (word,) = words_of(tmp_path, instruction + "\n")
        assert moved(word, 400, 0, range(400, 404)) == word


@pytest.mark.parametrize("instruction", ["adr x0, 1f", "adrp x0, 1f"])
def test_what_takes_its_own_address_cannot_move(tmp_path: Path, instruction: str) -> None:
    word, *_ = words_of(tmp_path, f"{instruction}\n1: nop\n")
    with pytest.raises(ToolFailure, match="takes its own address"):
        moved(word, 400, 0, range(400, 404))


def test_a_branch_that_would_not_reach(tmp_path: Path) -> None:
    word, *_ = words_of(tmp_path, "tbz x0, #0, 1f\n1: nop\n")
    with pytest.raises(ToolFailure, match="does not reach"):
        moved(word, 0x10000, 0, range(0x10000, 0x10004))


def test_alternatives(tmp_path: Path) -> None:
    made, source = assemble(
        tmp_path,
        """
function:
	alternative nop, "b 1f", 23
	callback "b 1f", alt_cb_patch_nops, 42
	ret
1:	alternative "mov x0, #1", "mov x0, #2", 0
	ret
""",
    )
    jump, jump_on, one, two = words_of(tmp_path, "b .+12\nb .+8\nmov x0, #1\nmov x0, #2\n")
    assert read(made, source).alternatives == (
        Alternative(0, NOP, jump, 23),
        Alternative(4, jump_on, NOP, 42),
        Alternative(12, one, two, 0),
    )


def test_an_alternative_of_several_instructions(tmp_path: Path) -> None:
    made, source = assemble(tmp_path, 'function:\n	alternative "nop; nop", "mov x0, #1; b function", 7\n	ret\n')
    one, back = words_of(tmp_path, "mov x0, #1\nb .-4\n")
    assert read(made, source).alternatives == (Alternative(0, NOP, one, 7), Alternative(4, NOP, back, 7))


def test_an_alternative_that_refers_to_another_file(tmp_path: Path) -> None:
    made, source = assemble(tmp_path, 'function:\n	alternative nop, "bl elsewhere", 7\n	ret\n')
    with pytest.raises(ToolFailure, match="refers to elsewhere"):
        read(made, source)


def test_an_original_that_the_linker_changes(tmp_path: Path) -> None:
    made, source = assemble(tmp_path, 'function:\n	alternative "bl elsewhere", nop, 7\n	ret\n')
    with pytest.raises(ToolFailure, match="would be relocated"):
        read(made, source)


def test_an_unknown_callback(tmp_path: Path) -> None:
    made, source = assemble(tmp_path, "function:\n	callback nop, kvm_update_va_mask, 3\n")
    with pytest.raises(ToolFailure, match="callback kvm_update_va_mask"):
        read(made, source)


def test_alternatives_of_another_layout(tmp_path: Path) -> None:
    text = 'function: nop\n.section .altinstructions, "a"\n.word function - ., 0, 0, 0\n'
    made, source = assemble(tmp_path, text, header="")
    with pytest.raises(ToolFailure, match="another layout"):
        read(made, source)


def test_static_keys_are_refused(tmp_path: Path) -> None:
    made, source = assemble(tmp_path, 'function: nop\n.section __jump_table, "aw"\n.quad 0, 0\n')
    with pytest.raises(ToolFailure, match="static keys"):
        read(made, source)


@pytest.mark.parametrize(
    ("instruction", "expected"),
    [
        ("dsb ish", "dsb"),
        ("dsb ishst", "dsb"),
        ("dsb sy", "dsb"),
        ("isb", "isb"),
        ("dmb ish", "dmb"),
        ("sb", "sb"),
        ("stlr x1, [x2]", "stlr"),
        ("stlr xzr, [sp]", "stlr"),
        ("stlr w1, [x2]", "stlr other"),
        ("stlrb w1, [x2]", "stlr other"),
        ("casal x1, x2, [x3]", "cas"),
        ("cas x1, x2, [x3]", "cas"),
        ("casal w1, w2, [x3]", "stlr other"),
        ("ldxr x1, [x2]", "exclusive"),
        ("stlxr w1, x2, [x3]", "exclusive"),
        ("swpal x1, x2, [x3]", "atomic"),
        ("ldaddal x1, x2, [x3]", "atomic"),
        ("tlbi vae2is, x1", "tlbi"),
        ("tlbi alle1", "tlbi"),
        ("dc civac, x1", "cache maintenance"),
        ("ic ivau, x1", "cache maintenance"),
        ("hvc #0", "hvc"),
        ("smc #0", "smc"),
        ("nop", None),
        ("hint #25", None),
        ("brk #0x800", None),
        ("str x1, [x2]", None),
        ("ldr x1, [x2, x3, lsl #3]", None),
        ("mrs x1, sp_el0", None),
        ("add x1, x2, x3", None),
    ],
)
def test_classes(tmp_path: Path, instruction: str, expected: str | None) -> None:
    (word,) = words_of(tmp_path, instruction + "\n")
    assert class_of(word) == expected


C_FILE = """
typedef unsigned long u64;
#define WRITE_ONCE(x, val) (*(volatile u64 *)&(x) = (val))
#define kvm_call_hyp(f) do { f(); asm volatile("isb"); } while (0)
void hyp(void);
static inline void inner(u64 *p, u64 index)
{
    WRITE_ONCE(p[index], 3);
}
void outer(u64 *p, u64 *q, u64 index)
{
    *(volatile u64 *)q = 1;
    inner(p, index);
    asm volatile("dsb ishst");
    kvm_call_hyp(hyp);
    asm volatile("1: brk #0x800\\n"
    ".pushsection __bug_table, \\"aw\\"\\n"
    " .align 2\\n .word 1b - .\\n .hword 0x903\\n .align 2\\n .popsection");
}
"""


def test_what_is_recorded(tmp_path: Path) -> None:
    made, source = compiled(tmp_path / "file.c", C_FILE)
    patches = read(made, source)
    assert [(site.what, site.function) for site in patches.sites] == [("store", "outer"), ("dsb", "outer")]
    assert patches.sites[0].place is not None
    assert patches.sites[0].place.function == "inner"
    assert [(site.what, reason) for site, reason in patches.unrecorded] == [
        ("isb", "after a call of a hyp function, a VHE host synchronises; it is no part of the file")
    ]


def test_only_the_recorded_instructions_change(tmp_path: Path) -> None:
    made, source = compiled(tmp_path / "file.c", C_FILE)
    patches = read(made, source)
    before, after = made.read_bytes(), with_sites(made, patches)
    with made.open("rb") as stream:
        start = ELFFile(stream).get_section_by_name(".text")["sh_offset"]
    changed = {index // 4 * 4 - start for index, (a, b) in enumerate(zip(before, after, strict=True)) if a != b}
    assert changed == {site.offset for site in patches.sites}
    for index, site in enumerate(patches.sites):
        (word,) = struct.unpack_from("<I", after, start + site.offset)
        assert word == 0xD4200000 | (0xE000 + index) << 5


def test_warns(tmp_path: Path) -> None:
    """Their entries have a file and line, or not."""
    made, source = compiled(tmp_path / "short.c", C_FILE)
    (short,) = read(made, source).bugs
    named = C_FILE.replace("\\n .hword 0x903\\n .align 2", "\\n .word name - .\\n .hword 7, 0x901")
    made, source = compiled(tmp_path / "verbose.c", named + 'asm(".section .rodata\\nname: .byte 0");\n')
    (verbose,) = read(made, source).bugs
    assert (short.function, short.flags, verbose.function, verbose.flags) == ("outer", 0x903, "outer", 0x901)
    assert short.offset == verbose.offset > 0


def test_what_nobody_has_thought_of(tmp_path: Path) -> None:
    made, source = compiled(tmp_path / "file.c", 'void f(long x) { asm volatile("dc civac, %0" :: "r"(x)); }\n')
    with pytest.raises(ToolFailure, match=r"cache maintenance .* in f \(file\.c:1\) is neither recorded nor explained"):
        read(made, source)


def test_the_tables_count_from_a_global_function(tmp_path: Path) -> None:
    made, source = assemble(tmp_path, "	nop\n	nop\nfunction:\n	alternative nop, ret, 9\n")
    text = tables(made, read(made, source))
    assert ".quad function + 0\n\t.word 0xd503201f, 0xd65f03c0\n\t.quad 9\n" in text


def test_an_object_without_global_functions(tmp_path: Path) -> None:
    made, source = assemble(tmp_path, "nop\n", header="")
    with pytest.raises(ToolFailure, match="no global function"):
        tables(made, read(made, source))
