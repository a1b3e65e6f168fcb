"""A series of patches, patch by patch: with which of them do programs begin to go wrong, and with which do they cease?

A prefix of a series is a kernel with its first patches: with none, with one, and so on up to all.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

from fuzz.triage.cause import PatchCause
from fuzz.triage.recorded import Sides, recorded_sides_of, tiers_of
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import Finding
from harness.program.program import Program
from harness.verdict.judge import Judge
from harness.verdict.tiers import Tier
from harness.verdict.verdicts import Verdict
from reference.build.series import Patch, read_series

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a program comes to on a prefix: a bucket, None where the sides agree; or why that cannot be told."""

    bucket: str | None = None
    untold: str = ""

    def has(self, bucket: str) -> bool | None:
        """Whether that bucket is there; None where something else is, or it cannot be told."""
        if self.untold or self.bucket not in (None, bucket):
            return None
        return self.bucket == bucket

    def __str__(self) -> str:
        return "cannot be told" if self.untold else self.bucket or "the sides agree"


@dataclass(frozen=True, slots=True)
class Change:
    """Between two prefixes something appears, or disappears; those between the two, if any, cannot tell."""

    before: int
    after: int
    appears: bool


def changes(states: Sequence[bool | None]) -> list[Change]:
    """Where what is seen on the prefixes, from that without any patch on, changes."""
    known = [(number, state) for number, state in enumerate(states) if state is not None]
    return [Change(a, b, after) for (a, before), (b, after) in pairwise(known) if before != after]


def narrowed(has: Callable[[int], bool | None], of: int) -> Change:
    """Of prefixes from 0, which is without it, to `of`, which is with it: two with nothing to be told between them, by
    halving."""
    without, with_it, untold = 0, of, set[int]()
    while left := [number for number in range(without + 1, with_it) if number not in untold]:
        middle = left[len(left) // 2]
        found = has(middle)
        if found is None:
            untold.add(middle)
        elif found:
            with_it = middle
        else:
            without = middle
    return Change(without, with_it, True)


class Prefixes:
    """The prefixes of the series that one of two sides has."""

    def __init__(self, sides: Sides, folder: Path) -> None:
        """Patches go to `folder`, each as a file. Raises BadInput where no side has any, or they cannot be read."""
        self._sides = sides
        self._place = series_in(sides)
        self.patches: Sequence[Patch] = read_series(sides[self._place].patches).patches
        self._files = []
        for number, patch in enumerate(self.patches, start=1):
            name = re.sub(r"[^A-Za-z0-9.]+", "-", patch.subject)[:52]
            self._files.append(folder / f"{number:04}-{name}.patch")
            self._files[-1].write_bytes(patch.diff)

    @property
    def last(self) -> int:
        """The number of the prefix that is the whole series."""
        return len(self.patches)

    def sides(self, number: int) -> Sides:
        """The sides with so many patches. Those that change nothing that is built are left out."""
        used = [file for file, patch in zip(self._files[:number], self.patches, strict=False) if patch.files]
        chosen = list(self._sides)
        chosen[self._place] = replace(chosen[self._place], patches=tuple(used))
        return chosen[0], chosen[1]

    def outcomes(self, number: int, programs: Sequence[Program], tiers: frozenset[Tier], say: Say) -> list[Outcome]:
        """What programs come to with so many patches; `say` hears of slow steps. What does not apply, build or run is
        told in the outcomes."""
        granules = dict.fromkeys(program.machine.granule for program in programs)
        try:
            left, right = (side.open(say, granules) for side in self.sides(number))
        except (BadInput, ToolFailure) as error:
            return [Outcome(untold=_first_line(error))] * len(programs)
        with closing(left), closing(right):
            judge = Judge(left, right, tiers)
            return [_outcome(judge, program) for program in programs]

    def each(self, programs: Sequence[Program], tiers: frozenset[Tier], say: Say) -> Iterator[list[Outcome]]:
        """The outcomes on every prefix, one after the other, from that without any patch on."""
        outcomes: list[Outcome] = []
        for number in range(self.last + 1):
            if number == 0 or self.patches[number - 1].files:
                outcomes = self.outcomes(number, programs, tiers, say)
            yield outcomes

    def describe(self, change: Change) -> str:
        """Which patch it was, with its subject."""
        verb = "brings it" if change.appears else "ends it"
        first, of = self.patches[change.before], self.last
        if change.after == change.before + 1:
            return f"patch {change.after} of {of} {verb}: {first.subject}"
        return f"one of patches {change.before + 1} to {change.after} of {of} {verb}; between them, it cannot be told"


def series_in(sides: Sides) -> int:
    """Which of the sides has patches. Raises BadInput where none has."""
    found = [place for place, side in enumerate(sides) if side.patches]
    if not found:
        raise BadInput("--each goes through a series of patches, and there is none: give one with --patch")
    return found[-1]


def _outcome(judge: Judge, program: Program) -> Outcome:
    try:
        seen = judge.examine(program)
    except (BadInput, ToolFailure) as error:
        return Outcome(untold=_first_line(error))
    if seen is not None and not isinstance(seen, Verdict):
        return Outcome(untold=f"its budget is too small, {seen.cut.describe((judge.left.name, judge.right.name))}")
    return Outcome(None if seen is None else seen.bucket)


def _first_line(error: Exception) -> str:
    """What went wrong, on one line: with what it leads to where it ends in a colon."""
    first, *rest = str(error).splitlines()
    return f"{first} {rest[0].strip()}" if first.endswith(":") and rest else first


@contextmanager
def prefixes_of(sides: Sides) -> Iterator[Prefixes]:
    """The prefixes of the series among the sides, while they are tried. Raises BadInput."""
    with tempfile.TemporaryDirectory(prefix="s2fuzz-") as folder:
        yield Prefixes(sides, Path(folder))


def culprit_of(finding: Finding, say: Say) -> tuple[PatchCause | None, str]:
    """The patch of the finding's own series that brought it, if that can be told; and that, or why not, in words. By
    halving, as a series' patches are many, and mostly one brings it. Raises BadInput."""
    with prefixes_of(recorded_sides_of(finding)) as prefixes:

        def has(number: int) -> bool | None:
            seen = prefixes.outcomes(number, [finding.program], tiers_of(finding), say)[0]
            say(f"{finding.bucket}, with {number} of {prefixes.last} patches: {seen}")
            return seen.has(finding.bucket)

        before = has(0)
        if before is not False:
            return None, "it is there without any patch" if before else "whether it is there without any cannot be told"
        change = narrowed(has, prefixes.last)
        return cause_of(prefixes, change), prefixes.describe(change)


def cause_of(prefixes: Prefixes, change: Change) -> PatchCause | None:
    """A change as what is recorded of a finding; None where it is an end."""
    if not change.appears:
        return None
    return PatchCause(change.before + 1, change.after, prefixes.last, prefixes.patches[change.after - 1].subject)
