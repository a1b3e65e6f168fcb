"""Two executors, whose runs of a program are compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from harness.observation.execution import Execution
from harness.observation.executor import Executor, TargetDied
from harness.observation.layout import Observation
from harness.program.probing import PROBE
from harness.program.program import Program
from harness.verdict.compare.difference import Difference
from harness.verdict.compare.differences import differences
from harness.verdict.cuts import Cut, unequal_cut
from harness.verdict.emulator import known_defect, the_emulator
from harness.verdict.tiers import DEFAULT_TIERS, Tier


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides of a program: what they observed and in what that differs, up to where the budget `cut` them apart; or
    the `death` of one of them, where nothing was observed."""

    program: Program
    sides: tuple[Observation, Observation] | None = None
    found: Sequence[Difference] = ()
    cut: Cut | None = None
    death: TargetDied | None = None
    known: tuple[str, ...] = ()
    """`KnownDefect.key` of what else differs, as is known of an emulator."""

    @property
    def is_alike(self) -> bool:
        """Whether nothing that is compared differs."""
        return self.death is None and self.cut is None and not self.found

    @property
    def first_record(self) -> int:
        """The first record in which something differs, as far as records tell it: else the last."""
        told = [one.record for one in self.found if one.record is not None]
        return min(told, default=len(self.program.ops))


class Pair:
    """`left` and `right`, compared in `tiers`. They may be one and the same, which then runs once, and is judged by
    those alone who need no second side."""

    def __init__(self, left: Executor, right: Executor, tiers: frozenset[Tier] = DEFAULT_TIERS) -> None:
        self.left = left
        self.right = right
        self.tiers = tiers

    def run(self, program: Program) -> tuple[Execution, Execution]:
        """Both sides' executions; they run at the same time where an executor can. Raises TargetDied."""
        if self.is_alone:
            self.left.start(program)
            execution = self.left.finish()
            return execution, execution
        self.left.start(program)
        self.right.start(program)
        return self.left.finish(), self.right.finish()

    @property
    def is_alone(self) -> bool:
        """Whether there is no second side."""
        return self.left is self.right

    def agree(self, program: Program) -> bool:
        """Whether both sides make the same observation, bit for bit. Raises TargetDied."""
        left, right = self.run(program)
        return left.digest == right.digest

    def refresh(self) -> None:
        self.left.refresh()
        if not self.is_alone:
            self.right.refresh()

    def locate(self, program: Program, whole: Comparison | None = None) -> Iterator[Comparison]:
        """Where the sides part, on the targets as they are: beginnings of the program on which they are not alike, or
        one dies, the shortest first.

        `whole` is how they part in all of it, where that is known. Then one op fewer is tried first: if they are alike
        there, they have not parted before."""
        length = len(program.ops)
        if whole is not None and length and self.differing(program.prefix(length - 1)) is None:
            yield whole
            return
        for ops in range(length + (whole is None)):
            parted = self.differing(program.prefix(ops))
            if parted is not None:
                yield parted
        if whole is not None:
            yield whole

    def differing(self, program: Program) -> Comparison | None:
        """How the sides differ on the targets as they are, or which of them dies; None where they are alike."""
        try:
            if self.agree(program):
                return None
        except TargetDied as error:
            return Comparison(program, death=error)
        compared = self.compare_all(program)
        return None if compared.is_alike else compared

    def compare_all(self, program: Program) -> Comparison:
        """Both sides' observations, compared, or the death of one."""
        try:
            return self.compare(program)
        except TargetDied as error:
            return Comparison(program, death=error)

    def compare(self, program: Program) -> Comparison:
        """Both sides' observations, compared. Raises TargetDied."""
        left = self.left.observe(program)
        if self.is_alone:
            return Comparison(program, (left, left))
        right = self.right.observe(program)
        cut = unequal_cut(left, right)
        found = differences(left, right, self.tiers, None if cut is None else cut.record)
        found, known = self._without_known(program, left, right, found)
        return Comparison(program, (left, right), found, cut, known=known)

    @property
    def emulator(self) -> tuple[int, str] | None:
        """As `the_emulator` of both sides. Asked late: a kernel may have to be built to tell."""
        return the_emulator(self.left.identity, self.right.identity)

    def _without_known(
        self, program: Program, left: Observation, right: Observation, found: list[Difference]
    ) -> tuple[list[Difference], tuple[str, ...]]:
        """The differences that are not known of an emulator, and `KnownDefect.key` of those that are. Raises
        TargetDied."""
        known: dict[str, None] = {}
        translations = [one for one in found if one.tier is Tier.TRANSLATION]
        emulator = self.emulator if translations else None
        if emulator is None:
            return found, ()
        for one in translations:
            if one not in found or not one.record:
                continue
            op, sides = program.ops[one.record - 1], self._up_to(program, one.record, left, right)
            defect = known_defect(op, one.what, *sides, emulator)
            if defect is None:
                continue
            known[defect.key] = None
            found = [other for other in found if other is not one]
            if op.definition is not PROBE or program.machine["ha"]:  # what comes behind may follow from it
                found = [other for other in found if other.record is not None and other.record < one.record]
        return found, tuple(known)

    def _up_to(
        self, program: Program, record: int, left: Observation, right: Observation
    ) -> tuple[Observation, Observation]:
        """Both sides' observations of the program's beginning up to that record. Raises TargetDied."""
        rest = program.ops[record:]
        if not program.machine["ha"] and all(op.definition is PROBE for op in rest):  # which leave all as it is
            return _first(left, record), _first(right, record)
        beginning = program.prefix(record)
        return self.left.observe(beginning), self.right.observe(beginning)


def _first(seen: Observation, record: int) -> Observation:
    """What was observed, without the records behind that one. Its words are those of the whole."""
    return replace(seen, records=seen.records[: record + 1])
