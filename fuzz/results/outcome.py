"""What a run came to, as a list of tests: what every format is written from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Final

from fuzz.sides import Side
from fuzz.triage.recorded import Sides
from fuzz.triage.result import Result
from harness.findings.finding import Finding
from harness.outside import printable

if TYPE_CHECKING:
    from fuzz.triage.replaying import Seen


class Status(Enum):
    """What a test came to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """It did not run, was cut short, or what it shows was known before."""
    BROKEN = "broken"
    """The tool or its environment failed: nobody can tell."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two sides, and the granule of the programs that ran on them."""

    sides: Sides
    granule: str

    @property
    def name(self) -> str:
        """The sides, in words."""
        left, right = self.sides
        return f"{left.full_name} against {right.full_name}"

    @property
    def kernel(self) -> Side | None:
        """The kernel under test: the last one; None where both sides are models."""
        return next((side for side in reversed(self.sides) if side.is_kernel), None)


@dataclass(frozen=True, slots=True)
class Test:
    """One thing that was tested. `name` is the bucket of what fuzzing found, or the program that ran."""

    name: str
    comparison: Comparison
    status: Status = Status.PASSED
    why: str = ""
    """On one line: what failed, or why it was skipped."""
    report: str = ""
    """Lines on what is wrong."""
    findings: tuple[Result, ...] = ()
    """What was kept of it, all of one bucket; those that count as new come first."""
    seconds: float | None = None

    @property
    def bucket(self) -> str:
        """Of its findings; empty where there are none."""
        return self.findings[0].finding.bucket if self.findings else ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A run of `command`: its tests in the order in which they are to be told, and what else to say of it, `about`."""

    command: str
    tests: tuple[Test, ...]
    began: datetime
    about: Mapping[str, str] = field(default_factory=dict)
    origin: str = "s2fuzz"
    """The name under which KCIDB knows whoever ran it."""

    def merged(self) -> list[Test]:
        """The tests, each name once: what was found by several comparisons is one test, of the first of them."""
        found: dict[str, list[Test]] = {}
        for test in self.tests:
            found.setdefault(test.name, []).append(test)
        return [_one(tests) for tests in found.values()]


_WORST_FIRST: Final = (Status.BROKEN, Status.FAILED, Status.SKIPPED, Status.PASSED)


def worst(statuses: Iterable[Status]) -> Status:
    """What several tests come to together: skipped only where all of them are."""
    found = set(statuses)
    if found == {Status.SKIPPED, Status.PASSED}:
        return Status.PASSED
    return next((status for status in _WORST_FIRST if status in found), Status.PASSED)


def _one(tests: Sequence[Test]) -> Test:
    status = worst(test.status for test in tests)
    first = next((test for test in tests if test.status is status), tests[0])
    findings = sorted((result for test in tests for result in test.findings), key=lambda result: bool(result.known))
    seconds = [test.seconds for test in tests if test.seconds is not None]
    return replace(first, status=status, findings=tuple(findings), seconds=max(seconds, default=None))


def others(test: Test) -> list[str]:
    """A line on each of a test's findings but for the first, whose report is the test's."""
    return [
        f"also {printable(result.finding.directory.name)}: {len(result.finding.program.ops)} ops, pages of "
        f"{result.finding.program.machine.granule.name}" + (f" (known: {result.known})" if result.known else "")
        for result in test.findings[1:]
    ]


def bucket_test(comparison: Comparison, results: Sequence[Result]) -> Test:
    """The findings of one bucket as a test: failed, unless all of them are known. Raises OSError."""
    ordered = tuple(sorted(results, key=lambda result: (bool(result.known), len(result.finding.program.ops))))
    first = ordered[0]
    status = Status.SKIPPED if first.known else Status.FAILED
    why = f"{first.headline}: {first.known}" if first.known else first.headline
    return Test(first.finding.bucket, comparison, status, why, first.report, ordered)


def replayed(finding: Finding, sides: Sides, seen: Seen | None = None) -> Test:
    """A finding that was run again, or is to be: failed, if anything is `seen`; passed, if the sides agree where it was
    found."""
    test = Test(finding.bucket, Comparison(sides, finding.program.machine.granule.name))
    if seen is None:
        return test
    if seen.verdict is None:
        return replace(test, status=Status.BROKEN, why=seen.untold, report=seen.untold) if seen.untold else test
    bucket = seen.verdict.bucket
    why = f"{seen.verdict.kind}: {bucket}" + ("" if bucket == finding.bucket else f", it was {finding.bucket}")
    report = "\n".join(map(printable, seen.report.splitlines()))
    found = replace(finding, kind=seen.verdict.kind, bucket=bucket)
    return replace(test, status=Status.FAILED, why=why, report=report, findings=(Result(found),))


def broken(test: Test, error: Exception) -> Test:
    """The test where the tool failed before anybody could tell."""
    lines = [printable(line) for line in str(error).splitlines()] or [type(error).__name__]
    return replace(test, status=Status.BROKEN, why=lines[0], report="\n".join(lines))
