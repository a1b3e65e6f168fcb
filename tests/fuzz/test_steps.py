"""The steps of scenarios: each plays what it says, and none is played in vain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest

from fuzz.generate.place import place_in
from fuzz.generate.scenario import _steps, _vmid_steps
from fuzz.generate.scenarios import STEPS
from fuzz.generate.step import Step
from harness.program.capabilities import EVERYTHING, Capabilities
from harness.program.definition import OpDef
from harness.program.guest import WINDOW
from harness.program.machine import DEFAULT_MACHINE
from harness.program.ops import FAMILIES, OPS
from harness.program.space import MEMORY, space_of

NAMING = [op for op in OPS if op.scenario]
"""Others come among random choices alone."""


def played(one: Step) -> Iterator[list[str]]:
    """The names of the ops of a step, played again and again in one place: a guest's is where its window is."""
    at = place_in(space_of(DEFAULT_MACHINE), 0, WINDOW & -(1 << 30) if one.guest else MEMORY, 1 << 30)
    at = replace(at, cpus=DEFAULT_MACHINE["cpus"])
    for seed in range(200):
        at.mapped.append((0, at.page))
        yield [op.name for op in one.play(at, Random(seed))]


@pytest.mark.parametrize("one", STEPS.values(), ids=list(STEPS))
def test_a_step_plays_the_ops_that_it_uses(one: Step) -> None:
    stages = {op.name: op.stages for op in OPS}
    found = {name for names in played(one) for name in names}
    assert set(one.uses) <= found
    assert one.uses
    assert all(set(one.stages) <= set(stages[name]) for name in found)


@pytest.mark.parametrize("op", NAMING, ids=[op.name for op in NAMING])
def test_an_op_is_played_by_the_step_that_it_names(op: OpDef) -> None:
    one = STEPS[op.scenario]
    assert set(one.stages) <= set(op.stages)
    assert op.name in {name for names in played(one) for name in names}


def test_steps_stand_by_family() -> None:
    assert {one.play.__module__.rpartition(".")[2] for one in STEPS.values()} == set(FAMILIES)


@pytest.mark.parametrize("stage", [1, 2])
def test_steps_play_the_ops_of_their_stage(stage: int) -> None:
    """All that name a step in any stage are played in each of theirs."""
    of_stage = [one for one in STEPS.values() if stage in one.stages]
    found = {name for one in of_stage for names in played(one) for name in names}
    assert {op.name for op in NAMING if stage in op.stages} <= found
    assert found <= {op.name for op in OPS if stage in op.stages}


def offered(capabilities: Capabilities, one: Step) -> tuple[Step, ...]:
    """Those among which it is chosen, if it is."""
    if one.vmids:
        return _vmid_steps(capabilities).steps
    return _steps(capabilities, one.stages[0], one.guest)[one.dear].steps


@pytest.mark.parametrize("one", STEPS.values(), ids=list(STEPS))
def test_a_step_is_left_out_where_a_side_lacks_what_it_uses(one: Step) -> None:
    assert one in offered(EVERYTHING, one)
    elsewhere = _steps(EVERYTHING, one.stages[0], False)[one.dear].steps
    assert (one in elsewhere) is not (one.guest or one.vmids)
    for name in one.uses:
        assert one not in offered(Capabilities(frozenset({name})), one)
    needed = {need for op in OPS if op.name in one.uses for need in op.needs}
    other = Capabilities(frozenset({op.name for op in OPS} - {*one.uses, *needed}))
    assert one in offered(other, one)
