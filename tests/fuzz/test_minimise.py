"""Minimising: what each pass is for, that the end is a fixpoint and always the same, and real bugs that end small."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from executors import AnyOwner, DyingIf
from hypothesis import given
from hypothesis import strategies as st
from planted import HERE, load, run_against
from thinning import first

from fuzz.triage.minimise import PASSES, NotReproduced, Step, cost, minimise
from fuzz.triage.recorded import sides_of
from harness.findings.finding import Finding
from harness.findings.finding import load as load_finding
from harness.model.executor import Model
from harness.program.definition import Op, OpDef
from harness.program.ops import OPS
from harness.program.program import Program
from harness.program.text import format_program, parse
from harness.verdict.judge import Judge


def deadly(text: str, is_deadly: Callable[[Program], bool]) -> str:
    """What a program is minimised to that kills the right side: its text but for the first line."""
    result = minimise(parse(f"s2 1\n{text}"), Judge(Model(), DyingIf(is_deadly)))
    assert result.complete
    return format_program(result.program).removeprefix("s2 1\n").strip()


def args(program: Program, op: str, name: str) -> list[int]:
    return [
        value
        for one in program.ops
        if one.name == op
        for arg, value in zip(one.definition.args, one.args, strict=True)
        if arg.name == name
    ]


LONG = """
s2 1
fwb = off
ia_bits = 44
map ipa=0x7fe00000 size=2M phys=0x80200000 prot=rwx+sw1 mc=4
unmap ipa=0x7fe01000 size=12K
set_owner ipa=0x7fe05000 size=8K mc=3 owner=1
get_leaf ipa=0x7fe05123
set_owner ipa=0x12345000 size=4K mc=3 owner=77
walk ipa=0x0 size=1G flags=leaf
destroy
"""


@pytest.mark.parametrize("granule", ["16k", "64k"])
def test_a_finding_keeps_its_granule(granule: str) -> None:
    """Though it shows with every one: each has a kernel of its own, and a campaign counts by it."""
    program = parse(f"s2 1\ngranule = {granule}\nfwb = off\nset_owner ipa=0x0 size=64K mc=3 owner=77\n")
    result = minimise(program, Judge(Model(), AnyOwner()))
    assert result.program.machine.changed() == {"granule": program.machine["granule"]}


def test_a_divergence_is_minimised_to_one_readable_op() -> None:
    result = minimise(parse(LONG), Judge(Model(), AnyOwner()), "results-set_owner-return")
    assert format_program(result.program) == "s2 1\n\nset_owner ipa=0x0 size=4K owner=2\n"
    assert (result.verdict.bucket, result.verdict.record) == ("results-set_owner-return", 1)
    assert result.complete


def test_the_result_is_a_fixpoint_and_always_the_same() -> None:
    judge = Judge(Model(), AnyOwner())
    first, second = (minimise(parse(LONG), judge) for _ in range(2))
    assert first == second
    again = minimise(first.program, judge)
    assert again.program == first.program


def test_ops_that_do_not_matter_are_dropped() -> None:
    text = "\n".join(f"map ipa={page << 12:#x} size=4K phys=0x80000000 prot=rw mc=4" for page in range(17))
    text += "\nmkyoung ipa=0x1000\nwalk ipa=0x0 size=4K flags=leaf\nunmap ipa=0x3000 size=4K\ndestroy"
    names = ["mkyoung", "unmap"]
    left = deadly(text, lambda program: [op.name for op in program.ops if op.name in names] == names)
    assert left == "mkyoung ipa=0x0\nunmap ipa=0x0 size=4K"


def made_and_freed(program: Program) -> bool:
    """Whether an unlinked table is freed that was made."""
    made = {op.made for op in program.ops if op.definition.makes is not None}
    return any(one in made for one in args(program, "free_unlinked", "table"))


def test_users_of_what_is_dropped_turn_to_another() -> None:
    text = """
        t1 = create_unlinked phys=0x0 level=2 prot=r mc=2
        t2 = create_unlinked phys=0x0 level=1 prot=r mc=2
        link ipa=0x0 table=t2
        free_unlinked table=t1
    """
    left = deadly(text, lambda p: 1 in args(p, "create_unlinked", "level") and made_and_freed(p))
    assert left == "t1 = create_unlinked phys=0x0 level=1 prot=r\nfree_unlinked table=t1"


def test_users_go_with_what_they_use() -> None:
    """Where a use of what nothing makes would be no death, and there is nothing else to use."""
    text = "t1 = create_unlinked phys=0x0 level=2 prot=r\nfree_unlinked table=t1\nmkyoung ipa=0x0"

    def is_deadly(program: Program) -> bool:
        is_sound = made_and_freed(program) or not args(program, "free_unlinked", "table")
        makes = any(op.definition.makes is not None for op in program.ops)
        return args(program, "mkyoung", "ipa") != [] and is_sound and (made_and_freed(program) or not makes)

    assert deadly(text, is_deadly) == "mkyoung ipa=0x0"


def succeed(program: Program, *names: str) -> bool:
    """Whether ops of these names follow on each other somehow, and succeed."""
    records = Model().observe(program).records[1:]
    done = [op.name for op, record in zip(program.ops, records, strict=False) if not record.ret]
    return [name for name in done if name in names] == [*names]


def test_an_op_that_only_fills_the_memcache_goes() -> None:
    """What uses the pages asks for them itself."""
    text = """
        map ipa=0x8000000000000000 size=4K phys=0x0 prot=r mc=4
        set_owner ipa=0x0 size=4K mc=0 owner=1
        wrprotect ipa=0x0 size=4K
    """
    left = deadly(text, lambda program: succeed(program, "set_owner", "wrprotect"))
    assert left == "set_owner ipa=0x0 size=4K mc=2 owner=0\nwrprotect ipa=0x0 size=4K"


def test_an_op_takes_over_what_another_did() -> None:
    """With an argument of another kind than a cache, too: a flag that it lacks."""
    text = "unmap ipa=0x0 size=4K\nmap ipa=0x1000 size=4K phys=0x0 prot=r"

    def is_deadly(program: Program) -> bool:
        has_unmap = any(op.name == "unmap" for op in program.ops)
        return any(value & 2 or has_unmap for value in args(program, "map", "prot"))

    assert len(deadly(text, is_deadly).splitlines()) == 1


def test_what_is_tried_is_bounded() -> None:
    """However long the program is, one pass stays below its bound."""
    ops = "\n".join(f"map ipa={page << 12:#x} size=4K phys=0x0 prot=r mc=4" for page in range(40))
    steps = PASSES["take over"](parse(f"s2 1\n{ops}"))
    proposed = [next(steps)]
    with suppress(StopIteration):
        while True:
            proposed.append(steps.send(False))
    assert 100 < len(proposed) <= 600
    assert all(len(program.ops) == 39 for program in proposed)


def test_ops_that_touch_are_merged() -> None:
    text = "\n".join(f"unmap ipa={page << 12:#x} size=4K" for page in range(4, 8))
    left = deadly(text, lambda program: sum(args(program, "unmap", "size")) >= 0x4000)
    assert left == "unmap ipa=0x0 size=16K"


def test_settings_that_do_not_matter_get_their_defaults() -> None:
    text = "fwb = off\ntlb_range = off\nia_bits = 48\npool_pages = 200\nrequires = stage2\nunmap ipa=0x0 size=4K"
    left = deadly(text, lambda program: program.machine["fwb"] == 0 and program.machine["pool_pages"] >= 50)
    assert left.splitlines()[:2] == ["pool_pages = 50", "fwb = off"]
    assert "requires" not in left and "ia_bits" not in left and "tlb_range" not in left


def test_flags_that_do_not_matter_are_cleared() -> None:
    text = "map ipa=0x0 size=4K phys=0x0 prot=rwx+sw0+sw2+device mc=4 flags=handle_fault+shared+skip_cmo"
    left = deadly(text, lambda p: any(value & 1 << 3 for value in args(p, "map", "flags")))
    assert left == "map ipa=0x0 size=4K phys=0x0 prot=r flags=shared"


def test_sizes_shrink_as_far_as_they_can() -> None:
    left = deadly("unmap ipa=0x0 size=0xabcdef123", lambda p: any(s >= 0x20_0000 for s in args(p, "unmap", "size")))
    assert left == "unmap ipa=0x0 size=2M"


def test_addresses_move_together() -> None:
    """What matters is that both lie on different pages of one block, above 1G."""

    def is_deadly(program: Program) -> bool:
        maps, unmaps = args(program, "mkyoung", "ipa"), args(program, "unmap", "ipa")
        return any(a >> 21 == b >> 21 and a != b and a >= 1 << 30 for a in maps for b in unmaps)

    left = deadly("mkyoung ipa=0x37fe05000\nunmap ipa=0x37fe07000 size=4K", is_deadly)
    assert left == "mkyoung ipa=0x40000000\nunmap ipa=0x40002000 size=4K"


def test_what_a_side_refuses_is_not_simpler() -> None:
    program = parse("s2 1\nfwb = off\nhw_af = off\nunmap ipa=0x0 size=4K")
    right = DyingIf(lambda program: bool(program.ops), lambda program: program.machine["fwb"] == 1)
    assert minimise(program, Judge(Model(), right)).program.machine.changed() == {"fwb": 0}


def test_what_does_not_reproduce_is_said() -> None:
    with pytest.raises(NotReproduced, match="does not reproduce: the sides agree"):
        minimise(parse(LONG), Judge(Model(), Model()))
    with pytest.raises(NotReproduced, match="it is results-set_owner-return, where it was tables-map-entry-level3"):
        minimise(parse(LONG), Judge(Model(), AnyOwner()), "tables-map-entry-level3")


def test_tries_can_be_bounded_and_are_told() -> None:
    steps: list[Step] = []
    result = minimise(parse(LONG), Judge(Model(), AnyOwner()), told=steps.append, most=3)
    assert (result.tries, result.complete) == (3, False)
    assert [step.tries for step in steps] == [1, 2, 3]
    assert {step.name for step in steps} <= set(PASSES)
    assert cost(result.program) < cost(parse(LONG))


@pytest.mark.parametrize("definition", OPS, ids=lambda definition: definition.name)
@given(data=st.data())
def test_every_argument_of_every_op_has_simpler_values(definition: OpDef, data: st.DataObject) -> None:
    """The passes know kinds: an op that is added later needs no line there."""
    for arg in definition.args:
        value = data.draw(st.integers(0, arg.limit)) & ~arg.forbidden
        found = arg.simpler(value, 4096)
        assert all(arg.allows(one) and arg.cost(one, 4096) < arg.cost(value, 4096) for one in found)
        assert found or arg.cost(value, 4096) <= 130, f"{arg.name}={value:#x} would stay"


@pytest.mark.parametrize("definition", OPS, ids=lambda definition: definition.name)
def test_every_op_ends_with_its_simplest_arguments(definition: OpDef) -> None:
    """Where no argument matters, none is odd or large in the end."""
    values = tuple(arg.limit if arg.limit < 1 << 64 - 1 else 0x1234_5678_9ABC for arg in definition.args)
    program = replace(parse(f"s2 1\nstage = {max(definition.stages)}"), ops=(Op(definition, values),))
    version = "6.12" if Model().capabilities.has(definition.name) else "6.1"
    judge = Judge(Model(version), DyingIf(lambda program: bool(program.ops), version=version))
    result = minimise(program, judge)
    assert cost(result.program)[2] <= 70 * len(definition.args)


REAL = ("merge-leaks-table", "race-loser-keeps-its-page", "hyp-split-reference-dropped", "visit-table-not-read-again")


def found(name: str, work: Path) -> Finding:
    """A planted bug as generated programs find it."""
    status, result = run_against(load(HERE / f"{name}.toml"), 1, work, "--no-compile")
    assert status == 1, result["stderr"]
    finding = load_finding(Path(result["findings"][0]["directory"]))
    assert finding.reliability == (3, 3)
    return finding


@pytest.mark.parametrize("name", REAL[1:])
def test_real_bugs_are_found(name: str, tmp_path: Path) -> None:
    found(name, tmp_path)


@pytest.mark.parametrize("name", first(1, REAL))
def test_real_bugs_end_at_five_ops_or_fewer(name: str, tmp_path: Path) -> None:
    finding = found(name, tmp_path)
    left, right = (side.open() for side in sides_of(finding))
    with closing(left), closing(right):
        judge = Judge(left, right)
        program = minimise(finding.program, judge, finding.bucket).program
        assert minimise(program, judge, finding.bucket).program == program, "it was no fixpoint"
    assert len(program.ops) <= 5
    assert cost(program) < cost(finding.program)
