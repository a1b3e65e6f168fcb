"""Inputs from nothing: scenarios, and random choices. Deterministic by the generator passed in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import accumulate
from random import Random
from typing import Final

from fuzz.generate.scenario import hyp_scenario, vm_scenario, whole_block_scenario
from harness.program.codec import DEFAULT, Dialect, fitting, header_of, knob_value, lengths
from harness.program.definition import OpDef
from harness.program.kinds.kind import Kind
from harness.program.machine import Machine
from harness.program.parts import Part, Parts

FRESH_OPS: Final = (5, 18)
"""Ops of an input made of random choices."""
_CHANGED_KNOBS: Final = (7, 5, 3, 1)
"""How often none, one, two or more knobs of its machine are changed."""
_LONGEST: Final = 9
"""Bytes of an argument, at most."""
_HYP_SHARE: Final = 0.15
"""Of inputs from nothing, those for stage 1: it has less code than stage 2."""
_WHOLE_BLOCKS: Final = 1 / 20_000
"""Of inputs from nothing, those that split a whole block of level 1: each takes as long as some hundred others."""


def fresh(choice: Random, dialect: Dialect = DEFAULT, stages: Sequence[int] = ()) -> bytes:
    """An input from nothing, for one of these stages or any."""
    stage = choice.choice(stages) if stages else 1 if choice.random() < _HYP_SHARE else 2
    if not dialect.capabilities.has("stage"):
        stage = 2
    draw = choice.random()
    if draw < _WHOLE_BLOCKS and stage == 2 and dialect.granule.has_large_blocks and dialect.capabilities.has("split"):
        return whole_block_scenario(choice, dialect)
    if draw < 0.5:
        return hyp_scenario(choice, dialect) if stage == 1 else vm_scenario(choice, dialect)
    return random_input(choice, dialect, stage)


def random_input(choice: Random, dialect: Dialect = DEFAULT, stage: int = 2) -> bytes:
    """Random choices all the way, mostly for that stage."""
    machine = _random_machine(choice, dialect, stage)
    stage = machine["stage"]
    ops = [random_op(choice, dialect, stage) for _ in range(choice.randint(*FRESH_OPS))]
    return Parts(header_of(machine, dialect), stage, ops, dialect).join()


def random_op(choice: Random, dialect: Dialect, stage: int) -> Part:
    """An op by its weight, with random arguments."""
    ops, weights = _weighted(dialect, stage)
    (definition,) = choice.choices(ops, cum_weights=weights)
    return [bytes((definition.number - 1,)), *(random_argument(arg.kind, choice) for arg in definition.args)]


def random_argument(kind: Kind, choice: Random) -> bytes:
    """The bytes of an argument, chosen anew."""
    data = choice.randbytes(_LONGEST)
    return kind.normal(data[: lengths(kind)[data[0]]])


@cache
def _weighted(dialect: Dialect, stage: int) -> tuple[list[OpDef], list[int]]:
    ops = [op for op in dialect.capabilities.ops if stage in op.stages]
    return ops, list(accumulate(op.weight for op in ops))


def _random_machine(choice: Random, dialect: Dialect, stage: int) -> Machine:
    """Mostly the default machine, or one or two knobs away from it."""
    machine = dialect.bare.replace("stage", stage)
    (count,) = choice.choices((0, 1, 2, choice.randint(3, len(dialect.knobs))), weights=_CHANGED_KNOBS)
    for knob in choice.sample(dialect.knobs, count):
        machine = fitting(machine, knob, knob_value(knob, choice.randrange(256)))
    return machine
