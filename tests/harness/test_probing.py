"""Which addresses are probed at a program's end, and why a program is not probed."""

from __future__ import annotations

import errno

import pytest

from harness.model.executor import Model
from harness.program.granule import GRANULES
from harness.program.guest import STUB
from harness.program.probing import (
    CUT,
    MAX_PROBES,
    NO_TABLE,
    OUTSIDE,
    POOL_ELSEWHERE,
    PROBE,
    UNDEFINED,
    probed_addresses,
    why_unprobed,
    with_probes,
)
from harness.program.program import MAX_OPS, Program
from harness.program.text import parse
from harness.verdict.hardware import judged_of

MAP = "map ipa=0x201000 size=8K phys=0x80000000 prot=rw mc=4\n"


def unprobed(text: str) -> str | None:
    program = with_probes(parse(f"s2 1\n{text}"))
    return judged_of(program, Model().observe(program), ()).unprobed


def test_probes_stand_at_the_end_sorted_each_once() -> None:
    program = parse(f"s2 1\n{MAP}")
    probed = with_probes(program)
    assert probed.ops[:1] == program.ops
    probes = probed.ops[1:]
    assert {op.definition for op in probes} == {PROBE}
    addresses = [op.args[0] for op in probes]
    assert addresses == sorted(set(addresses)) == probed_addresses(program)


@pytest.mark.parametrize("granule", GRANULES, ids=lambda one: one.name)
def test_what_the_program_touched_is_asked_and_both_sides_of_every_edge(granule: object) -> None:
    name = granule.name  # type: ignore[attr-defined]
    program = parse(f"s2 1\ngranule = {name}\nmap ipa=0x20000000 size=2M phys=0x80000000 prot=rw mc=4\n")
    page = program.machine.granule.page
    asked = set(probed_addresses(program))
    end = 0x2000_0000 + (2 << 20)
    assert {0x2000_0000, end - page, 0x2000_0000 - page, end} <= asked
    for level in (1, 2, 3):
        unit = 1 << program.machine.granule.level_shift(level)
        if unit < 1 << 40:
            first = 0x2000_0000 // unit * unit
            assert {first, first + unit, first + unit - page} <= asked
    assert {0, (1 << 40) - page, 1 << 40} <= asked, "both ends of all addresses, and what lies beyond"


def test_hyp_is_probed_as_well() -> None:
    text = "s2 1\nstage = 1\nhyp_map va=0x201000 size=4K phys=0x80000000 prot=rw\n"
    assert {0x20_0000, 0x20_1000, 0x20_2000, (1 << 48) - 0x1000} <= set(probed_addresses(parse(text)))


def test_a_guests_code_is_asked_for_where_there_is_a_guest() -> None:
    assert STUB in probed_addresses(parse("s2 1\nguest = on\n"))
    assert STUB not in probed_addresses(parse("s2 1\n"))


def test_they_are_bounded_and_what_is_named_comes_first() -> None:
    many = "".join(f"get_leaf ipa={n * 0x1234_5000:#x}\n" for n in range(40))
    asked = probed_addresses(parse(f"s2 1\n{many}"))
    assert len(asked) == MAX_PROBES
    assert {n * 0x1234_5000 for n in range(40)} <= set(asked)
    full = Program(parse("s2 1\nunmap ipa=0x0 size=4K\n").ops * (MAX_OPS - 2))
    assert len(with_probes(full).ops) == MAX_OPS


def test_no_address_is_beyond_64_bits() -> None:
    asked = probed_addresses(parse("s2 1\nunmap ipa=0xfffffffffffff000 size=0xffffffffffffffff\n"))
    assert max(asked) == 0xFFFF_FFFF_FFFF_F000
    assert min(asked) >= 0


def test_own_probes_stay_alone() -> None:
    program = parse(f"s2 1\n{MAP}probe ipa=0x0\n")
    assert with_probes(program) is program


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (MAP, None),
        (f"pool_base = 0x80000000\n{MAP}", POOL_ELSEWHERE),
        ("ia_bits = 49\n", UNDEFINED),
        (f"{MAP}destroy\n", NO_TABLE),
        ("pool_pages = 1\n", NO_TABLE),
        (f"budget = 10\n{MAP}", CUT),
        ("stage = 1\nhvhe = on\n", None),
        ("stage = 1\nva_bits = 53\n", UNDEFINED),
    ],
)
def test_why_a_program_was_not_probed(text: str, why: str | None) -> None:
    assert unprobed(text) == why


def test_tables_that_lead_out_of_the_pool_are_told_apart() -> None:
    program = parse("s2 1\nprobe ipa=0x0\nprobe ipa=0x1000\n")
    assert why_unprobed(program, [0, -errno.ENXIO, -errno.ENXIO], has_table=True) == OUTSIDE
    assert why_unprobed(program, [0, 0, -errno.ENXIO], has_table=True) is None
