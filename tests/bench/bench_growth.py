"""Figure 7: how exec/s falls as programs and machines grow. A step out of proportion would be a cliff."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import pairwise
from typing import Any, Final

from bench.figure import Bench, Figure, endlessly, middle, run_for
from harness.model.executor import Model
from harness.program.codec import decode, dialect_for
from harness.program.definition import Op
from harness.program.granule import GRANULES
from harness.program.machine import KNOBS_BY_NAME, USUAL_BUDGET, USUAL_POOL_PAGES, Machine
from harness.program.program import Program
from harness.verdict.judge import Judge
from reference.build.image import build
from reference.link.executor import ByGranule, Reference

NAME: Final = "the largest step: growth of the time per execution over growth of what it is for"
TARGET: Final = 2.0
SIZES: Final = (1, 5, 20, 100)
_OPS: Final = 20
_PROGRAMS: Final = 40
_INPUTS: Final = 1000
"""Recorded inputs that are decoded for each granule."""

_IA_BITS: Final = tuple(range(KNOBS_BY_NAME["ia_bits"].low, KNOBS_BY_NAME["ia_bits"].high + 1, 4))
_PROPORTIONAL: Final = frozenset({"ops", "granule"})
"""Axes along which an execution may take longer in proportion: more is done, or larger tables are compared."""
_POOL_PAGES: Final = tuple(pages for pages in (16, 64, 128, 256) if pages <= USUAL_POOL_PAGES)

Point = tuple[str, int]


def measure(bench: Bench) -> Figure:
    points = dict(_points(bench))
    rates: dict[Point, list[float]] = {point: [] for point in points}
    images = ByGranule(
        lambda granule: Reference(build(bench.image.tree, progress=bench.say, granule=granule), "kernel:6.12"),
        "kernel:6.12",
    )
    with closing(images) as kernel:
        judge = Judge(Model(), kernel)
        for programs in points.values():
            judge.agree(programs[0])  # pools, counters and symbols that are made once
        for number in range(bench.scale.growth_rounds):
            for point, programs in points.items():
                bench.say(f"round {number + 1}: {point[0]} {point[1]}")
                turn = endlessly(programs)
                calls, seconds = run_for(bench.scale.growth_slice, lambda turn=turn: judge.agree(next(turn)))  # type: ignore[misc]
                rates[point].append(calls / seconds)
    curves: dict[str, dict[int, float]] = {}
    for (axis, value), several in rates.items():
        curves.setdefault(axis, {})[value] = middle(several)
    steps = {axis: _steepest(curve, proportional=axis in _PROPORTIONAL) for axis, curve in curves.items()}
    worst = max(steps, key=lambda axis: steps[axis][0])
    return Figure(
        7,
        NAME,
        {axis: step[0] for axis, step in steps.items()},
        f"no cliff: none above {TARGET:g}",
        steps[worst][0] <= TARGET,
        {
            "exec_per_s": {axis: {str(at): rate for at, rate in curve.items()} for axis, curve in curves.items()},
            "in_words": _sentence(curves, steps),
        },
        f"Judge with both executors on ops of recorded programs, regrouped; ia_bits, pool_pages and granule with "
        f"{_OPS} ops a program, and the largest budget throughout; other granules' ops are what the recorded inputs "
        f"mean there. {bench.scale.growth_rounds} slices of "
        f"{bench.scale.growth_slice:g} s per point, in turn. A step of ops or granule: time per execution grows by "
        "this factor for one of program length or page size; of ia_bits and pool_pages: it grows by this factor.",
        {"curves": curves},
    )


def _points(bench: Bench) -> Iterator[tuple[Point, list[Program]]]:
    """What is measured: an axis and a place on it, and the programs there."""
    ops = _ops(bench.programs)
    for size in SIZES:
        yield ("ops", size), _regrouped(ops, size, Machine.of(budget=USUAL_BUDGET))
    for bits in _IA_BITS:
        yield ("ia_bits", bits), _regrouped(ops, _OPS, Machine.of(budget=USUAL_BUDGET, ia_bits=bits))
    for pages in _POOL_PAGES:
        yield ("pool_pages", pages), _regrouped(ops, _OPS, Machine.of(budget=USUAL_BUDGET, pool_pages=pages))
    for number, granule in enumerate(GRANULES):
        inputs = bench.inputs[:: max(1, len(bench.inputs) // _INPUTS)]
        there = _ops([decode(data, dialect_for(granule=granule)) for data in inputs])
        machine = Machine.of(budget=USUAL_BUDGET, granule=number)
        yield ("granule", granule.page >> 10), _regrouped(there, _OPS, machine)


def _ops(programs: Iterable[Program]) -> list[Op]:
    """Of stage 2, which most programs are of: they go together in any order."""
    of_stage_2 = [program for program in programs if program.machine["stage"] == 2]
    return [op for program in of_stage_2 for op in program.ops if op.name not in ("init", "destroy")]


def _regrouped(ops: list[Op], size: int, machine: Machine) -> list[Program]:
    """Programs of `size` ops; the same ops for every size, as far as there are enough."""
    enough = (ops * (size * _PROGRAMS // len(ops) + 1))[: max(_PROGRAMS * _OPS, size * _PROGRAMS // 4)]
    return [Program(tuple(enough[at : at + size]), machine) for at in range(0, len(enough) - size + 1, size)]


def _steepest(curve: dict[int, float], proportional: bool) -> tuple[float, int, int]:
    """(factor, from, to) of the step where the time per execution grows most, or most beyond proportion."""
    return max(
        (rate / next_rate / (after / before if proportional else 1), before, after)
        for (before, rate), (after, next_rate) in pairwise(curve.items())
    )


def _sentence(curves: dict[str, dict[int, float]], steps: dict[str, Any]) -> str:
    ops = curves["ops"]
    per_op = {size: 1e6 / rate / size for size, rate in ops.items()}
    first, last = min(ops), max(ops)
    parts = [
        f"From {first} to {last} ops the rate falls from {ops[first]:.0f} to {ops[last]:.0f}/s, while an op's time "
        f"goes from {per_op[first]:.0f} to {per_op[last]:.0f} us: a program costs a fixed part, then each op its own"
    ]
    for axis, (factor, before, after) in steps.items():
        if axis != "ops":
            what = "the time for a page's size" if axis in _PROPORTIONAL else "the time"
            parts.append(f"along {axis} the steepest step, {before} to {after}, multiplies {what} by {factor:.2f}")
    worst = max(step[0] for step in steps.values())
    parts.append(f"{'no cliff' if worst <= TARGET else 'a cliff'}: the largest step ratio is {worst:.2f}")
    return "; ".join(parts) + "."
