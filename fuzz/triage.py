"""From a finding on disk to a smaller one: opened, minimised, confirmed and put in its place."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from fuzz.filing import Filer, sides_of, tiers_of
from fuzz.minimise import Minimised, Step, minimise
from harness.errors import BadInput, ToolFailure
from harness.finding import Finding, renew
from harness.judge import Judge, Unconfirmed


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
    not reproduce, or no longer every time; ToolFailure where it cannot be run here; OSError where the directory cannot
    be written. Then the directory is as it was.
    """
    sides, tiers = sides_of(finding), tiers_of(finding)
    try:
        left, right = (side.open(say, [finding.program.machine.granule]) for side in sides)
    except BadInput as error:
        raise ToolFailure(f"the finding cannot be run again here: {error}") from error
    with closing(left), closing(right):
        judge = Judge(left, right, tiers)
        found = minimise(finding.program, judge, finding.bucket, told, most)
        try:
            verdict = judge.confirm(found.program, found.verdict.bucket)
        except Unconfirmed as error:
            raise ToolFailure(f"{finding.directory}: minimised, it does not happen every time: it is flaky") from error
        filer = Filer(finding.directory, sides, (left, right), finding.configuration.get("origin") or {}, tiers)
        more = {"minimised": {"complete": found.complete, "ops_before": len(finding.program.ops), "tries": found.tries}}
        contents = filer.contents(found.program, verdict, **more)
        renew(finding.directory, contents)
        return Shrunk(found, contents.report)
