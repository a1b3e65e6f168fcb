"""What `--each` prints: a series of patches, patch by patch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import click

from fuzz.cli.options import say, show_line
from fuzz.triage.cause import PatchCause, record
from fuzz.triage.patch_by_patch import Outcome, Prefixes, cause_of, changes, culprit_of, prefixes_of
from fuzz.triage.recorded import Sides, recorded_sides_of
from harness.amounts import counted
from harness.findings.finding import Finding, load
from harness.outside import shown
from harness.program.program import Program
from harness.verdict.tiers import Tier


def replay_each(finding: Finding, sides: Sides, tiers: frozenset[Tier], is_its_own: bool) -> None:
    """A finding on every prefix, in a table. Where the series is the finding's own, the patch that brought it is kept
    with it. Raises BadInput."""
    with prefixes_of(sides) as prefixes:
        outcomes = [seen for (seen,) in prefixes.each([finding.program], tiers, say)]
        _table(prefixes, outcomes)
        found = changes([seen.has(finding.bucket) for seen in outcomes])
        for change in found:
            show_line(prefixes.describe(change))
            cause = cause_of(prefixes, change)
            if is_its_own and cause is not None:
                record(finding.directory, cause)
        if not found and outcomes[0].has(finding.bucket):
            show_line("it is there without any of the patches")
        click.echo()


Causes = Mapping[tuple[Program, str], PatchCause]
"""By program and bucket, the patch that brought it."""


def run_each(programs: Sequence[tuple[Path, Program]], sides: Sides, tiers: frozenset[Tier]) -> Causes:
    """Programs on every prefix: a table for each that does not agree on all of them. Raises BadInput."""
    causes = {}
    with prefixes_of(sides) as prefixes:
        rows = list(prefixes.each([program for _, program in programs], tiers, say))
        agreed = 0
        for (path, program), outcomes in zip(programs, zip(*rows, strict=True), strict=True):
            buckets = list(dict.fromkeys(seen.bucket for seen in outcomes if seen.bucket is not None))
            if not buckets and not any(seen.untold for seen in outcomes):
                agreed += 1
                continue
            show_line(f"{shown(path)}:")
            _table(prefixes, outcomes)
            for bucket in buckets:
                for change in changes([seen.has(bucket) for seen in outcomes]):
                    show_line(f"  {bucket}: {prefixes.describe(change)}")
                    cause = cause_of(prefixes, change)
                    if cause is not None:
                        causes[program, bucket] = cause
        if agreed:
            show_line(f"{counted(agreed, 'program')}: the sides agree, whatever number of patches")
        click.echo()
    return causes


def record_causes(causes: Causes, directories: Iterable[Path]) -> None:
    """Keep with findings what brought them, as far as that is known. Raises BadInput, OSError."""
    for directory in directories:
        finding = load(directory)
        cause = causes.get((finding.program, finding.bucket))
        if cause is not None:
            record(directory, cause)


def _table(prefixes: Prefixes, outcomes: Sequence[Outcome]) -> None:
    """A line for each prefix: how many patches, what is seen, the subject of the last of them."""
    labels = ["none", *(f"{number}/{prefixes.last}" for number in range(1, prefixes.last + 1))]
    subjects = ["", *(patch.subject for patch in prefixes.patches)]
    width, wide = max(map(len, labels)), max(len(str(seen)) for seen in outcomes)
    for label, seen, subject in zip(labels, outcomes, subjects, strict=True):
        show_line(f"  {label:>{width}}  {seen!s:<{wide}}  {subject}".rstrip())
        if seen.untold:
            show_line(f"  {'':>{width}}    {seen.untold}")


def smoke_each(findings: Iterable[Finding]) -> None:
    """The patch that brought each of a run's findings, one of a bucket, by halving; it is kept with the finding."""
    first: dict[str, Finding] = {}
    for finding in findings:
        first.setdefault(finding.bucket, finding)
    for finding in first.values():
        if not any(side.patches for side in recorded_sides_of(finding)):  # of --also
            continue
        cause, words = culprit_of(finding, say)
        say(f"{finding.bucket}: {words}")
        if cause is not None:
            record(finding.directory, cause)
