"""The command that shows what a program does, on one side."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import click

from fuzz.cli.chosen import sides_from
from fuzz.cli.options import EXISTING, FINDING, OK, kernel_options, say
from harness.findings.place import program_in
from harness.findings.report import observation_text
from harness.observation.executor import TargetDied


@click.command()
@click.argument("program", type=EXISTING)
@click.option(
    "--on",
    type=click.Choice(("left", "right")),
    help="Which of the two sides to show.  [default: left, the model; right if a kernel is chosen]",
)
@click.option("--maplets", is_flag=True, help="Show what the tables say in the end too, by ranges of addresses.")
@click.option("--events", is_flag=True, help="Show every op's boundary events too.")
@kernel_options
def show(program: Path, on: str | None, maplets: bool, events: bool, **kernel: Any) -> int:
    """Show what a program does: every result, and the resulting tree, decoded."""
    loaded = program_in(program)
    sides = sides_from(**kernel)
    chooses_kernel = any(kernel[name] not in (None, ()) for name in ("linux", "patches", "pgtable", "flavour"))
    side = sides[1 if (on or ("right" if chooses_kernel else "left")) == "right" else 0]
    with closing(side.open(say)) as executor:
        try:
            click.echo(observation_text(loaded, executor.observe(loaded), events, maplets=maplets), nl=False)
        except TargetDied as error:
            click.echo(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
            return FINDING
    return OK
