"""The command that minimises a finding."""

from __future__ import annotations

from pathlib import Path

import click

from fuzz.cli.options import EXISTING, OK, say, show_line
from fuzz.cli.places import say_next
from fuzz.cli.spinners import minimising
from fuzz.triage.shrinking import shrink
from harness.findings.finding import load


@click.command()
@click.argument("finding", type=EXISTING)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    help="Stop after so many, with the simplest so far.  [default: when nothing simpler is found]",
)
def tmin(finding: Path, tries: int | None) -> int:
    """Minimise a finding: the simplest program that still falls into its bucket.

    Leaves out ops, merges them, lets one do another's work, gives the machine its default settings, clears flags,
    shrinks sizes and moves addresses, until nothing of it helps. The finding's directory is replaced at once and keeps
    the first program, as original.s2. Exit status: 0 done, 2 does not reproduce.
    """
    found = load(finding)
    with minimising(len(found.program.ops)) as told:
        shrunk = shrink(found, say, told, tries)
    click.echo(shrunk.report, nl=False)
    click.echo()
    show_line(shrunk.summary(found))
    say_next(load(finding), "tmin")
    return OK
