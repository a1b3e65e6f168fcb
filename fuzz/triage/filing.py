"""From a verdict to a finding's directory, and from a finding back to the sides it was found with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from fuzz.sides import Side, follow, side_from_json, side_to_json
from harness.errors import BadInput
from harness.findings.finding import Contents, Finding, save
from harness.findings.report import verdict_report, verified_against
from harness.observation.executor import Executor
from harness.outside import read_plain, shown
from harness.program.program import Program
from harness.verdict.tiers import DEFAULT_TIERS, Tier, format_tiers, parse_tiers
from harness.verdict.verdicts import Unconfirmed, Verdict
from reference.build.sources import repository_of

Sides = tuple[Side, Side]

FLAKY: Final = "flaky"
"""The folder beside the findings for what does not happen every time."""
_MAX_KERNEL_FILE: Final = 16 << 20
"""Bytes of a file that came with a finding."""


@dataclass(frozen=True, slots=True)
class Filed:
    """A finding that a run has filed, and of which class it is, as whoever started the run is told."""

    bucket: str
    kind: str
    directory: Path
    ops: int

    def to_json(self) -> dict[str, Any]:
        """As `smoke --json` prints it, too."""
        return {"bucket": self.bucket, "class": self.kind, "directory": str(self.directory), "ops": self.ops}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Filed:
        """What `to_json` made."""
        return cls(data["bucket"], data["class"], Path(data["directory"]), data["ops"])


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
        entry = Filed(verdict.bucket, verdict.kind, directory, len(program.ops))
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
            more=more,
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


def sides_of(finding: Finding) -> Sides:
    """The sides a finding was found with; its kernel files are those kept beside it. Raises BadInput."""
    try:
        left, right = finding.configuration["left"], finding.configuration["right"]
    except KeyError as error:
        raise BadInput(f"{shown(finding.directory)}: the configuration lacks {error}") from error
    sides = side_from_json(left, finding.directory), side_from_json(right, finding.directory)
    kept = finding.directory / "kernel"
    for side in sides:
        for path in (*side.patches, side.pgtable):
            if path is None:
                continue
            if path.parent != kept:  # it came from somebody else, perhaps
                raise BadInput(f"{shown(finding.directory)}: {shown(path)} is not one of the finding's own files")
            if os.path.lexists(path):
                read_plain(path, _MAX_KERNEL_FILE, "a kernel's file", finding.directory)
    return sides


def recorded_sides_of(finding: Finding) -> Sides:
    """The same, with the commits that ran in place of a branch, which may have moved since, or of a working tree that
    was as in its commit. Raises BadInput."""
    return as_recorded(finding, sides_of(finding))


def kernel_of(finding: Finding) -> Side | None:
    """Of `recorded_sides_of` a finding the last one that is a kernel: the one under test. Raises BadInput."""
    return next((side for side in reversed(recorded_sides_of(finding)) if side.kind == "kernel"), None)


def as_recorded(finding: Finding, stored: Sides) -> Sides:
    """Of `sides_of` a finding, those of `recorded_sides_of`: the same ones where there is no other commit."""
    left, right = stored
    return _at_commit(left, finding.identities.get("left", {})), _at_commit(right, finding.identities.get("right", {}))


def _at_commit(side: Side, identity: Mapping[str, str]) -> Side:
    commit, repository = identity.get("commit", ""), repository_of(side.what)
    known = side.kind == "kernel" and repository is not None and re.fullmatch(r"[0-9a-f]{40,64}", commit)
    return replace(side, what=f"{repository}@{commit}") if known and not identity.get("commit_changed") else side


def tiers_of(finding: Finding) -> frozenset[Tier]:
    """The tiers a finding was found with; all, where it does not say. Raises BadInput."""
    return parse_tiers(str(finding.configuration.get("tiers", format_tiers(DEFAULT_TIERS))))


def with_kernel(sides: Sides, linux: str | None, patches: tuple[Path, ...], pgtable: Path | None) -> Sides:
    """The same sides with another kernel on the last kernel side, for `replay --linux fixed-tree`. A model among them
    becomes the one that follows another version's kernel."""
    chosen = list(sides)
    index = max((i for i, side in enumerate(chosen) if side.is_kernel), default=None)
    if index is None:
        raise BadInput("there is no kernel among the sides in whose place another could be put")
    what = chosen[index].what if linux is None else linux
    kernel = chosen[index] = replace(chosen[index], what=what, patches=patches, pgtable=pgtable)
    if linux is not None:
        chosen = [follow(side, kernel) for side in chosen]
    return chosen[0], chosen[1]
