"""Runs programs on two executors and says what came of it: agreement, a divergence, a flood, a crash or a hang.

A finding is judged on what both sides observe when they run the program alone; where the sides first part is found by
running ever longer beginnings of it. Where the budget cuts the sides at different events, what lies before is judged,
and the rest is inconclusive (`harness/verdict/cuts.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from harness.observation.calls import Call, calls_of
from harness.observation.execution import Execution
from harness.observation.executor import Executor, TargetDied
from harness.observation.layout import Observation
from harness.program.machine import MAX_BUDGET, Machine
from harness.program.program import Program
from harness.verdict.compare.differences import differences
from harness.verdict.cuts import Cut, unequal_cut
from harness.verdict.hardware import HardwareJudge, judged_of, verdict_of_one
from harness.verdict.invalidation import Problem, problems
from harness.verdict.known import known, version_of
from harness.verdict.pair import Comparison
from harness.verdict.tiers import ORDERED_TIERS, Tier
from harness.verdict.tlb.judge import Judgement
from harness.verdict.verdicts import FirstLook, Inconclusive, Suspicion, Unconfirmed, Verdict

CONFIRMATIONS: Final = 3
"""How many fresh pairs of targets a finding is seen on before it is one."""

_UNTOLD: Final = Verdict("divergence", "digests-once", 0, None, None, None)
"""Seen by their digests alone."""
_OF_CALLS: Final = frozenset({Tier.INSTRUCTIONS, Tier.EFFECTS})
"""Tiers with which the TLB functions are judged by themselves."""
_OF_ONE_SIDE: Final = frozenset({"stale", "abort", "contract"})
"""Kinds of verdicts that the hardware judge passes on one side."""
_UNTOLD_CALLS: Final = 64
"""Of so many programs the TLB functions are looked at in one, where no side tells them."""


def _invalidation_bucket(program: Program, found: Problem) -> str:
    op = program.ops[found.call.record - 1].name if found.call.record else "init"
    return f"invalidation-{op}-{found.call.event.name}-{found.what}"


class Judge(HardwareJudge):
    """Compares `left` with `right` in `tiers`, and judges what differs."""

    def check(self, program: Program) -> Verdict | Inconclusive | None:
        """None when the sides agree. Raises Unconfirmed when what was seen did not happen again on fresh targets."""
        seen = self.suspect(program)
        return self.confirm(program, seen) if isinstance(seen, Suspicion) else seen

    def check_with_probes(self, program: Program) -> tuple[Program, Verdict | Inconclusive | None]:
        """The same, where the sides agree with probes at the program's end as well; and the program that it is said of.
        Raises as `check` does."""
        verdict = self.check(program)
        if verdict is not None or (probed := self.with_probes(program)) is program:
            return program, verdict
        verdict = self.check(probed)
        return (program if verdict is None else probed), verdict

    def suspect(self, program: Program) -> Suspicion | Inconclusive | None:
        """What seems to be wrong, from a few runs on the targets as they are. None when the sides agree."""
        suspicion = self.look(program).suspicion
        return self.look_deeper(program).suspicion if suspicion is None else suspicion

    def look(self, program: Program) -> FirstLook:
        """The same, with what the execution told besides."""
        seen = FirstLook()
        try:
            seen.suspicion = self._suspect(program, seen)
        except TargetDied as error:
            seen.suspicion = _suspected_death(program, error)
        return seen

    def look_deeper(self, program: Program, promises: bool = True) -> FirstLook:
        """What the hardware says of a program that came to nothing so far, best of one `with_probes`: translations, and
        what a TLB may still hold; and what `promises` are broken. Nothing where it is not to judge."""
        seen = FirstLook()
        if not self.judges_hardware:
            return seen
        try:
            if self.is_alone:
                left = self.left.observe(program)
                seen.is_same, seen.witnessed = True, bool(left.witnesses)
                seen.suspicion = self._suspect_a_side(program, left, seen, promises)
                return seen
            self.right.start(program)
            left = self.left.observe(program)
            right = self.right.finish()
            seen.is_same, seen.witnessed = left.digest == right.digest, bool(left.witnesses or right.witnessed)
            if not seen.is_same:
                seen.suspicion = self._suspect(program, seen)
            if seen.suspicion is None:
                seen.suspicion = self._suspect_a_side(program, left, seen, promises)
        except TargetDied as error:
            seen.suspicion = _suspected_death(program, error)
        return seen

    def _suspect_a_side(self, program: Program, left: Observation, seen: FirstLook, promises: bool) -> Suspicion | None:
        """What a TLB may hold and must not, how aborts are handled, and what promises are broken. Where the sides did
        the same, one stands for both, but for what it saw."""
        judgement = Judgement(program, left)
        seen.judged = judged_of(program, left, judgement.allowed)
        found = verdict_of_one(program, left, judgement, self.left)
        right = None if seen.is_same and not seen.witnessed else self.right.observe(program)
        if found is None and right is not None:
            found = verdict_of_one(program, right, Judgement(program, right), self.right)
        if found is None and promises:
            found = self.broken_promise(program, left, None if seen.is_same else right, judgement)
        return None if found is None else Suspicion(found.bucket, found)

    def _suspect(self, program: Program, seen: FirstLook) -> Suspicion | Inconclusive | None:
        left, right = self.run(program)
        seen.feedback = right.feedback if left.feedback is None else left.feedback
        seen.witnessed = bool(left.witnessed or right.witnessed)
        seen.is_same = left.digest == right.digest
        if seen.is_same:
            return self._suspect_invalidation(program, left, right, seen)
        whole = self.compare(program)
        assert whole.sides is not None
        if whole.sides[0].words == whole.sides[1].words:
            return Suspicion("the digests differed once, the observations did not", _UNTOLD)
        if whole.cut is not None:
            return self._suspect_before(program, whole.cut, seen)
        seen.known += whole.known
        if whole.is_alike:
            return self._suspect_calls(program, whole.sides, left.new_calls, seen)
        sighting = self._sighting(self._parting(whole))
        return Suspicion(sighting.bucket, sighting)

    def _parting(self, whole: Comparison) -> Comparison:
        """The shortest beginning in which the sides differ; the whole where they do not do so again. Raises
        TargetDied."""
        beginning = whole.program.prefix(whole.first_record)
        parted = whole if whole.first_record == len(whole.program.ops) else self.compare(beginning)
        shortest = next(self.locate(beginning, None if parted.is_alike else parted), whole)
        if shortest.death is not None:
            raise shortest.death
        return shortest if shortest.found else whole

    def _suspect_before(self, program: Program, cut: Cut, seen: FirstLook) -> Suspicion | Inconclusive:
        """What seems to be wrong before the budget cuts the sides at different events; if nothing, what of the cut."""
        if cut.record:
            before = self.look(program.prefix(cut.record - 1))
            seen.known += before.known
            if before.suspicion is not None:
                return before.suspicion
        beginning = program.prefix(cut.record)
        left, right = self.left.observe(beginning), self.right.observe(beginning)
        if cut.flooded is not None:
            sighting = _flood(cut, left, right)
        elif found := differences(left, right, self.tiers, cut.record):
            sighting = self.divergence(found[0], len(beginning.ops), left, right)
        else:
            return Inconclusive(cut)
        return Suspicion(sighting.bucket, sighting)

    def _suspect_invalidation(
        self, program: Program, left: Execution, right: Execution, seen: FirstLook
    ) -> Suspicion | None:
        """What is wrong with a TLB function that both sides agree on. A side may tell its calls; two that cannot are
        asked now and then."""
        if not self.tiers & _OF_CALLS:
            return None
        mine, theirs = left.new_calls, right.new_calls
        if mine is None and theirs is None and left.digest.crc % _UNTOLD_CALLS == 0:
            mine = list(calls_of(self.left.observe(program)))
        suspicion = None
        if mine:
            suspicion = self._suspected_call(program, self.left, mine, seen)
        if theirs and suspicion is None:
            suspicion = self._suspected_call(program, self.right, theirs, seen)
        return suspicion

    def _suspect_calls(
        self,
        program: Program,
        sides: tuple[Observation, Observation],
        new_calls: Sequence[Call] | None,
        seen: FirstLook,
    ) -> Suspicion | None:
        """What is wrong with a TLB function, where the sides may differ in when they call it. `new_calls` are those
        that the left one told."""
        if not self.tiers & _OF_CALLS:
            return None
        mine = list(calls_of(sides[0]))
        suspicion = self._suspected_call(program, self.left, mine if new_calls is None else new_calls, seen)
        if suspicion is not None:
            return suspicion
        done = {(call.event, call.instructions, call.whose) for call in mine}
        others = [call for call in calls_of(sides[1]) if (call.event, call.instructions, call.whose) not in done]
        return self._suspected_call(program, self.right, others, None)

    def _suspected_call(
        self, program: Program, side: Executor, calls: Iterable[Call], seen: FirstLook | None
    ) -> Suspicion | None:
        """What is wrong with calls of a side. What is known of them is noted in `seen`."""
        found, listed = _problem(side, calls, program.machine)
        if seen is not None:
            seen.known += listed
        if found is None:
            return None
        bucket = _invalidation_bucket(program, found)
        verdict = Verdict("invalidation", bucket, found.call.record, None, None, None, problem=found)
        return Suspicion(bucket, verdict)

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
        self.refresh()
        if verdict.kind == "invalidation":
            return self._misdirected(beginning)
        if verdict.kind in _OF_ONE_SIDE:
            return self.of_one_side(beginning)
        again = self._judge(self.compare_all(beginning))
        if not isinstance(again, Verdict):
            return None
        # Where a hang is found is chance, and on a busy machine it may not be found at all: it is the same by its op.
        return replace(again, bucket=verdict.bucket) if again.kind == verdict.kind == "hang" else again

    def verdict(self, program: Program) -> Verdict | None:
        """The verdict on a program, on fresh targets. None when nothing is wrong with it, as far as its budget
        tells."""
        examined = self.examine(program)
        return examined if isinstance(examined, Verdict) else None

    def examine(self, program: Program) -> Verdict | Inconclusive | None:
        """The verdict on a program, on fresh targets; or why it cannot be told whether the sides agree on the whole of
        it. None when they do."""
        self.refresh()
        doubt = None
        for parted in self.locate(program):
            self.refresh()
            judged = self._judge(self.compare_all(parted.program))
            if isinstance(judged, Verdict):
                return judged
            if judged is not None:
                doubt = judged
                break
        return self._misdirected(program) or self.of_one_side(program) or doubt

    def quick(self, program: Program, kind: str) -> Verdict | None:
        """The verdict on a program, from as few runs as it takes and on the targets as they are, for whoever tries
        thousands. Only one of that `kind` is looked for: `invalidation`, `stale`, `abort`, `contract`, or all
        others."""
        if kind in _OF_ONE_SIDE:
            found = self.of_one_side(program)
            if found is None or found.kind != kind or self._quick(self.differing(program)) is not None:
                return None
            return found if self._misdirected(program) is None else None
        if kind != "invalidation":
            return self._quick(self.differing(program))
        if self.tiers & ORDERED_TIERS:
            return self._misdirected(program) if self.differing(program) is None else None
        found = self._misdirected(program)  # rarer than sides that agree
        return found if found is not None and self._quick(self.differing(program)) is None else None

    def _quick(self, whole: Comparison | None) -> Verdict | None:
        """The verdict on a program whose sides part, or not."""
        if whole is None:
            return None
        for parted in self.locate(whole.program, whole):
            judged = self._judge(parted)
            if judged is not None:
                return judged if isinstance(judged, Verdict) else None
        return None

    def _misdirected(self, program: Program) -> Verdict | None:
        """The verdict on a program on which nothing differs, but for what its TLB functions are to do."""
        if not self.tiers & _OF_CALLS:
            return None
        left, right = self.left.observe(program), self.right.observe(program)
        found, _ = _problem(self.left, calls_of(left), program.machine)
        if found is None:
            found, _ = _problem(self.right, calls_of(right), program.machine)
        if found is None:
            return None
        record, bucket = found.call.record, _invalidation_bucket(program, found)
        beginning = program.prefix(record)
        left, right = self.left.observe(beginning), self.right.observe(beginning)
        return Verdict("invalidation", bucket, record, None, left, right, problem=found)

    def _judge(self, compared: Comparison) -> Verdict | Inconclusive | None:
        """What is wrong with a program at its last op."""
        if compared.death is not None:
            return self._death(compared.program, compared.death)
        assert compared.sides is not None
        cut, found = compared.cut, compared.found
        if cut is not None and self._floods(compared.program, cut):
            return _flood(cut, *compared.sides)
        if found:
            record = len(compared.program.ops) if found[0].record is None else found[0].record
            return self.divergence(found[0], record, *compared.sides)
        return None if cut is None else Inconclusive(cut)

    def _sighting(self, parted: Comparison) -> Verdict:
        """What is not judged yet: the sides part in this program, if not at its last op."""
        assert parted.sides is not None
        return self.divergence(parted.found[0], len(parted.program.ops), *parted.sides)

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

    def _death(self, program: Program, death: TargetDied) -> Verdict:
        record = len(program.ops)
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


def _problem(side: Executor, calls: Iterable[Call], machine: Machine) -> tuple[Problem | None, tuple[str, ...]]:
    """The first thing that is wrong with calls of a side, but for what is known of its Linux; and what is known that
    came before that."""
    listed: list[str] = []
    for call in calls:
        for one in problems(call, machine):
            entry = known(one, version_of(side.identity))  # asked late: a kernel may have to be built to tell
            if entry is None:
                return one, tuple(listed)
            listed.append(entry.key)
    return None, tuple(listed)


def _flood(cut: Cut, left: Observation, right: Observation) -> Verdict:
    return Verdict("flood", f"flood-{cut.op}", cut.record, None, left, right, cut=cut)


def _suspected_death(program: Program, death: TargetDied) -> Suspicion:
    report = death.report
    bucket = f"{report.kind}-{report.place}"
    sighting = Verdict(report.kind, bucket, len(program.ops), None, None, None, report, death.executor.name)
    return Suspicion(f"{report.kind} in {report.place}", sighting)
