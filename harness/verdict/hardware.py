"""The hardware as a judge: what it makes of the tables, and what a TLB may still hold.

Where the sides differ in a translation, it says which is at odds with whom. What a TLB may hold is told by the events
of a side alone. This costs several times what the program does, so not every program is judged (`Judging`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from harness.observation.executor import Executor
from harness.observation.layout import Observation
from harness.observation.mmus import root_in_use
from harness.program.ops import INIT
from harness.program.probing import PROBE, why_unprobed, with_probes
from harness.program.program import Program
from harness.verdict.aborts import handles_aborts, surprises
from harness.verdict.compare.difference import Difference
from harness.verdict.emulator import differs_by_hardware_alone
from harness.verdict.judging import Judging, is_sampled
from harness.verdict.pair import Pair
from harness.verdict.tiers import DEFAULT_TIERS, Tier
from harness.verdict.tlb.judge import Judgement
from harness.verdict.tlb.outcomes import Allowed
from harness.verdict.verdicts import BOTH_SIDES, FirstLook, Judged, Verdict

if TYPE_CHECKING:
    from harness.verdict.contracts.contract import Violation


_VIOLATIONS: Final = "violations"
"""The folder of the corpora with what is known of Linux."""


class HardwareJudge(Pair):
    """The hardware judges what `left` and `right` do, where translations are among the `tiers` and unless `judging`
    leaves it out; which programs, `wants_hardware` says."""

    def __init__(
        self,
        left: Executor,
        right: Executor,
        tiers: frozenset[Tier] = DEFAULT_TIERS,
        judging: Judging = Judging.ALL,
    ) -> None:
        super().__init__(left, right, tiers)
        self.judging = judging

    @property
    def judges_hardware(self) -> bool:
        """Whether the hardware judges any program."""
        return Tier.TRANSLATION in self.tiers and self.judging is not Judging.NONE

    def wants_hardware(self, program: Program, look: FirstLook, is_new: bool = False) -> bool:
        """Whether the hardware is to judge a program that came to that `look`, which is to nothing so far: one that
        brought something new, or that saw a stale translation, always."""
        if not self.judges_hardware or look.suspicion is not None:
            return False
        return look.witnessed or self.is_chosen(program, is_new)

    def is_chosen(self, program: Program, is_new: bool = False) -> bool:
        """Whether all judges are to say something of a program, with probes at its end, whatever it saw; else, of one
        that saw a stale translation, only whether that was allowed."""
        return self.judging is Judging.ALL or is_new or is_sampled(program)

    def with_probes(self, program: Program) -> Program:
        """The program with probes at its end, where the hardware judges and both sides have them."""
        if not self.judges_hardware or PROBE.name in self.left.capabilities.lacks | self.right.capabilities.lacks:
            return program
        return with_probes(program)

    def of_one_side(self, program: Program) -> Verdict | None:
        """The verdict on a program on which nothing differs, but for what a TLB may still hold, and how aborts are
        handled. Raises TargetDied."""
        if not self.judges_hardware:
            return None
        for side in (self.left, self.right):
            seen = side.observe(program)
            found = verdict_of_one(program, seen, Judgement(program, seen), side)
            if found is not None:
                beginning = program.prefix(found.record)
                return replace(found, left=self.left.observe(beginning), right=self.right.observe(beginning))
        left, right = self.left.observe(program), self.right.observe(program)
        found = self.broken_promise(program, left, None if left.words == right.words else right)
        if found is None:
            return None
        beginning = program.prefix(found.record)
        return replace(found, left=self.left.observe(beginning), right=self.right.observe(beginning))

    def broken_promise(
        self, program: Program, left: Observation, right: Observation | None, judgement: Judgement | None = None
    ) -> Verdict | None:
        """The first promise that a side breaks, as a verdict without observations: what one side alone breaks comes
        first, then what both do. What an entry of corpora/violations knows is left out, and everything where less than
        usual is compared: then other things are asked for. `right` is None where both sides observed the same;
        `judgement` is that of the left one, if there is one already."""
        if not (self.is_alone or self.tiers >= DEFAULT_TIERS):
            return None
        from harness.verdict.contracts.blame import blame, unlisted  # noqa: PLC0415  (with all that judges effects)
        from harness.verdict.contracts.families import violations  # noqa: PLC0415

        sides = self.left, self.right
        if right is None:
            found = unlisted(violations(program, left, judgement=judgement), sides)
            name = self.left.name if self.is_alone else BOTH_SIDES
            return broken(found[0], name) if found else self._broken_relation(program, left)
        blamed = blame(program, left, right)
        for several, by, name in (
            (blamed.left, (self.left,), self.left.name),
            (blamed.right, (self.right,), self.right.name),
            (blamed.both, sides, BOTH_SIDES),
        ):
            found = unlisted(several, by)
            if found:
                return broken(found[0], name)
        return None

    def mended(self, path: Path, program: Program) -> list[str]:
        """What sides no longer break of what they are known to, where the program is one of corpora/violations; a line
        each. Raises TargetDied."""
        if path.parent.name != _VIOLATIONS:  # contracts wait until somebody judges by them
            return []
        from harness.verdict.contracts.blame import mended  # noqa: PLC0415

        return [line for side in dict.fromkeys((self.left, self.right)) if (line := mended(path, program, side))]

    def divergence(self, first: Difference, record: int, left: Observation, right: Observation) -> Verdict:
        """That the sides differ at that record, the last one; or that an emulator does, where the code under test has
        no part in it."""
        if first.tier is Tier.TRANSLATION and (emulator := self.emulator) and differs_by_hardware_alone(left, right):
            bucket = first.bucket.replace(Tier.TRANSLATION.name.lower(), "emulator", 1)
            return Verdict("emulator", bucket, record, first, left, right, blamed=f"QEMU {emulator[1]}")
        return Verdict("divergence", first.bucket, record, first, left, right)

    def _broken_relation(self, program: Program, seen: Observation) -> Verdict | None:
        """The first metamorphic relation that does not hold on the right side, as a verdict; asked of what is judged
        by choice, for it takes some ten runs. Raises TargetDied."""
        from harness.verdict.contracts.metamorphic import relation_violations  # noqa: PLC0415

        if self.judging is not Judging.ALL and not is_sampled(program):
            return None
        return next((broken(one, self.right.name) for one in relation_violations(self.right, program, seen)), None)


def broken(violation: Violation, by: str) -> Verdict:
    """That somebody breaks a promise."""
    return Verdict("contract", violation.bucket, violation.record, None, None, None, broken=violation, blamed=by)


def verdict_of_one(program: Program, seen: Observation, judgement: Judgement, side: Executor) -> Verdict | None:
    """What is wrong on a side, as a verdict without observations: the first of what a TLB may hold there, or the first
    abort that is not handled as its rule has it."""
    if judgement.problems:
        stale = min(judgement.problems, key=lambda one: one.record)
        op = program.ops[stale.record - 1].name if stale.record else INIT.name
        bucket = f"stale-{op}-{stale.bucket}"
        return Verdict("stale", bucket, stale.record, None, None, None, stale=stale, blamed=side.name)
    abort = next(surprises(program, seen), None) if handles_aborts(program) else None
    if abort is None:
        return None
    bucket = f"abort-{program.ops[abort.record - 1].name}-{abort.what}"
    return Verdict("abort", bucket, abort.record, None, None, None, abort=abort, blamed=side.name)


def judged_of(program: Program, observation: Observation, allowed: Sequence[Allowed]) -> Judged:
    """What there is to count of a program that the hardware judged, by one side's observation of it."""
    returns = [record.ret for record in observation.records]
    accesses = [one for one in allowed if observation.records[one.record].definition is not PROBE]
    stale = sum(not one.is_fresh_only for one in accesses)
    return Judged(why_unprobed(program, returns, root_in_use(observation) is not None), len(accesses), stale)
