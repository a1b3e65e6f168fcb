"""A finding as a result of the run that has filed it."""

from __future__ import annotations

from dataclasses import dataclass

from harness.findings.finding import Finding, report_in
from harness.outside import printable


@dataclass(frozen=True, slots=True)
class Result:
    """A finding of the run; `known` is why it is not the change's doing, empty where it is."""

    finding: Finding
    known: str = ""

    @property
    def report(self) -> str:
        """The report in its directory, fit for a page. Raises OSError."""
        return "\n".join(map(printable, report_in(self.finding.directory).splitlines()))

    @property
    def headline(self) -> str:
        return f"{self.finding.kind}: {self.finding.bucket}"
