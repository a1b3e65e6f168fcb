"""The command that weighs sides which are meant to differ."""

from __future__ import annotations

import os
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import click

from fuzz.cli.options import BAD_INPUT, EXISTING, FINDING, OK, say, show_line
from fuzz.cli.several import read_each
from fuzz.sides import ownership_sides, parse_side
from harness.errors import BadInput, CannotRun
from harness.observation.executor import TargetDied
from harness.outside import shown
from harness.verdict.weighing import weigh as weigh_program
from harness.verdict.weighing import weight_table
from pgtable import OWNERSHIPS
from reference.build.naming import DEFAULT_LINUX

_WAYS: Final = "\n".join(
    ["\b", "Ways to record owners:", *(f"  {name:<20} {way.what}" for name, way in OWNERSHIPS.items())]
)


@click.command(epilog=_WAYS)
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
@click.option(
    "--ways",
    metavar="WAY,…",
    help=f"The model with these ways to record owners, beside the kernel {DEFAULT_LINUX}.  [default: all of them]",
)
@click.option("--sides", metavar="A,B,…", help="Other sides instead: any that `s2fuzz run` takes, any number.")
def weigh(programs: tuple[Path, ...], ways: str | None, sides: str | None) -> int:
    """Weigh sides that are meant to differ: what a program comes to on each, and what that takes.

    Memory mapped and recorded as somebody else's in the end, and whether it is as on the first side; tables; events.
    model:6.12+flag is the model with another way to record owners; docs/ownership.md tells what comes of each.
    """
    if ways is not None and sides is not None:
        raise BadInput("--ways and --sides exclude each other")
    chosen = ownership_sides(ways) if sides is None else [parse_side(text) for text in sides.split(",")]
    read = read_each(programs)
    weighed, died = 0, False
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(side.open(say))) for side in chosen]
        for path, program in read.programs:
            try:
                weights = [weigh_program(side, program) for side in opened]
            except CannotRun as error:
                say(f"{shown(path)}: skipped: {error.why}")
                continue
            except TargetDied as error:
                show_line(f"{shown(path)}: {error.report.kind}: {error.report.headline}\n{error.report.details}")
                died = True
                continue
            if len(programs) > 1:
                show_line(f"{os.linesep if weighed else ''}{shown(path)}:")
            weighed += 1
            for line in weight_table([side.name for side in chosen], weights):
                click.echo(line)
    if died:
        return FINDING
    return BAD_INPUT if read.malformed or not weighed else OK
