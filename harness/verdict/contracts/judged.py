"""What the other judges make of one side, asked once, and only if a contract wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from harness.observation.layout import Observation
from harness.program.ops import INIT
from harness.program.program import Program
from harness.verdict.aborts import Handling, handlings
from harness.verdict.tlb.judge import Judgement
from harness.verdict.tlb.problems import StaleProblem
from harness.verdict.vmids import Turn, turns


class Judged:
    """Of one side's observation of a program."""

    def __init__(self, program: Program, observation: Observation, judgement: Judgement | None = None) -> None:
        self._judgement = judgement
        self._program = program
        self._observation = observation

    @cached_property
    def stale(self) -> Mapping[int, Sequence[StaleProblem]]:
        """By record, what is wrong with how TLBs and the table are kept in step. No caller is to blame for a size that
        is not of whole pages: the header rounds it up."""
        judgement = self._judgement or Judgement(self._program, self._observation)
        found: dict[int, list[StaleProblem]] = {}
        for one in judgement.all_problems:
            found.setdefault(one.record, []).append(one)
        return found

    @cached_property
    def handlings(self) -> Mapping[int, Handling]:
        """By record, how aborts were handled."""
        return {one.record: one for one in handlings(self._program, self._observation)}

    @cached_property
    def turns(self) -> Mapping[int, tuple[Turn, ...]]:
        """By record, whom CPUs got to run with which VMID."""
        return turns(self._program, self._observation)

    def vtcr(self, record: int) -> int:
        """VTCR_EL2 as the latest init before a record left it, 0 where none did; of stage 1 it means nothing."""
        inits = [one for one in self._observation.records[:record] if one.definition is INIT and one.outs]
        return inits[-1].outs[0] if inits else 0
