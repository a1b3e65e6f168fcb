"""Findings on disk, minimised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fuzz.triage import cause
from fuzz.triage.filing import Filer
from fuzz.triage.minimise import Minimised, Step, minimise
from fuzz.triage.recorded import tiers_of
from fuzz.triage.replaying import opened
from harness.amounts import counted
from harness.errors import ToolFailure
from harness.findings.finding import Finding
from harness.findings.writing import renew
from harness.outside import shown
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Suspicion, Unconfirmed


@dataclass(frozen=True, slots=True)
class Shrunk:
    """A finding's new program, and its report."""

    minimised: Minimised
    report: str

    def summary(self, before: Finding) -> str:
        """On one line, what became of the finding as it was before."""
        found = self.minimised
        how = "" if found.complete else ", which was not the end of it"
        return (
            f"{shown(before.directory)}: {counted(len(before.program.ops), 'op')} to {len(found.program.ops)}, in "
            f"{counted(found.tries, 'try', 'tries')}{how}"
        )


def shrink(
    finding: Finding, say: Callable[[str], None], told: Callable[[Step], None] = lambda _: None, most: int | None = None
) -> Shrunk:
    """Minimise a finding on the sides and in the tiers it was found with, and renew its directory.

    `say` hears of slow steps of a build, `told` and `most` are those of `minimise`. Raises NotReproduced when it does
    not reproduce; ToolFailure where it cannot be run here, or not every time any more; OSError where the directory
    cannot be written. Then the directory is as it was.
    """
    tiers = tiers_of(finding)
    with opened(finding, None, say) as (sides, chosen, left, right):
        judge = Judge(left, right, tiers)
        found = minimise(finding.program, judge, finding.bucket, told, most)
        try:
            verdict = judge.confirm(found.program, Suspicion(found.verdict.bucket, found.verdict))
        except Unconfirmed as error:
            raise ToolFailure(
                f"{shown(finding.directory)}: minimised, it does not happen every time: it is flaky"
            ) from error
        filer = Filer(finding.directory, sides, (left, right), finding.configuration.get("origin") or {}, tiers, chosen)
        more = {"minimised": {"complete": found.complete, "ops_before": len(finding.program.ops), "tries": found.tries}}
        contents = filer.contents(found.program, verdict, **more)
        renew(finding.directory, contents)
        cause.tell(finding.directory)
        return Shrunk(found, contents.report)
