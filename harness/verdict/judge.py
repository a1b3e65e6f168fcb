"""Runs programs on two executors and says what came of it: agreement, a divergence, a flood, a crash or a hang.

A finding is judged on what both sides observe when they run the program alone; where the sides first part is found by
running ever longer beginnings of it. Where the budget cuts the sides at different events, what lies before is judged,
and the rest is inconclusive (`harness/verdict/cuts.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from harness.observation.executor import CrashReport, Executor, TargetDied
from harness.observation.layout import Digest, Observation
from harness.program.machine import MAX_BUDGET, Machine
from harness.program.program import Program
from harness.verdict.compare import DEFAULT_TIERS, ORDERED_TIERS, Difference, Tier, differences
from harness.verdict.cuts import Cut, unequal_cut
from harness.verdict.invalidation import Call, Problem, calls_of, problems
from harness.verdict.known import known, version_of


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one program.

    `kind` is `divergence`, `crash`, `hang`, `flood`: one side goes on and on where the other has long finished, and
    `cut` says where; or `invalidation`: a TLB function does not do what it was called for, even if the sides agree on
    that, and `problem` says what. `record` is the record (0: the implicit init) after which the sides first differ, or
    of that call. Of the observations, that of a side that died is missing; those kept are of the program up to
    `record`, where everything is smallest. `confirmed` is on how many fresh pairs of targets it was so.
    """

    kind: str
    bucket: str
    record: int
    difference: Difference | None
    left: Observation | None
    right: Observation | None
    died: CrashReport | None = None
    died_side: str | None = None
    problem: Problem | None = None
    cut: Cut | None = None
    confirmed: int = field(default=0, compare=False)


CONFIRMATIONS: Final = 3
"""How many fresh pairs of targets a finding is seen on before it is one."""

_UNTOLD: Final = Verdict("divergence", "digests-once", 0, None, None, None)
"""Seen by their digests alone."""
_OF_CALLS: Final = frozenset({Tier.INSTRUCTIONS, Tier.EFFECTS})
"""Tiers with which the TLB functions are judged by themselves."""
_UNSEEN: Final = 64
"""Programs between two of which the TLB functions are looked at, where no side tells them."""


def _invalidation_bucket(program: Program, found: Problem) -> str:
    op = program.ops[found.call.record - 1].name if found.call.record else "init"
    return f"invalidation-{op}-{found.call.event.name}-{found.what}"


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What seems to be wrong with a program, seen on the targets as they were: `what` it is in a few words, mostly the
    bucket of the verdict to come, and the `sighting` itself."""

    what: str
    sighting: Verdict


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """Nothing was wrong until the `cut`; what lies behind it cannot be told with the program's budget."""

    cut: Cut


class Unconfirmed(Exception):
    """The sides differed or one died, but not every time: flaky, or the environment's fault. The message says what was
    seen, `sighting` has the state that differed; `outcomes` are the buckets on fresh targets, None for agreement."""

    def __init__(self, seen: str, sighting: Verdict, outcomes: Sequence[str | None]) -> None:
        super().__init__(seen)
        self.sighting = sighting
        self.outcomes = tuple(outcomes)


class Judge:
    """Compares `left` with `right` in `tiers`."""

    def __init__(self, left: Executor, right: Executor, tiers: frozenset[Tier] = DEFAULT_TIERS) -> None:
        self.left = left
        self.right = right
        self.tiers = tiers
        self.known: Counter[str] = Counter()
        """Different calls that go wrong in a way that is known of their side's Linux, by `KnownProblem.key`."""
        self._versions: list[str | None] = []
        self._unseen = 0

    def check(self, program: Program) -> Verdict | Inconclusive | None:
        """None when the sides agree. Raises Unconfirmed when what was seen did not happen again on fresh targets."""
        seen = self.suspect(program)
        return self.confirm(program, seen) if isinstance(seen, Suspicion) else seen

    def suspect(self, program: Program) -> Suspicion | Inconclusive | None:
        """What seems to be wrong, from a few runs on the targets as they are. None when the sides agree."""
        try:
            if self.agree(program):
                return self._suspect_invalidation(program)
            left, right = self.left.observe(program), self.right.observe(program)
            if left.words == right.words:
                return Suspicion("the digests differed once, the observations did not", _UNTOLD)
            cut = unequal_cut(left, right)
            if cut is not None:
                return self._suspect_before(program, cut)
            if not (found := differences(left, right, self.tiers)):
                return self._suspect_calls(program, left, right)
            sighting = _sighting(found[0], program, left, right)
            beginning = program.prefix(self._parting(program))
            left, right = self.left.observe(beginning), self.right.observe(beginning)
            if again := differences(left, right, self.tiers):
                sighting = _sighting(again[0], beginning, left, right)
            return Suspicion(sighting.bucket, sighting)
        except TargetDied as error:
            return _suspected_death(program, error)

    def _suspect_before(self, program: Program, cut: Cut) -> Suspicion | Inconclusive:
        """What seems to be wrong before the budget cuts the sides at different events; if nothing, what of the cut."""
        if cut.record:
            before = self.suspect(program.prefix(cut.record - 1))
            if before is not None:
                return before
        beginning = program.prefix(cut.record)
        left, right = self.left.observe(beginning), self.right.observe(beginning)
        if cut.flooded is not None:
            sighting = _flood(cut, left, right)
        elif found := differences(left, right, self.tiers, cut.record):
            sighting = _sighting(found[0], beginning, left, right)
        else:
            return Inconclusive(cut)
        return Suspicion(sighting.bucket, sighting)

    def _suspect_invalidation(self, program: Program) -> Suspicion | None:
        """What is wrong with a TLB function that both sides agree on. A side may tell its calls; two that cannot are
        asked now and then."""
        if not self.tiers & _OF_CALLS:
            return None
        told = [(number, calls) for number, side in enumerate(self._sides) if (calls := side.new_calls()) is not None]
        if not told:
            self._unseen += 1
            if self._unseen < _UNSEEN:
                return None
            self._unseen = 0
            told = [(0, list(calls_of(self.left.observe(program))))]
        return self._suspected_call(program, told)

    def _suspect_calls(self, program: Program, left: Observation, right: Observation) -> Suspicion | None:
        """What is wrong with a TLB function, where the sides may differ in when they call it."""
        if not self.tiers & _OF_CALLS:
            return None
        seen = {(call.event, call.instructions) for call in calls_of(left)}
        others = [call for call in calls_of(right) if (call.event, call.instructions) not in seen]
        calls = self.left.new_calls()
        first = self._suspected_call(program, [(0, list(calls_of(left)) if calls is None else calls)])
        return first or self._suspected_call(program, [(1, others)], counts_known=False)

    def _suspected_call(
        self, program: Program, told: Iterable[tuple[int, Sequence[Call]]], counts_known: bool = True
    ) -> Suspicion | None:
        """What is wrong with calls of either side (0: left). What is known is counted, for those not met before."""
        seen = self.known if counts_known else None
        for number, calls in told:
            if (found := self._problem(number, calls, program.machine, seen)) is not None:
                bucket = _invalidation_bucket(program, found)
                verdict = Verdict("invalidation", bucket, found.call.record, None, None, None, problem=found)
                return Suspicion(bucket, verdict)
        return None

    def _alike(self, program: Program) -> bool:
        """Whether the sides differ in nothing that is compared, on the targets as they are. Raises TargetDied."""
        if self.agree(program):
            return True
        if self.tiers & ORDERED_TIERS:
            return False  # most that differs shows in the events
        return not differences(self.left.observe(program), self.right.observe(program), self.tiers)

    @property
    def _sides(self) -> tuple[Executor, Executor]:
        return self.left, self.right

    def _problem(
        self, number: int, calls: Iterable[Call], machine: Machine, seen: Counter[str] | None = None
    ) -> Problem | None:
        """The first thing that is wrong with calls of one side (0: left), but for what is known of its Linux, which is
        counted in `seen`."""
        for call in calls:
            for one in problems(call, machine):
                if not self._versions:  # asked late, for a kernel may have to be built to tell
                    self._versions = [version_of(side.identity) for side in self._sides]
                listed = known(one, self._versions[number])
                if listed is None:
                    return one
                if seen is not None:
                    seen[listed.key] += 1
        return None

    def _parting(self, program: Program) -> int:
        """How many ops it takes for the sides to part, taking them to stay apart from there on."""
        low, high = 0, len(program.ops)
        while low < high:
            middle = (low + high) // 2
            if self._alike(program.prefix(middle)):
                low = middle + 1
            else:
                high = middle
        return high

    def confirm(self, program: Program, seen: Suspicion) -> Verdict:
        """The verdict on a program that `suspect` saw go wrong, the same on CONFIRMATIONS fresh pairs of targets.

        Raises Unconfirmed, with what was seen, when it is not."""
        first = self.verdict(program)
        again = self.verdict if first is None else lambda program: self._again(program, first)
        verdicts = [first, *(again(program) for _ in range(CONFIRMATIONS - 1))]
        outcomes = [None if verdict is None else verdict.bucket for verdict in verdicts]
        if first is None or len(set(outcomes)) > 1:
            sighting = next((verdict for verdict in verdicts if verdict is not None), seen.sighting)
            raise Unconfirmed(seen.what, sighting, outcomes)
        return replace(first, confirmed=len(verdicts))

    def _again(self, program: Program, verdict: Verdict) -> Verdict | None:
        """The verdict once more, where it was passed."""
        beginning = program.prefix(verdict.record)
        self._refresh()
        if verdict.kind == "invalidation":
            return self._misdirected(beginning)
        again = self._judge(beginning, verdict.record)
        if not isinstance(again, Verdict):
            return None
        # Where a hang is found is chance, and on a busy machine it may not be found at all: it is the same by its op.
        return replace(again, bucket=verdict.bucket) if again.kind == verdict.kind == "hang" else again

    def agree(self, program: Program) -> bool:
        """Whether both sides make the same observation, bit for bit. Raises TargetDied."""
        left, right = self.digests(program)
        return left == right

    def digests(self, program: Program) -> tuple[Digest, Digest]:
        """Both sides' digests; they run at the same time where an executor can."""
        self.left.start(program)
        self.right.start(program)
        return self.left.finish(), self.right.finish()

    def verdict(self, program: Program) -> Verdict | None:
        """The verdict on a program, on fresh targets. None when nothing is wrong with it, as far as its budget tells
        (`doubt`)."""
        self._refresh()
        return self._first(program, self._refresh) or self._misdirected(program)

    def doubt(self, program: Program) -> Inconclusive | None:
        """Why it cannot be told whether the sides agree on the whole of a program that has no verdict; None where they
        do. Raises TargetDied."""
        if self.agree(program):
            return None
        cut = unequal_cut(self.left.observe(program), self.right.observe(program))
        return None if cut is None else Inconclusive(cut)

    def _refresh(self) -> None:
        self.left.refresh()
        self.right.refresh()

    def quick(self, program: Program, kind: str) -> Verdict | None:
        """The verdict on a program, from as few runs as it takes and on the targets as they are, for whoever tries
        thousands. Only one of that `kind` is looked for: `invalidation`, or all the others."""
        length, death = len(program.ops), None
        try:
            if kind == "invalidation" and not self.tiers & ORDERED_TIERS:  # rarer than sides that agree
                found = self._misdirected(program)
                return found if found is not None and self._alike(program) else None
            if self._alike(program):
                return self._misdirected(program) if kind == "invalidation" else None
        except TargetDied as error:
            death = error
        with suppress(TargetDied):
            if length and self._alike(program.prefix(length - 1)):
                judged = self._judge(program, length) if death is None else self._death(program, length, death)
                return judged if isinstance(judged, Verdict) else None
        return self._first(program, lambda: None)

    def _first(self, program: Program, before: Callable[[], None]) -> Verdict | None:
        """The verdict on the first beginning of the program that has one; `before` is called before it is judged."""
        for length in range(len(program.ops) + 1):
            beginning = program.prefix(length)
            agreed = False
            with suppress(TargetDied):  # judged below, where it is told from a death that does not happen again
                agreed = self._alike(beginning)
            if agreed:
                continue
            before()
            judged = self._judge(beginning, length)
            if isinstance(judged, Inconclusive):
                return None
            if judged is not None:
                return judged
        return None

    def _misdirected(self, program: Program) -> Verdict | None:
        """The verdict on a program on which nothing differs, but for what its TLB functions are to do."""
        if not self.tiers & _OF_CALLS:
            return None
        left, right = self.left.observe(program), self.right.observe(program)
        found = None
        for number, side in enumerate((left, right)):
            found = found or self._problem(number, calls_of(side), program.machine)
        if found is None:
            return None
        record, bucket = found.call.record, _invalidation_bucket(program, found)
        beginning = program.prefix(record)
        left, right = self.left.observe(beginning), self.right.observe(beginning)
        return Verdict("invalidation", bucket, record, None, left, right, problem=found)

    def _judge(self, program: Program, record: int) -> Verdict | Inconclusive | None:
        try:
            left, right = self.left.observe(program), self.right.observe(program)
        except TargetDied as error:
            return self._death(program, record, error)
        cut = unequal_cut(left, right)
        if cut is not None and self._floods(program, cut):
            return _flood(cut, left, right)
        if found := differences(left, right, self.tiers, None if cut is None else cut.record):
            return _divergence(found[0], record, left, right)
        return None if cut is None else Inconclusive(cut)

    def _floods(self, program: Program, cut: Cut) -> bool:
        """Whether the side that seems to flood is still cut in that op with a budget of a flood's size."""
        if cut.flooded is None or cut.flood_budget > MAX_BUDGET:
            return False
        machine = program.machine.replace("budget", max(cut.flood_budget, program.machine["budget"]))
        larger = replace(program, machine=machine)
        try:
            again = unequal_cut(self.left.observe(larger), self.right.observe(larger))
        except TargetDied:  # which is another program's finding
            return False
        return again is not None and (again.record, again.flooded) == (cut.record, cut.flooded)

    def _death(self, program: Program, record: int, death: TargetDied) -> Verdict:
        op = program.ops[record - 1].name if record else "init"
        report, is_left = death.report, death.executor is self.left
        other = self.right if is_left else self.left
        try:
            survivor = other.observe(program)
        except TargetDied as error:
            survivor = None
            details = f"{report.details}\n{other.name} died too: {error.report.headline}\n{error.report.details}"
            report = replace(report, details=details)
        left, right = (None, survivor) if is_left else (survivor, None)
        bucket = f"{report.kind}-{op}-{report.place}"
        return Verdict(report.kind, bucket, record, None, left, right, report, death.executor.name)


def _divergence(first: Difference, record: int, left: Observation, right: Observation) -> Verdict:
    where = record if first.record is None else first.record
    return Verdict("divergence", first.bucket, where, first, left, right)


def _sighting(first: Difference, program: Program, left: Observation, right: Observation) -> Verdict:
    """What is not judged yet: the sides part in this program, if not at its last op."""
    return Verdict("divergence", first.bucket, len(program.ops), first, left, right)


def _flood(cut: Cut, left: Observation, right: Observation) -> Verdict:
    return Verdict("flood", f"flood-{cut.op}", cut.record, None, left, right, cut=cut)


def _suspected_death(program: Program, death: TargetDied) -> Suspicion:
    report = death.report
    bucket = f"{report.kind}-{report.place}"
    sighting = Verdict(report.kind, bucket, len(program.ops), None, None, None, report, death.executor.name)
    return Suspicion(f"{report.kind} in {report.place}", sighting)
