"""Random choices: an argument, an operation, a machine. Operations come by their weights; the rest is as likely as the
bytes that choose it."""

from __future__ import annotations

from bisect import bisect
from functools import cache
from itertools import accumulate
from random import Random
from typing import Final

from harness.program.codec import Dialect, fitting, knob_value, lengths, usual_high
from harness.program.kinds import Kind
from harness.program.machine import Knob, Machine
from harness.program.parts import Part

LONGEST_ARGUMENT: Final = 9
"""Bytes of an argument at most: of one that is spelt out."""
_KNOBS_CHANGED: Final = (0, 1, 2)
_CHANGE_WEIGHTS: Final = (112, 80, 48)
_MANY: Final = 16
"""The weight of any other number of knobs."""
_SPELT_OUT: Final = 1 / 64
"""How many values of knobs are none of those that a byte chooses."""


def random_argument(kind: Kind, choice: Random) -> bytes:
    """The bytes of an argument."""
    data = choice.randbytes(LONGEST_ARGUMENT)
    return kind.normal(data[: lengths(kind)[data[0]]])


def random_op(choice: Random, dialect: Dialect, stage: int) -> Part:
    """An operation of that stage which the dialect has. What it does with handles is left to chance."""
    forms, sums = _weighted(dialect, stage)
    number, arguments = forms[bisect(sums, choice.random() * sums[-1])]
    data, at = choice.randbytes(LONGEST_ARGUMENT * len(arguments)), 0
    part = [number]
    for kind, sizes in arguments:
        part.append(kind.normal(data[at : at + sizes[data[at]]]))
        at += LONGEST_ARGUMENT
    return part


_Form = tuple[bytes, list[tuple[Kind, tuple[int, ...]]]]
"""The byte of an operation; and of each argument the kind, and its length by its first byte."""


@cache
def _weighted(dialect: Dialect, stage: int) -> tuple[list[_Form], list[int]]:
    """The operations to choose from, and the sums of their weights up to each."""
    ops = [op for op in dialect.capabilities.ops if stage in op.stages]
    forms = [(bytes((op.number - 1,)), [(arg.kind, lengths(arg.kind)) for arg in op.args]) for op in ops]
    return forms, [*accumulate(op.weight for op in ops)]


def random_machine(choice: Random, dialect: Dialect, stage: int) -> Machine:
    """The default machine of that stage, or one with some other knobs."""
    knobs = _knobs(dialect)
    counts, weights = (*_KNOBS_CHANGED, choice.randint(0, len(knobs))), (*_CHANGE_WEIGHTS, _MANY)
    changes = {}
    for _ in range(choice.choices(counts, weights)[0]):
        knob = choice.choice(knobs)
        changes[knob.name] = _value(knob, choice)
    machine = bare_machine(dialect, stage)
    return fitting(machine, changes) if changes else machine


def bare_machine(dialect: Dialect, stage: int) -> Machine:
    """The default machine of that stage, with the dialect's granule."""
    return dialect.bare if stage == dialect.bare["stage"] else dialect.bare.replace("stage", stage)


def with_random_knob(machine: Machine, choice: Random, dialect: Dialect) -> Machine:
    """The machine with one knob chosen anew; of the same stage, for the other has other ops."""
    knob = choice.choice(_knobs(dialect))
    return fitting(machine, {knob.name: _value(knob, choice)})


def _value(knob: Knob, choice: Random) -> int:
    """A value that the knob allows: mostly one that a byte chooses."""
    if knob.names:
        return choice.randrange(len(knob.names))
    if choice.random() < _SPELT_OUT:
        value = choice.randint(knob.low, usual_high(knob))
        return value - value % knob.align
    return knob_value(knob, choice.randrange(256))


@cache
def _knobs(dialect: Dialect) -> tuple[Knob, ...]:
    return tuple(knob for knob in dialect.knobs if knob.name != "stage")
