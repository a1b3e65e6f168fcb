"""Inputs from nothing: scenarios, step by step, and random choices; worth having."""

from __future__ import annotations

import errno
from collections import Counter
from random import Random

import pytest

from fuzz.generate.fresh import fresh, random_input
from fuzz.generate.scenario import hyp_scenario, vm_scenario, vmid_scenario
from harness.model.executor import MODELLED, Model
from harness.observation.events import FLUSH_VM_CONTEXT
from harness.observation.layout import EVENT_WORDS
from harness.program.capabilities import Capabilities
from harness.program.codec import decode, dialect_for, encode
from harness.program.granule import GRANULES, Granule, foreign_units
from harness.program.kinds import IPA, PHYS, SIZE, Kind
from harness.program.machine import USUAL_BUDGET
from harness.program.ops import OPS
from harness.verdict.judge import Judge
from reference.link.executor import Reference


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
@pytest.mark.parametrize("seed", range(5))
def test_a_scenario_is_mostly_sensible(seed: int, granule: Granule, version: str) -> None:
    """Most of its ops succeed, as does a fault that aborts, and among a few of them there are splits and merges."""
    model = Model(version)
    dialect = dialect_for(model.capabilities, granule)
    good = total = splits = merges = 0
    choice = Random(seed)
    for _ in range(40):
        program = decode(vm_scenario(choice, dialect), dialect)
        model.start(program)
        feedback = model.finish().feedback
        assert feedback is not None
        for op, ret in zip(program.ops, feedback.returns[1:], strict=False):
            good += ret == (-errno.EFAULT if op.name == "fault" else 0)
        total += len(feedback.returns) - 1
        splits += feedback.shape.splits
        merges += feedback.shape.merges
    assert good / total > 0.7
    assert splits > 10
    assert merges > 10


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("stage", [1, 2])
def test_every_op_is_generated(version: str, stage: int) -> None:
    """And no other: what is generated can be run."""
    capabilities = Model(version).capabilities
    dialect, choice = dialect_for(capabilities), Random(1)
    make = hyp_scenario if stage == 1 else vm_scenario
    programs = [decode(random_input(choice, dialect, stage), dialect) for _ in range(400)]
    scenarios = [decode(make(choice, dialect), dialect) for _ in range(400)]
    if stage == 2:
        scenarios += [decode(vmid_scenario(choice, dialect), dialect) for _ in range(40)]
    made = {op.name for program in programs for op in program.ops if program.machine["stage"] == stage}
    played = {op.name for program in scenarios for op in program.ops}
    assert made == {op.name for op in capabilities.ops if stage in op.stages}
    assert played <= made
    for program in (*programs, *scenarios):
        capabilities.check(program, version)


@pytest.mark.parametrize("op", [op.name for op in OPS])
def test_scenarios_do_without_what_is_not_on_offer(op: str) -> None:
    """Trees that the model does not know may lack anything."""
    dialect = dialect_for(Capabilities(frozenset({op})))
    for seed in range(60):
        program = decode(fresh(Random(seed), dialect), dialect)
        assert op not in {one.name for one in program.ops}


def test_both_stages_are_generated_and_either_alone() -> None:
    choice = Random(1)
    stages = Counter(decode(fresh(choice)).machine["stage"] for _ in range(1000))
    assert 100 <= stages[1] <= 250
    assert {decode(fresh(choice, stages=(1,))).machine["stage"] for _ in range(100)} == {1}


def test_hyp_s_scenario_is_mostly_sensible() -> None:
    model, choice = Model(), Random(1)
    good = total = unmapped = 0
    for _ in range(100):
        program = decode(hyp_scenario(choice))
        assert program.machine["stage"] == 1
        seen = model.observe(program).records[1:]
        good += sum(record.ret == 0 for record in seen)
        total += len(seen)
        unmapped += sum(record.definition.name == "hyp_unmap" and record.outs > (0,) for record in seen)
    assert good / total > 0.7
    assert unmapped > 50


def test_vmids_run_out_in_short_programs() -> None:
    """Most ops succeed, every other program has a rollover, and some have one in a window."""
    model, choice = Model(), Random(1)
    dialect = dialect_for(model.capabilities)
    good = total = rollovers = raced = 0
    for _ in range(100):
        program = decode(vmid_scenario(choice, dialect), dialect)
        seen = model.observe(program).records[1:]
        good += sum(record.ret == 0 for record in seen)
        total += len(seen)
        flushed = [FLUSH_VM_CONTEXT in record.events[::EVENT_WORDS] for record in seen]
        rollovers += any(flushed)
        updates = [record for record, is_one in zip(seen, flushed, strict=True) if is_one and record.outs]
        raced += any(record.definition.name == "vmid_update" and record.outs[3] for record in updates)
    assert good / total > 0.7
    assert rollovers > 50
    assert raced > 10


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_a_scenario_survives_encoding(granule: Granule) -> None:
    dialect = dialect_for(granule=granule)
    program = decode(vm_scenario(Random(3), dialect), dialect)
    assert decode(encode(program), dialect) == program


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_scenarios_use_what_the_granule_has(granule: Granule) -> None:
    """Blocks of its size, and memory beyond 48 bits where there is such; whole pages, mostly at its own boundaries."""
    choice, dialect = Random(7), dialect_for(granule=granule)
    scenarios = [decode(vm_scenario(choice, dialect), dialect) for _ in range(400)]
    maps = [op for one in scenarios for op in one.ops if op.name == "map"]
    assert {op.args[1] for op in maps} >= {granule.page, granule.block}
    assert all(op.args[1] % granule.page == 0 for op in maps)
    odd = {op.args[0] % granule.page for op in maps} - {0}
    assert odd <= {unit for unit in foreign_units(granule) if unit < granule.page}
    assert sum(op.args[0] % granule.page != 0 for op in maps) < 0.02 * len(maps)
    assert any(op.args[2] >> 48 for op in maps)
    assert {one.machine.phys_bits for one in scenarios} == {48, 52}
    assert max(one.machine["ia_bits"] for one in scenarios) == 52


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_boundaries_are_those_of_all_granules(granule: Granule) -> None:
    """Of addresses and sizes: the granule's own more than others', but those often enough to meet a bug there."""
    choice, dialect = Random(11), dialect_for(granule=granule)
    own = {1 << granule.level_shift(level) for level in (1, 2, 3)}
    aligned: Counter[tuple[Kind, int]] = Counter()
    sizes: Counter[int] = Counter()
    for _ in range(1500):
        for op in decode(fresh(choice, dialect), dialect).ops:
            for arg, value in zip(op.definition.args, op.args, strict=True):
                if arg.kind in (IPA, PHYS):
                    aligned[arg.kind, value & -value] += 1
                elif arg.kind is SIZE:
                    sizes[value] += 1
    for kind in (IPA, PHYS):
        of_kind = sum(count for (one, _), count in aligned.items() if one is kind)
        theirs = {unit: aligned[kind, unit] for unit in foreign_units(granule)}
        assert sum(theirs.values()) > 0.01 * of_kind
        assert sum(theirs.values()) < sum(aligned[kind, unit] for unit in own)
        below = [count for unit, count in theirs.items() if unit <= granule.block]
        assert min(below) >= 5, f"{kind}: {theirs}"
    small = {unit for unit in foreign_units(granule) if unit <= 4 * granule.page}
    assert all(sizes[unit] >= 5 for unit in small)


def test_a_whole_block_now_and_then(monkeypatch: pytest.MonkeyPatch, kernel: Reference) -> None:
    """What is generated splits one to its last page, with nothing cut, and both sides agree on it."""
    monkeypatch.setattr("fuzz.generate.fresh._WHOLE_BLOCKS", 1.0)
    judge = Judge(Model(), kernel)
    dialect = dialect_for(judge.left.capabilities, GRANULES[0])  # whose ops both sides have
    for seed in range(3):
        program = decode(fresh(Random(seed), dialect, (2,)), dialect)
        assert judge.check(program) is None
        seen = judge.left.observe(program)
        split_record = next(record for record in seen.records if record.definition.name == "split")
        assert split_record.ret == 0
        assert len(seen.pages) > 512
        assert None not in [record.ret for record in seen.records]


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_a_whole_block_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch, granule: Granule, version: str) -> None:
    monkeypatch.setattr("fuzz.generate.fresh._WHOLE_BLOCKS", 1.0)
    dialect = dialect_for(Model(version).capabilities, granule)
    programs = [decode(fresh(Random(seed), dialect, (2,)), dialect) for seed in range(20)]
    whole = granule.has_large_blocks and dialect.capabilities.has("split")
    assert {program.machine["budget"] > USUAL_BUDGET for program in programs} == {whole}
