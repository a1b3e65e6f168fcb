"""The commands that work on findings."""

from __future__ import annotations

from pathlib import Path

import click

from fuzz import display
from fuzz.options import EXISTING, OK, say
from fuzz.triage import shrink
from harness.finding import load


@click.command()
@click.argument("finding", type=EXISTING)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    help="Stop after so many, with the simplest so far.  [default: when nothing simpler is found]",
)
def tmin(finding: Path, tries: int | None) -> int:
    """Minimise a finding: the simplest program that still falls into its bucket.

    Leaves out ops, merges them, gives the machine its default settings, clears flags, shrinks sizes and moves
    addresses, until nothing of it helps. The finding's directory is replaced at once and keeps the first program, as
    original.s2. Exit status: 0 done, 2 does not reproduce.
    """
    found = load(finding)
    with display.minimising(len(found.program.ops)) as told:
        shrunk = shrink(found, say, told, tries)
    result = shrunk.minimised
    click.echo(shrunk.report, nl=False)
    click.echo()
    how = "" if result.complete else ", which was not the end of it"
    click.echo(f"{finding}: {len(found.program.ops)} ops to {len(result.program.ops)}, in {result.tries} tries{how}")
    return OK
