"""Commands for campaigns: they choose, call, and print."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuzz.cli.options import (
    BUDGET,
    NO_COMPILE,
    Seconds,
    granules_in,
    judge_option,
    kernel_options,
    tier_options,
)
from fuzz.cli.outputs import OutFolder
from fuzz.engine.assignment import GUIDANCE
from harness.program.granule import GRANULE_4K, GRANULES
from harness.verdict.judging import Judging


@click.command()
@click.argument("directory", type=OutFolder(), metavar="DIR")
@click.option(
    "--hours", type=Seconds(min=0.0001, max=1e5), help="How long to fuzz.  [default: until Ctrl-C or SIGTERM]"
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    help="Fuzzing processes at once, each with a QEMU of its own.  [default: one for every CPU]",
)
@click.option(
    "--slice",
    "slice_minutes",
    type=Seconds(min=0.01, max=1e5),
    default=10.0,
    show_default=True,
    help="Minutes that a worker stays with one comparison, where there are more of them than workers.",
)
@click.option(
    "--min-free",
    type=click.IntRange(min=0),
    default=256,
    show_default=True,
    metavar="MIB",
    help="Stop in order before less of the disk is free.",
)
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Of a new campaign.  [default: from the clock]")
@click.option(
    "--corpora",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Programs to begin with.  [default: those of the checkout]",
)
@click.option("--no-corpora", is_flag=True, help="Begin with generated programs only.")
@click.option("--guidance", type=click.Choice(GUIDANCE), help="Whose coverage steers.  [default: kernel]")
@click.option(
    "--also", multiple=True, metavar="A,B", help="Two more sides to compare, as for --sides. May be repeated."
)
@click.option("--stage", type=click.Choice(("1", "2")), help="Programs for hyp's stage 1 or a guest's stage 2 only.")
@click.option(
    "--granule",
    "granules",
    callback=granules_in,
    metavar="GRANULE,…",
    help=f"Sizes of page to fuzz: {','.join(one.name for one in GRANULES)} has all, which take turns. "
    f"Said once, when the campaign begins.  [default: {GRANULE_4K.name} alone]",
)
@tier_options
@judge_option(Judging.SAMPLE)
@BUDGET
@NO_COMPILE
@kernel_options
def campaign(**chosen: Any) -> int:
    """Fuzz for hours, in a directory that keeps everything: start it in the evening, read it in the morning.

    A new or empty DIR becomes the campaign that the options describe. One that is a campaign already goes on from where
    it was, also after it was killed; then the options that say what it compares may be left out, and cannot be others.
    `s2fuzz status DIR` tells from another terminal how far it is. docs/campaigns.md has the rest.

    Ctrl-C ends it in order, a second one at once. Exit status: 1 when it has findings whose bucket is not in DIR/known;
    promises that both sides break alike are kept and told, but do not count.
    """
    from fuzz.cli.campaign_run import run  # noqa: PLC0415  (not to be imported for its help)

    return run(**chosen)
