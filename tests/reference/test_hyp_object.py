"""pgtable.c built as hyp's object: it refuses shared walks, and nothing else differs; in the model as in the kernel."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sample_programs import BUSY, HYP_BUSY, random_programs, special_programs
from seeds import missing

from harness.model.executor import Model
from harness.program.definition import Op
from harness.program.kinds.flags import MAP_FLAG_BITS, VISIT_FLAG_BITS
from harness.program.machine import Machine
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.text import format_program, read
from harness.verdict.judge import Judge
from pgtable import HYP
from reference.build.image import Image, build
from reference.link.executor import Reference

SEEDS = sorted((Path(__file__).parents[2] / "corpora" / "seeds").glob("*.s2"))
EPERM, ERANGE = -1, -34
PAGE, BLOCK = 0x1000, 0x20_0000
SHARED = MAP_FLAG_BITS["shared"]


@pytest.fixture(scope="module")
def hyp(image: Image) -> Iterator[Reference]:
    with closing(Reference(build(image.tree, kernel_object="hyp"), "kernel:6.12+hyp")) as reference:
        yield reference


@pytest.fixture
def judge(hyp: Reference) -> Judge:
    return Judge(Model(kernel_object="hyp"), hyp)


def disagreements(judge: Judge, programs: list[Program]) -> list[str]:
    return [format_program(program) for program in programs if not judge.agree(program)]


def test_it_is_another_image(hyp: Reference, image: Image) -> None:
    assert hyp.image.sha256 != image.sha256
    assert (image.identity["object"], hyp.identity["object"]) == ("host", "hyp")
    assert Model(kernel_object="hyp").identity["object"] == "hyp"
    assert Model(kernel_object="hyp").name == "model:6.12+hyp"


def test_both_sides_agree(judge: Judge) -> None:
    capabilities = Model().capabilities
    seeds = [
        program
        for program in map(read, SEEDS)
        if program.machine["granule"] == 0 and not missing(capabilities, program)
    ]
    assert len(seeds) > 60
    assert disagreements(judge, [*special_programs(capabilities), *seeds, *random_programs(seed=11, count=250)]) == []


@pytest.mark.parametrize("stage", [1, 2])
def test_the_budget_cuts_at_the_same_event(judge: Judge, stage: int) -> None:
    ops = HYP_BUSY if stage == 1 else BUSY.ops
    assert disagreements(judge, [Program(ops, Machine.of(stage=stage, budget=n)) for n in range(1, 120, 3)]) == []


def one(executor: Reference | Model, op: Op) -> tuple[int | None, tuple[int, ...], int]:
    """Result, values and number of events of an op on a stage 2 with a page and an old page."""
    rw = 6
    made = (
        op_of("map", ipa=0, size=2 * PAGE, phys=BLOCK, prot=rw, mc=5),
        op_of("test_clear_young", ipa=PAGE, size=PAGE, mkold=1),
    )
    record = executor.observe(Program((*made, op))).records[-1]
    return record.ret, record.outs, len(record.events) // 3


def test_shared_walks_are_refused_before_anything_else(hyp: Reference, kernel: Reference) -> None:
    """By those that ask for one, and by the fault handlers' operations, which always do."""
    far = 1 << 60
    shared_map = {"size": PAGE, "phys": BLOCK, "prot": 6, "mc": 5, "flags": SHARED}
    cases = {
        op_of("map", ipa=4 * PAGE, **shared_map): ((EPERM, (), 1), 0),
        op_of("map", ipa=far, **shared_map): ((EPERM, (), 1), ERANGE),
        op_of("walk", ipa=0, size=PAGE, flags=1 | VISIT_FLAG_BITS["shared"]): ((EPERM, (), 0), 0),
        op_of("relax_perms", ipa=0, prot=1): ((EPERM, (), 0), 0),
        op_of("mkyoung", ipa=PAGE): ((0, (0,), 0), 0),
    }
    for op, (expected, host) in cases.items():
        assert one(hyp, op) == one(Model(kernel_object="hyp"), op) == expected, op
        assert one(kernel, op)[0] == one(Model(), op)[0] == host, op
    assert one(kernel, op_of("mkyoung", ipa=PAGE))[1] != (0,)


def test_nothing_else_differs(hyp: Reference, kernel: Reference) -> None:
    """Of programs without shared walks, so that one strategy is all that the model needs."""
    walkers = {"mkyoung", "relax_perms"}
    compared = 0
    for program in random_programs(seed=12, count=400, longest=20):
        flags = [
            value
            for op in program.ops
            for arg, value in zip(op.definition.args, op.args, strict=True)
            if arg.name == "flags"
        ]
        if any(flag & SHARED for flag in flags) or any(op.name in walkers for op in program.ops):
            continue
        compared += 1
        assert hyp.observe(program).words == kernel.observe(program).words, format_program(program)
    assert compared > 50


def test_only_the_strategy_decides(hyp: Reference) -> None:
    """With HYP's walks shared, the model is the host's again: found at once."""
    op = op_of("walk", ipa=0, size=PAGE, flags=1 | VISIT_FLAG_BITS["shared"])
    assert not HYP.shared_walks
    verdict = Judge(Model(), hyp).check(Program((op,)))
    assert verdict is not None
    assert verdict.bucket == "results-walk-return"
