"""The command that looks at a campaign from beside it."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fuzz.campaign.status import status_lines, status_of
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli.options import EXISTING, OK


@click.command()
@click.argument("directory", type=EXISTING, metavar="DIR")
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON line.")
def status(directory: Path, as_json: bool) -> int:
    """Say how a campaign is getting on, while it runs or afterwards."""
    found = status_of(WorkDirectory(directory.resolve()))
    if as_json:
        click.echo(json.dumps(found, sort_keys=True))
    else:
        for line in status_lines(found, directory):
            click.echo(line)
    return OK
