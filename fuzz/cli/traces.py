"""The command that tells a program's events to other tools."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any, Final

import click

from fuzz.cli.chosen import sides_from
from fuzz.cli.options import EXISTING, FINDING, OK, kernel_options, say
from harness.findings.place import program_in
from harness.findings.report import event_report
from harness.findings.traces.casemate import casemate_trace
from harness.findings.traces.structured import json_trace
from harness.observation.executor import TargetDied
from harness.observation.layout import Observation
from harness.outside import shown
from harness.program.program import Program

_FORMATS: Final = ("text", "json", "casemate")


@click.command()
@click.argument("program", type=EXISTING)
@click.option(
    "--format",
    "form",
    type=click.Choice(_FORMATS),
    default="text",
    show_default=True,
    help="For people, for scripts, or what the offline checker of casemate reads.",
)
@click.option(
    "--on", type=click.Choice(("left", "right")), default="right", show_default=True, help="Of which of the two sides."
)
@kernel_options
def trace(program: Path, form: str, on: str, **kernel: Any) -> int:
    """Print a program's boundary events: stores to entries, barriers, TLB invalidations.

    casemate knows tables of 4K pages with 48 bits of address, and no invalidation of ranges; a program that it has no
    words for is refused, with the reason: exit status 2. docs/traces.md says what is told, and how.
    """
    loaded = program_in(program)
    side = sides_from(**kernel)[on == "right"]
    with closing(side.open(say)) as executor:
        try:
            observation = executor.observe(loaded)
        except TargetDied as error:
            say(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
            return FINDING
    click.echo(_trace(loaded, observation, form, shown(program)), nl=False)
    return OK


def _trace(program: Program, observation: Observation, form: str, name: str) -> str:
    if form == "casemate":
        return casemate_trace(program, observation, name)
    if form == "json":
        return json_trace(program, observation)
    return "".join(f"{line}\n" for line in event_report(program, observation))
