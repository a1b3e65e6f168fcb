"""Where findings are, and what to do with them."""

from __future__ import annotations

from collections.abc import Sequence

import click

from fuzz.triage.filed import Filed
from fuzz.triage.next_steps import next_steps, pasted
from harness.amounts import counted, number
from harness.findings.finding import Finding, load


def interruption(programs: int, findings: int, seconds: float | None = None, of: int | None = None) -> str:
    """What a run that was cut short had come to: after how many seconds and programs, of how many."""
    after = "" if seconds is None else f"{seconds:.0f} s and "
    after += counted(programs, "program") if of is None else f"{number(programs)} of {counted(of, 'program')}"
    return f"interrupted after {after}: {counted(findings, 'finding') if findings else 'nothing found'} so far"


def print_places(findings: Sequence[Filed], to_stderr: bool = False) -> None:
    """Say where findings are, and what to do with the first of them."""
    for finding in findings:
        click.echo(f"{finding.kind} {finding.bucket}: {pasted(finding.directory)}", err=to_stderr)
    if findings:
        say_next(load(findings[0].directory), to_stderr=to_stderr)


def say_next(finding: Finding, done: str = "", to_stderr: bool = False) -> None:
    """Say what to do with a finding, but for the command that was just `done`."""
    lines = next_steps(finding, done)
    for line in ["", *lines] if lines else []:
        click.echo(line, err=to_stderr)
