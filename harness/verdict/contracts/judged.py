"""What the other judges make of one side, asked once, and only if a contract wants to know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

from harness.observation.calls import Call, calls_of
from harness.observation.layout import Observation
from harness.observation.mmus import Mmus
from harness.program.program import Program
from harness.verdict.aborts import Handling, handlings
from harness.verdict.memslots import Slots, logs_read, slots_after
from harness.verdict.tlb.judge import Judgement
from harness.verdict.tlb.problems import StaleProblem
from harness.verdict.vcpus import Load, loads
from harness.verdict.vmids import Turn, turns


class Judged:
    """Of one side's observation of a program."""

    def __init__(self, program: Program, observation: Observation, judgement: Judgement | None = None) -> None:
        self._judgement = judgement
        self._program = program
        self._observation = observation
        self._mmus, self._followed = Mmus(observation.machine), 0

    @cached_property
    def judgement(self) -> Judgement:
        """How TLBs and the table are kept in step."""
        return self._judgement or Judgement(self._program, self._observation)

    @cached_property
    def stale(self) -> Mapping[int, Sequence[StaleProblem]]:
        """By record, what is wrong with how TLBs and the table are kept in step. No caller is to blame for a size that
        is not of whole pages: the header rounds it up."""
        found: dict[int, list[StaleProblem]] = {}
        for one in self.judgement.all_problems:
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

    @cached_property
    def turns(self) -> Mapping[int, tuple[Turn, ...]]:
        """By record, whom CPUs got to run with which VMID."""
        return turns(self._program, self._observation)

    @cached_property
    def loads(self) -> Mapping[int, Load]:
        """By record, which vCPU a CPU got to run, and what its TLB may have of others."""
        return loads(self._program, self._observation)

    def mmus(self, record: int) -> Mmus:
        """The VM's MMUs before a record. For contracts that are asked in order it is the next each time."""
        if record < self._followed:
            self._mmus, self._followed = Mmus(self._observation.machine), 0
        for one in self._observation.records[self._followed : record]:
            self._mmus.follow(one)
        self._followed = record
        return self._mmus

    @cached_property
    def slots(self) -> Sequence[Slots]:
        """The VM's memory slots after each record, as user space knows them."""
        return slots_after(self._program, self._observation)

    @cached_property
    def logs(self) -> Mapping[int, Sequence[int]]:
        """By record, the pages that a log did not tell of, though the guest wrote them (`logs_read`)."""
        return logs_read(self._program, self._observation, self.judgement.written)

    def vtcr(self, record: int) -> int:
        """VTCR_EL2 of the table in use before a record, 0 where there is none yet; of stage 1 it means nothing."""
        return self.mmus(record).vtcr
