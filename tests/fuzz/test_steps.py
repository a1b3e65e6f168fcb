"""The steps of scenarios: each plays what it says, every operation has one, and none is played in vain."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest

from fuzz.generate.place import Place, foreign_boundaries
from fuzz.generate.scenario import _steps
from fuzz.generate.scenarios import STEPS
from fuzz.generate.step import Step
from harness.program.capabilities import EVERYTHING, Capabilities
from harness.program.granule import GRANULE_4K
from harness.program.ops import OPS


def played(one: Step) -> Iterator[list[str]]:
    """The names of the ops of a step, played again and again in one place."""
    page, block = GRANULE_4K.page, GRANULE_4K.block
    at = Place(0, page, block, block << 9, True, 1 << 31, foreign_boundaries(GRANULE_4K), mapped=[(0, page)] * 200)
    for seed in range(200):
        yield [op.name for op in one.play(at, Random(seed))]


@pytest.mark.parametrize("one", STEPS.values(), ids=list(STEPS))
def test_a_step_plays_the_ops_that_it_uses(one: Step) -> None:
    stages = {op.name: op.stages for op in OPS}
    found = {name for names in played(one) for name in names}
    assert set(one.uses) <= found
    assert one.uses
    assert all(set(one.stages) <= set(stages[name]) for name in found)


@pytest.mark.parametrize("stage", [1, 2])
def test_every_op_has_a_step(stage: int) -> None:
    of_stage = [one for one in STEPS.values() if stage in one.stages]
    found = {name for one in of_stage for names in played(one) for name in names}
    assert found == {op.name for op in OPS if stage in op.stages}


@pytest.mark.parametrize("one", STEPS.values(), ids=list(STEPS))
def test_a_step_is_left_out_where_a_side_lacks_what_it_uses(one: Step) -> None:
    stage = one.stages[0]
    assert one in _steps(EVERYTHING, stage)[one.dear].steps
    for name in one.uses:
        assert one not in _steps(Capabilities(frozenset({name})), stage)[one.dear].steps
    other = Capabilities(frozenset({op.name for op in OPS} - set(one.uses)))
    assert one in _steps(other, stage)[one.dear].steps
