"""The commands about kernels themselves: how they are built, and what of them is reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuzz.cli.chosen import sides_from
from fuzz.cli.options import CORPORA, EXISTING, GRANULE, OK, SECONDS, kernel_options, say, show_line
from fuzz.cli.spinners import counting
from fuzz.coverage.kernel_lines import measure as measure_lines
from fuzz.coverage.kernel_lines import report as report_lines
from harness.errors import BadInput
from harness.files import brief, file_lines
from harness.program.granule import granule_named


@click.command()
@GRANULE
@click.option(
    "--files", is_flag=True, help="Print what the hosted code was made of instead: files of the tree, with sha256s."
)
@kernel_options
def build(granule: str, files: bool, **kernel: Any) -> int:
    """Build the kernels of both sides; print their paths and what they are made of."""
    for side in sides_from(**kernel):
        if side.is_kernel:
            image = side.image(say, granule_named(granule))
            if files:
                for line in file_lines(image.files):
                    show_line(line)
                continue
            click.echo(image.elf)
            for key, value in sorted(brief(image.identity).items()):
                click.echo(f"  {key}: {value}")
    return OK


@click.command()
@click.argument("corpora", nargs=-1, type=EXISTING, metavar="[FOLDER]...")
@click.option("--seconds", type=SECONDS, default=30.0, show_default=True, help="How long to run programs.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Of the generated programs."
)
@kernel_options
def coverage(corpora: tuple[Path, ...], seconds: float, seed: int, **kernel: Any) -> int:
    """List the lines of a kernel's pgtable.c and vmid.c that no program reaches, and why.

    Runs the programs in the FOLDERs (default: those that come with s2fuzz), then generated ones, on a kernel that
    counts lines, and prints what llvm-cov makes of it. What needs another machine or kernel is skipped. Lines that are
    known to be out of reach are printed with the condition that makes them so; that list is checked as well.
    """
    if kernel["flavour"] not in (None, "lines"):
        raise BadInput("coverage builds a flavour of its own; leave out --flavour")
    with counting(seconds) as told:
        side = sides_from(**kernel)[1]
        found = measure_lines(side, corpora or (CORPORA,), seconds, seed, told)
    click.echo("\n\n".join("\n".join(report_lines(one, side.kernel_object)) for one in found))
    return OK
