"""What `s2fuzz campaign` does with its options."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import click

from fuzz.campaign.setup import CampaignSetup, new_assignment
from fuzz.campaign.state import DISK, ON_TIME, RunResult
from fuzz.campaign.state import INTERRUPTED as WAS_INTERRUPTED
from fuzz.campaign.supervisor import Campaign
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli.campaign_display import describe, live
from fuzz.cli.chosen import also_from, compiling_for, sides_from
from fuzz.cli.options import (
    CORPORA,
    FINDING,
    INTERRUPTED,
    OK,
    TOOL_FAILURE,
    say,
)
from fuzz.cli.places import say_next
from fuzz.cli.report import write_report
from fuzz.engine.assignment import GUIDANCE
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import load
from harness.full_disk import explained
from harness.outside import shown
from harness.program.granule import GRANULE_4K, Granule, granule_named
from harness.verdict.judging import Judging
from harness.verdict.tiers import DEFAULT_TIERS, Tier


def run(
    directory: Path,
    hours: float | None,
    workers: int | None,
    slice_minutes: float,
    min_free: int,
    corpora: Path | None,
    no_corpora: bool,
    no_compile: bool,
    **what: Any,
) -> int:
    """Begin the campaign or go on with it, and tell what came of it; returns the command's status. The arguments are
    its options. Raises BadInput, ToolFailure and OSError."""
    place = WorkDirectory(directory.resolve())
    folders = () if no_corpora else tuple(path for path in (corpora or CORPORA,) if path.is_dir())
    with place.locked() as lock:
        place.check_known()
        setup = _setup(place, what)
        behind = click.get_current_context().with_resource(compiling_for(setup.work[0].guidance, no_compile))
        for one in setup.work:
            for side in one.sides:
                side.open(say, [granule_named(one.granule)]).close()  # where errors are printed as they are
        for line in setup.describe():
            say(line)
        with live() as (tell, show):
            result = Campaign(
                place,
                setup,
                lock,
                workers or len(os.sched_getaffinity(0)),
                None if hours is None else hours * 3600,
                slice_minutes * 60,
                min_free << 20,
                tuple(path.resolve() for path in folders),
                tell,
                show,
                compiling=behind,
            ).run()
        if result.ended == ON_TIME:
            _report(place)
    return _print(result, place)


def _report(place: WorkDirectory) -> None:
    try:
        say(f"report: {shown(write_report(place))}")
    except (ToolFailure, OSError) as error:
        say(f"there is no report ({explained(error)}); `s2fuzz report {shown(place.root)}` makes one later")


def _setup(place: WorkDirectory, what: dict[str, Any]) -> CampaignSetup:
    """The campaign that is there, or a new one."""
    if not place.is_campaign:
        return _new(**what).save(place)
    there = CampaignSetup.load(place)
    seed = what.pop("seed")
    if any(value not in (None, ()) for value in what.values()) and not _new(seed=None, **what).same_as(there):
        raise BadInput(
            f"{shown(place.root)} is another campaign ({'; '.join(there.describe())}): leave out what it compares"
        )
    if seed not in (None, there.work[0].seed):
        raise BadInput(f"{shown(place.root)} has the seed {there.work[0].seed}: leave out --seed")
    return there


def _new(
    seed: int | None,
    guidance: str | None,
    also: tuple[str, ...],
    stage: str | None,
    granules: tuple[Granule, ...] | None,
    tiers: frozenset[Tier] | None,
    judging: Judging | None,
    budget: int | None,
    **kernel: Any,
) -> CampaignSetup:
    pairs = [sides_from(**kernel), *(also_from(text, **kernel) for text in also)]
    return CampaignSetup.of(
        [
            new_assignment(
                pair,
                seed=int(time.time()) if seed is None else seed,
                guidance=guidance or GUIDANCE[0],
                tiers=tiers or DEFAULT_TIERS,
                granule=granule.name,
                stages=() if stage is None else (int(stage),),
                budget=budget,
                judging=judging or Judging.SAMPLE,
            )
            for granule in granules or (GRANULE_4K,)
            for pair in pairs
        ]
    )


def _print(result: RunResult, place: WorkDirectory) -> int:
    click.echo(f"ended by {result.ended}: {describe(result.state)}")
    for bucket, paths in result.findings.items():
        click.echo(f"{bucket}: {shown(paths[0])}" + (f" and {len(paths) - 1} more" if len(paths) > 1 else ""))
    if result.findings:
        say_next(load(next(iter(result.findings.values()))[0]))
    else:
        click.echo("nothing found, so far" if result.ended == WAS_INTERRUPTED else "nothing found")
    if result.ended == DISK:
        say(f"s2fuzz: {shown(place.root)}: the disk is nearly full; once there is room, it goes on from where it was")
        return TOOL_FAILURE
    if result.ended == WAS_INTERRUPTED:
        say(f"for the report: s2fuzz report {shown(place.root)}")
        return INTERRUPTED
    return FINDING if result.findings else OK
