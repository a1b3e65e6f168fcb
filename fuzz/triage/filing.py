"""From a verdict to a finding's directory."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz.sides import side_to_json
from fuzz.triage.filed import FLAKY, Filed
from fuzz.triage.recorded import Sides
from harness.findings.promises import blamed
from harness.findings.report import verdict_report
from harness.findings.verified import verified_against
from harness.findings.writing import Contents, save
from harness.observation.executor import Executor
from harness.outside import shown
from harness.program.program import Program
from harness.verdict.tiers import DEFAULT_TIERS, Tier, format_tiers
from harness.verdict.verdicts import Unconfirmed, Verdict


class Filer:
    """Files findings of one run below `out`. `origin` is how the run came by its programs, for the record; `tiers` is
    what the run compares; `ran` are the sides that the executors are of, where they are not those for the record."""

    def __init__(
        self,
        out: Path,
        sides: Sides,
        executors: tuple[Executor, Executor],
        origin: Mapping[str, Any],
        tiers: frozenset[Tier] = DEFAULT_TIERS,
        ran: Sides | None = None,
    ) -> None:
        self.out = out
        self.sides = sides
        self._ran = ran or sides
        self.executors = executors
        self.origin = origin
        self.tiers = tiers
        self.filed: list[Filed] = []
        """Every finding filed. The shortest of a bucket comes first."""

    def report(self, program: Program, verdict: Verdict) -> str:
        """What is wrong, for people, on the sides as they are named here."""
        return self._report(program, verdict, [side.identity for side in self.executors])

    def _report(self, program: Program, verdict: Verdict, identities: Sequence[Mapping[str, str]]) -> str:
        left, right = self.executors
        return verdict_report(program, verdict, (left.name, right.name), verified_against(identities))

    def file(self, program: Program, verdict: Verdict) -> Path:
        """Write the finding's directory, and return it. Raises OSError when it cannot be written."""
        directory = save(self.out, self.contents(program, verdict))
        entry = Filed(verdict.bucket, verdict.kind, directory, len(program.ops), verdict.is_shared)
        if entry not in self.filed:
            self.filed.append(entry)
            buckets = list(dict.fromkeys(one.bucket for one in self.filed))
            self.filed.sort(key=lambda one: (buckets.index(one.bucket), one.ops))
        return directory

    def file_flaky(self, program: Program, error: Unconfirmed) -> Path:
        """Write the directory of what went wrong, but not every time, apart from the findings: with the state that
        differed, and what fresh targets came to. It is none of those `filed`."""
        contents = self.contents(program, error.sighting)
        seen = ", ".join(outcome or "agreement" for outcome in error.outcomes)
        report = f"flaky: seen was {error}; on fresh targets {seen}\n\n{contents.report}"
        flaky = replace(contents, report=report, outcomes=error.outcomes)
        return save(self.out / FLAKY, replace(flaky, documents=self._documents(flaky)))

    def _documents(self, contents: Contents) -> dict[str, str]:
        from fuzz.triage.reproducers import documents, kernel_under_test  # noqa: PLC0415  (for who files, which is seldom)

        return documents(kernel_under_test(self._ran), contents)

    def contents(self, program: Program, verdict: Verdict, **more: Any) -> Contents:
        """What the finding's directory is made of; `more` goes into its finding.json."""
        left, right = self.executors
        names: dict[Path, str] = {}
        for side in self.sides:
            for path in (*side.patches, side.pgtable):
                if path is not None:
                    names.setdefault(path, f"kernel/{len(names)}-{_plain_name(path)}")
        configuration = {
            "left": side_to_json(self.sides[0], names),
            "origin": dict(self.origin),
            "right": side_to_json(self.sides[1], names),
            "tiers": format_tiers(self.tiers),
        }
        identities = {"left": _within(left.identity, names), "right": _within(right.identity, names)}
        contents = Contents(
            program,
            verdict,
            self._report(program, verdict, [*identities.values()]),
            configuration,
            identities,
            {name.removeprefix("kernel/"): path.read_bytes() for path, name in names.items()},
            more={"blamed": list(blamed(program, verdict, (left.name, right.name))), **more},
        )
        return replace(contents, documents=self._documents(contents))


def _within(identity: Mapping[str, str], names: Mapping[Path, str]) -> dict[str, str]:
    """What ran, with the finding's own copies in place of the files that it was built from. A tree of the user's stays
    where it is, and is named by its path."""
    source = identity.get("source", "")
    for path, name in names.items():
        source = source.replace(shown(path), name)
    return {**identity, "source": source} if source else dict(identity)


def _plain_name(path: Path) -> str:
    """A file's name, without the number that an earlier finding gave it."""
    return re.sub(r"^[0-9]+-", "", path.name)
