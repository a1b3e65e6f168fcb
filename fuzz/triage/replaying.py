"""Findings on disk, looked at again: still there or gone, minimised, and since which commit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuzz.sides import Side
from fuzz.triage.filing import Filer, sides_of, tiers_of, with_kernel
from fuzz.triage.minimise import Minimised, Step, minimise
from harness.compare import Tier
from harness.errors import BadInput, ToolFailure
from harness.executor import Executor
from harness.finding import Finding, load, renew
from harness.judge import Judge, Unconfirmed, Verdict
from harness.outside import shown
from harness.report import verified_against

Sides = tuple[Side, Side]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a finding's program comes to: the verdict with its report, or None where the sides agree; `notes` are to be
    said about the sides then."""

    verdict: Verdict | None
    report: str
    notes: list[str]


def look_again(
    finding: Finding,
    sides: Sides | None = None,
    tiers: frozenset[Tier] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Seen:
    """Run a finding's program on fresh targets: on the sides and in the tiers that it was found with, or on others.

    Raises BadInput for other sides that cannot be, ToolFailure where it cannot be run.
    """
    stored, compared = sides_of(finding), tiers or tiers_of(finding)
    chosen = sides or stored
    with _opened(finding, chosen, say, is_stored=chosen == stored) as (left, right):
        verdict = Judge(left, right, compared).verdict(finding.program)
        if verdict is None:
            return Seen(None, "", verified_against([left.identity, right.identity]))
        filer = Filer(finding.directory, chosen, (left, right), {}, compared)
        return Seen(verdict, filer.report(finding.program, verdict), [])


def report_of(directory: Path, linux: str | None = None) -> str | None:
    """The report on a finding that is still there, on another kernel if `linux` says so; None where it is gone. Raises
    as `look_again` does, and BadInput for what is not a finding."""
    finding = load(directory)
    sides = None if linux is None else with_kernel(sides_of(finding), linux, (), None)
    seen = look_again(finding, sides)
    return None if seen.verdict is None else seen.report


@contextmanager
def _opened(
    finding: Finding, sides: Sides, say: Callable[[str], None], is_stored: bool = True
) -> Iterator[tuple[Executor, Executor]]:
    """Executors for a finding's program. That its own sides cannot be had here is nobody's bad input."""
    try:
        left, right = (side.open(say, [finding.program.machine.granule]) for side in sides)
    except BadInput as error:
        if not is_stored:
            raise
        raise ToolFailure(f"the finding cannot be run again here: {error}") from error
    with closing(left), closing(right):
        yield left, right


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A finding's new program, and its report."""

    minimised: Minimised
    report: str


def shrink(
    finding: Finding, say: Callable[[str], None], told: Callable[[Step], None] = lambda _: None, most: int | None = None
) -> Shrunk:
    """Minimise a finding on the sides and in the tiers it was found with, and renew its directory.

    `say` hears of slow steps of a build, `told` and `most` are those of `minimise`. Raises NotReproduced when it does
    not reproduce; ToolFailure where it cannot be run here, or not every time any more; OSError where the directory
    cannot be written. Then the directory is as it was.
    """
    sides, tiers = sides_of(finding), tiers_of(finding)
    with _opened(finding, sides, say) as (left, right):
        judge = Judge(left, right, tiers)
        found = minimise(finding.program, judge, finding.bucket, told, most)
        try:
            verdict = judge.confirm(found.program, found.verdict.bucket)
        except Unconfirmed as error:
            raise ToolFailure(
                f"{shown(finding.directory)}: minimised, it does not happen every time: it is flaky"
            ) from error
        filer = Filer(finding.directory, sides, (left, right), finding.configuration.get("origin") or {}, tiers)
        more = {"minimised": {"complete": found.complete, "ops_before": len(finding.program.ops), "tries": found.tries}}
        contents = filer.contents(found.program, verdict, **more)
        renew(finding.directory, contents)
        return Shrunk(found, contents.report)
