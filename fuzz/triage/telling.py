"""Whether a finding's program shows what is wrong: two operands of an instruction may differ in bits that say nothing
on this machine, and something on another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from harness.errors import BadInput
from harness.observation.events import TLBI, events_of
from harness.observation.tlbi import invalidation_of
from harness.program.machine import KNOBS, Machine
from harness.program.program import Program
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Verdict


def is_telling(verdict: Verdict, machine: Machine) -> bool:
    """Whether the difference matters there: false where all of it is operands of TLBIs, and both sides' invalidate the
    same. (A TTL of 1 in a range of 16K pages hints a level with LPA2 only, for example.)"""
    left, right = verdict.left, verdict.right
    if verdict.difference is None or left is None or right is None:
        return True
    if verdict.record >= min(len(left.records), len(right.records)):
        return True
    mine, theirs = (events_of(side.records[verdict.record].events) for side in (left, right))
    differing = [(a, b) for a, b in zip(mine, theirs, strict=False) if a != b]
    if len(mine) != len(theirs) or not differing:
        return True
    lpa2 = bool(machine["lpa2"])
    return any(
        a.kind != b.kind or a.instruction != TLBI or invalidation_of(a.a, a.b, lpa2) != invalidation_of(b.a, b.b, lpa2)
        for a, b in differing
    )


def telling_variant(program: Program, verdict: Verdict, judge: Judge) -> tuple[Program, Verdict] | None:
    """The program with one switch of its machine turned over, in the same bucket, and the verdict on it as the targets
    are, where that shows what `verdict` does not; None where it does, or no switch helps. Raises as executors do."""
    if is_telling(verdict, program.machine):
        return None
    for proposed in _variants(program.prefix(verdict.record)):
        with suppress(BadInput):  # one of the sides cannot run it
            found = judge.quick(proposed, verdict.kind)
            if found is not None and found.bucket == verdict.bucket and is_telling(found, proposed.machine):
                return proposed, found
    return None


def _variants(program: Program) -> Iterator[Program]:
    for knob in KNOBS:
        if (knob.low, knob.high) == (0, 1) and knob.name != "stage":
            with suppress(ValueError):  # the machine cannot have it
                yield replace(program, machine=program.machine.replace(knob.name, 1 - program.machine[knob.name]))
