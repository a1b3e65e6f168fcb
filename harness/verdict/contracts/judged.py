"""What the other judges make of one side, asked once, and only if a contract wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

from harness.observation.calls import Call, calls_of
from harness.observation.layout import Observation
from harness.observation.mmus import Mmus
from harness.program.program import Program
from harness.verdict.aborts import Handling, handlings
from harness.verdict.effects.done import Effects
from harness.verdict.effects.relations import Marks, relations
from harness.verdict.effects.replay import Side
from harness.verdict.tlb.judge import stale_problems
from harness.verdict.tlb.problems import StaleProblem


class Done(NamedTuple):
    """What one op came to, and which relations between its events hold."""

    effects: Effects
    marks: Marks


class Judged:
    """Of one side's observation of a program."""

    def __init__(self, program: Program, observation: Observation) -> None:
        self._program = program
        self._observation = observation

    @cached_property
    def done(self) -> Sequence[Done]:
        """By record."""
        side, found = Side(self._observation.machine), []
        for record in self._observation.records:
            effects = side.run(record)
            found.append(Done(effects, relations(effects)))  # at once: what becomes of its tables later is not its own
        return found

    @cached_property
    def stale(self) -> Mapping[int, Sequence[StaleProblem]]:
        """By record, what is wrong with how TLBs and the table are kept in step. No caller is to blame for a size that
        is not of whole pages: the header rounds it up."""
        found: dict[int, list[StaleProblem]] = {}
        for one in stale_problems(self._program, self._observation, excuses_parts=False):
            found.setdefault(one.record, []).append(one)
        return found

    @cached_property
    def handlings(self) -> Mapping[int, Handling]:
        """By record, how aborts were handled."""
        return {one.record: one for one in handlings(self._program, self._observation)}

    @cached_property
    def calls(self) -> Mapping[int, Sequence[Call]]:
        """By record, the calls of TLB functions."""
        found: dict[int, list[Call]] = {}
        for one in calls_of(self._observation):
            found.setdefault(one.record, []).append(one)
        return found

    def vtcr(self, record: int) -> int:
        """VTCR_EL2 of the table in use before a record, 0 where there is none yet; of stage 1 it means nothing."""
        mmus = Mmus(self._observation.machine)
        for one in self._observation.records[:record]:
            mmus.follow(one)
        return mmus.vtcr
