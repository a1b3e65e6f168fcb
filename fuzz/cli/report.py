"""The command that writes a campaign's report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli.options import EXISTING, INTERRUPTED, OK, Seconds, say
from harness.errors import ToolFailure

_WATCH_INTERVAL: Final = 60.0


def write_report(place: WorkDirectory, with_source: bool = True, refresh: float | None = None) -> Path:
    """Write DIR/report.html; where it is. Raises as `fuzz.report.page.write` does, and ToolFailure without the
    packages that draw it."""
    try:
        from fuzz.report import page  # noqa: PLC0415  (needs packages that other commands do without, and takes a second)
    except ModuleNotFoundError as error:
        raise ToolFailure(f"the Python package {error.name} is missing: pip install 's2fuzz[report]'") from error
    return page.write(place, say, with_source, refresh)


@click.command()
@click.argument("directory", type=EXISTING, metavar="DIR")
@click.option("--watch", is_flag=True, help="Write it again every minute while the campaign runs; browsers follow.")
@click.option(
    "--no-source",
    is_flag=True,
    help="Leave the source of the kernel and the model out: functions and line numbers only.",
)
@click.option(
    "--every",
    type=Seconds(min=1, max=86400),
    default=_WATCH_INTERVAL,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
def report(directory: Path, watch: bool, no_source: bool, every: float) -> int:
    """Write a campaign's report to DIR/report.html: one page that needs nothing else.

    What was found, with tables and events side by side; what the corpus reaches of pgtable.c and of the model, line by
    line; how coverage and corpus grew; what was run, and what was never reached. The kernel's lines are counted by
    running the whole corpus once more, on a kernel that is built for it.
    """
    place = WorkDirectory(directory.resolve())
    click.echo(write_report(place, not no_source, every if watch and place.holder() else None))
    while watch and place.holder():
        try:
            time.sleep(every)
        except KeyboardInterrupt:
            return INTERRUPTED
        write_report(place, not no_source, every if place.holder() else None)
    return OK
