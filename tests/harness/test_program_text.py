"""Programs as text: what is written is read back, and what is wrong is said where it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from strategies import programs

from harness.errors import BadInput
from harness.program.kinds import IPA, MEMCACHE, NTH, OWNER, PLANTED, PROT, PTE, VISIT_FLAGS, VISITOR, Kind
from harness.program.kinds.addresses import format_size
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import KNOBS, Machine
from harness.program.ops import OPS, op_of
from harness.program.program import MAX_OPS, Program
from harness.program.text import MAX_TEXT, MalformedProgram, format_op, format_program, parse, read, reformat

OP_NAMES = ", ".join(op.name for op in OPS)
OPS_OF_STAGE = {stage: ", ".join(op.name for op in OPS if stage in op.stages) for stage in (1, 2)}
KNOB_NAMES = ", ".join(knob.name for knob in KNOBS)
PROTS = "r, w, x, device, nc, sw0, sw1, sw2, sw3, -"
MAP_ARGS = "ipa=, size=, phys=, prot=, mc=, flags="
A_NUMBER = "expected a number (0x…, or decimal, with K, M, G or T)"


@given(programs)
def test_what_is_formatted_is_parsed_back(program: Program) -> None:
    text = format_program(program)
    assert parse(text) == program
    assert reformat(text) == text


def test_a_program_reads_as_documented() -> None:
    text = """
        # What it shows,
        #   in two lines.
        s2 1
        ia_bits = 44
        pool_base = 1G
        fwb = off
        requires = stage2 4k

        map ipa=0x20_0000 size=2M phys=0x80200000 prot=r+wx+sw1 mc=2 flags=handle_fault   # the block
        set_owner size=12288 owner=1 ipa=0
        walk ipa=0x0 size=1G flags=leaf+table_pre
        destroy
    """
    program = parse(text)
    assert program.comment == "What it shows,\n  in two lines."
    assert program.requires == ("stage2", "4k")
    assert program.machine.changed() == {"ia_bits": 44, "pool_base": 1 << 30, "fwb": 0}
    prot = sum(PROT_BITS[name] for name in ("r", "w", "x", "sw1"))
    assert program.ops == (
        op_of("map", ipa=1 << 21, size=1 << 21, phys=0x8020_0000, prot=prot, mc=3, flags=16),
        op_of("set_owner", ipa=0, size=3 << 12, mc=0, owner=1),
        op_of("walk", ipa=0, size=1 << 30, flags=3),
        op_of("destroy"),
    )


def test_what_is_required_may_be_ops() -> None:
    assert parse("s2 1\nrequires = mkold is_young").requires == ("mkold", "is_young")


def test_fmt_keeps_comments_and_blank_lines() -> None:
    text = (
        "#  head\n#\n\ns2   1 #version\n budget = 0x7# few\n\n\n  # indented\nunmap size=0x1000 ipa=4096#tail\n#end\n"
    )
    expected = (
        "#  head\n#\n\ns2 1  # version\nbudget = 7  # few\n\n\n# indented\nunmap ipa=0x1000 size=4K  # tail\n# end\n"
    )
    assert reformat(text) == expected
    assert reformat(expected) == expected
    assert parse(text) == parse(expected)


def test_lines_may_end_as_on_other_systems_and_need_no_last_end() -> None:
    assert parse("s2 1\r\n\r\ndestroy\r\n") == parse("s2 1\ndestroy")
    assert reformat("s2 1\r\n\r\ndestroy") == "s2 1\n\ndestroy\n"


def test_only_line_ends_end_lines() -> None:
    """A form feed or U+2028, as mails have them, belongs to the comment."""
    text = "# a\x0cb\u2028c\n#\ns2 1\n"
    assert parse(text).comment == "a\x0cb\u2028c\n"
    assert parse(format_program(parse(text))) == parse(text)
    with pytest.raises(MalformedProgram, match=r"^<program>:4:1: "):
        parse(text + "nonsense")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1, "0x1"),
        (0x1000, "4K"),
        (0x1001, "0x1001"),
        (3 << 21, "6M"),
        (4095 << 10, "4095K"),
        (4095 << 12, "0xfff000"),
        (1 << 40, "1T"),
        (1 << 52, "0x10000000000000"),
    ],
)
def test_sizes_in_canonical_form(value: int, text: str) -> None:
    assert format_size(value) == text


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (MEMCACHE, 0, "none"),
        (MEMCACHE, 1, "0"),
        (MEMCACHE, 41, "40"),
        (OWNER, 255, "255"),
        (PROT, 0, "-"),
        (PROT, PROT_BITS["x"] | PROT_BITS["r"], "rx"),
        (PROT, PROT_BITS["sw3"] | PROT_BITS["device"], "device+sw3"),
        (VISIT_FLAGS, 7, "leaf+table_pre+table_post"),
        (IPA, 0, "0x0"),
        (NTH, 12, "12"),
        (PLANTED, 0x400, "locked"),
        (PLANTED, 3, "table"),
        (PLANTED, 0x404, "0x404"),
        (PTE, 0x400, "0x400"),
        (VISITOR, 0, "look"),
        (VISITOR, 3 | 12 << 3, "table@12"),
    ],
)
def test_values_in_canonical_form(kind: Kind, value: int, text: str) -> None:
    assert kind.format(value) == text


def test_defaults_are_left_out() -> None:
    op = op_of("map", ipa=0, size=1, phys=2, prot=0)
    assert format_op(op) == "map ipa=0x0 size=0x1 phys=0x2 prot=-"
    assert parse("s2 1\nfwb = on\nbudget = 4096\n") == Program(())


MALFORMED = [
    ("", 1, 1, "expected the first line `s2 1`, got the end of the file"),
    ("# only\n# comments\n", 3, 1, "expected the first line `s2 1`, got the end of the file"),
    ("destroy\n", 1, 1, "expected `s2 1`, got `destroy`"),
    ("s2\n", 1, 1, "expected `s2 1`, got `s2`"),
    ("s2 1 2\n", 1, 1, "expected `s2 1`, got `s2 1 2`"),
    ("\n  s2 2\n", 2, 6, "expected format version 1, got `2`"),
    ("s2 1\nmpa ipa=0\n", 2, 1, f"expected an op ({OP_NAMES}), got `mpa`"),
    ("s2 1\ns2 1\n", 2, 1, f"expected an op ({OP_NAMES}), got `s2`"),
    ("s2 1\nplant ipa=0 level=3 pte=x\n", 2, 25, "expected a number (0x…, or decimal, with K, M, G or T), got `x`"),
    ("s2 1\nwalk ipa=0 size=4K flags=leaf visitor=table@0\n", 2, 39, "`table@0` is out of range for visitor"),
    ("s2 1\nwalk ipa=0 size=4K flags=leaf visitor=look@4096\n", 2, 39, "`look@4096` is out of range for visitor"),
    (
        "s2 1\nwalk ipa=0 size=4K flags=leaf visitor=see@1\n",
        2,
        39,
        "expected look, clear, lock, table, eagain, enomem, einval, e2big, and at which visit (@1), got `see@1`",
    ),
    ("s2 1\nfail_alloc nth=4096\n", 2, 16, "`4096` is out of range for nth"),
    ("s2 1\nsplit ipa=0 size=4K mc=none\n", 2, 24, "expected pages: without a cache, Linux would read NULL"),
    ("s2 1\nunmap ipa=0x0\n", 2, 14, "expected size=… for unmap"),
    ("s2 1\nmap ipa=0 size=1 phys=0 # no prot\n", 2, 24, "expected prot=… for map"),
    ("s2 1\nunmap ipa=0 size=1 ipa=1\n", 2, 20, "ipa is given twice"),
    ("s2 1\nunmap ipa=0 sise=1\n", 2, 13, "expected ipa=, size= for unmap, got `sise=1`"),
    ("s2 1\nunmap 0 1\n", 2, 7, "expected ipa=, size= for unmap, got `0`"),
    ("s2 1\nunmap ipa = 0\n", 2, 7, "expected ipa=, size= for unmap, got `ipa`"),
    ("s2 1\nmap mc=1 vmid=3\n", 2, 10, f"expected {MAP_ARGS} for map, got `vmid=3`"),
    ("s2 1\ndestroy now\n", 2, 9, "expected the end of the line for destroy, got `now`"),
    ("s2 1\nget_leaf ipa=\n", 2, 14, f"{A_NUMBER}, got ``"),
    ("s2 1\nget_leaf ipa=0x\n", 2, 14, f"{A_NUMBER}, got `0x`"),
    ("s2 1\nget_leaf ipa=0x_\n", 2, 14, f"{A_NUMBER}, got `0x_`"),
    ("s2 1\nget_leaf ipa=-1\n", 2, 14, f"{A_NUMBER}, got `-1`"),
    ("s2 1\nget_leaf ipa=1g\n", 2, 14, f"{A_NUMBER}, got `1g`"),
    ("s2 1\nget_leaf ipa=٣\n", 2, 14, f"{A_NUMBER}, got `٣`"),
    ("s2 1\nget_leaf ipa=0x10000000000000000\n", 2, 14, "`0x10000000000000000` does not fit 64 bits"),
    ("s2 1\nget_leaf ipa=16777216T\n", 2, 14, "`16777216T` does not fit 64 bits"),
    ("s2 1\nset_owner ipa=0 size=0 owner=256\n", 2, 30, "`256` is out of range for owner"),
    ("s2 1\nset_owner ipa=0 size=0 mc=41 owner=1\n", 2, 27, "`41` is out of range for mc"),
    ("s2 1\nmap ipa=0 size=0 phys=0 prot=r+y\n", 2, 32, f"expected {PROTS}, got `y`"),
    ("s2 1\nmap ipa=0 size=0 phys=0 prot=\n", 2, 30, f"expected {PROTS}, got ``"),
    (
        "s2 1\nmap ipa=0 size=0 phys=0 prot=rw flags=leaf\n",
        2,
        39,
        "expected handle_fault, shared, skip_bbm_tlbi, skip_cmo, -, got `leaf`",
    ),
    (
        "s2 1\nwalk ipa=0 size=0 flags=leaf+pre\n",
        2,
        30,
        "expected leaf, table_pre, table_post, shared, handle_fault, -, got `pre`",
    ),
    (
        "s2 1\ngranule = 64k\nstage = 1\nva_bits = 56\n",
        4,
        11,
        "va_bits: expected 0 to 55, for pages of 64k: beyond, C shifts out of range, got 56",
    ),
    ("s2 1\nhyp_unmap va=0 size=0\n", 2, 1, f"expected an op of stage 2 ({OPS_OF_STAGE[2]}), got `hyp_unmap`"),
    ("s2 1\nstage = 1\nunmap ipa=0 size=0\n", 3, 1, f"expected an op of stage 1 ({OPS_OF_STAGE[1]}), got `unmap`"),
    ("s2 1\nstage = 1\nhyp_map ipa=0\n", 3, 9, "expected va=, size=, phys=, prot= for hyp_map, got `ipa=0`"),
    ("s2 1\nstage = 3\n", 2, 9, "expected 1 to 2 for stage, got `3`"),
    ("s2 1\ndestroy\nbudget = 3\n", 3, 1, "expected an op: settings come before the first one"),
    ("s2 1\nvmids = 16\n", 2, 1, f"expected {KNOB_NAMES}, requires, got `vmids`"),
    ("s2 1\nbudget =\n", 2, 9, "expected a value for budget"),
    ("s2 1\nbudget = 3 4\n", 2, 12, "expected the end of the line, got `4`"),
    ("s2 1\nbudget = 3\nbudget = 3\n", 3, 1, "budget is set twice"),
    ("s2 1\nrequires = a\nrequires = b\n", 3, 1, "requires is set twice"),
    ("s2 1\nbudget = 0\n", 2, 10, "expected 1 to 1572864 for budget, got `0`"),
    ("s2 1\nia_bits = 53\n", 2, 11, "expected 32 to 52 for ia_bits, got `53`"),
    ("s2 1\ngranule = 8k\n", 2, 11, "expected 64k or 16k or 4k for granule, got `8k`"),
    ("s2 1\nvmid_bits = 12\n", 2, 13, "expected 7 or 6 or 5 or 4 or 3 or 2 or 16 or 8 for vmid_bits, got `12`"),
    ("s2 1\npool_base = 0x1001\n", 2, 13, "expected a multiple of 0x1000 for pool_base, got `0x1001`"),
    ("s2 1\npool_base = 4096T\n", 2, 13, "expected 0x0 to 0xffffffff00000 for pool_base, got `4096T`"),
    (
        "s2 1\npool_base = 256T\nlpa2 = off\n",
        2,
        13,
        "pool_base: expected 0x0 to 0xfffffff00000, got 0x1000000000000",
    ),
    (
        "s2 1\ngranule = 16k\npool_base = 0x1000\n",
        3,
        13,
        "pool_base: expected a multiple of 0x4000, for pages of 16k, got 0x1000",
    ),
    ("s2 1\nfwb = 1\n", 2, 7, "expected on or off for fwb, got `1`"),
]


@pytest.mark.parametrize(("text", "line", "column", "problem"), MALFORMED, ids=[case[0][-30:] for case in MALFORMED])
def test_malformed_programs_say_where_and_what(text: str, line: int, column: int, problem: str) -> None:
    with pytest.raises(MalformedProgram) as caught:
        parse(text, "here.s2")
    assert str(caught.value) == f"here.s2:{line}:{column}: {problem}"
    assert (caught.value.line, caught.value.column) == (line, column)


def test_a_program_has_a_largest_number_of_ops() -> None:
    text = "s2 1\n" + "destroy\n" * MAX_OPS
    assert len(parse(text).ops) == MAX_OPS
    with pytest.raises(MalformedProgram, match=rf":{MAX_OPS + 2}:1: expected the end of the file: .* {MAX_OPS} ops"):
        parse(text + "destroy\n")


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"s2 1\n\xff\n", r"not text \(byte 5 is not UTF-8\)"),
        (bytes(range(128, 256)) * 10, r"not text \(byte 0 is not UTF-8\)"),
        (b"#" * (MAX_TEXT + 1), f"too large for a program .more than {MAX_TEXT} bytes."),
        (b"\x7fELF\x02\x01\x01\x00", r"1: U\+007F has no place in a program"),
    ],
)
def test_files_that_are_no_programs(tmp_path: Path, content: bytes, problem: str) -> None:
    path = tmp_path / "bad.s2"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"^{re.escape(str(path))}:( )?{problem}"):
        read(path)


def test_the_largest_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "large.s2"
    path.write_bytes(b"#" * (MAX_TEXT - 5) + b"\ns2 1")
    assert read(path).ops == ()


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(str(tmp_path))}: not a plain file$"):
        read(tmp_path)
    with pytest.raises(BadInput, match=r"nosuch\.s2: No such file or directory$"):
        read(tmp_path / "nosuch.s2")


def test_a_program_has_ops_of_its_stage_only() -> None:
    with pytest.raises(ValueError, match="stage 2 has no hyp_pte_prot"):
        Program((op_of("hyp_pte_prot", pte=0),))
    with pytest.raises(ValueError, match="stage 1 has no flush"):
        Program((op_of("flush", ipa=0, size=0),), Machine.of(stage=1))
    for stage in (1, 2):
        Program(tuple(op_of(name) for name in ("init", "destroy")), Machine.of(stage=stage))


@pytest.mark.parametrize("character", ["\x1b", "\x07", "\x9b", "\u202e", "\u2028", "\x00", "\U000e0041"])
def test_text_that_could_upset_a_terminal_is_refused(tmp_path: Path, character: str) -> None:
    path = tmp_path / "odd.s2"
    path.write_text(f"# fine: é…\t\n# {character}[2J\ns2 1\n")
    with pytest.raises(BadInput, match=rf"odd\.s2:2: U\+{ord(character):04X} has no place"):
        read(path)
