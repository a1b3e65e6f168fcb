"""The command that runs a finding again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuzz.cli.chosen import sides_from
from fuzz.cli.options import (
    CANNOT_TELL,
    EACH,
    EXISTING,
    FINDING,
    OK,
    TOOL_FAILURE,
    judge_option,
    kernel_options,
    say,
    show_line,
    tier_options,
)
from fuzz.cli.places import say_next
from fuzz.cli.result_files import ResultFiles, result_options
from fuzz.results.outcome import replayed
from fuzz.sides import with_flavour, with_object
from fuzz.triage.recorded import Sides, recorded_sides_of, tiers_of, with_kernel
from fuzz.triage.replaying import Seen, look_again
from harness.amounts import counted
from harness.findings.finding import Finding, load
from harness.outside import shown
from harness.verdict.judging import Judging
from harness.verdict.tiers import Tier


@click.command()
@click.argument("finding", type=EXISTING)
@click.option(
    "--bisect",
    "for_bisect",
    is_flag=True,
    help="For `git bisect run`: 1 for this very bucket, 0 if the sides agree, and 125, which skips the commit, for "
    "everything else.",
)
@click.option(
    "--times",
    type=click.IntRange(1, 1000),
    default=1,
    show_default=True,
    help="How often to run it, for what does not happen every time.",
)
@EACH
@result_options
@tier_options
@judge_option(Judging.ALL)
@kernel_options
def replay(
    finding: Path,
    for_bisect: bool,
    times: int,
    each: bool,
    files: ResultFiles,
    tiers: frozenset[Tier] | None,
    judging: Judging | None,
    **kernel: Any,
) -> int:
    """Run a finding again, on the sides and in the tiers it was found with.

    Of a repository or a working tree, the commit that it was found on runs. Where that cannot be had, what is there now
    does, and if the sides agree on it, nobody can tell whether the finding is gone; nor can they of a flaky one. With
    --linux, --patch or --pgtable it runs on another kernel instead, for instance one with a fix; with --each of several
    patches on every part of the series before, to tell which patch brings or ends it. Exit status: 1 still there, 0
    gone, 3 could not run it, or cannot tell.
    """
    found = load(finding)
    others = _other_sides(found, kernel)
    if each:
        from fuzz.cli.each import replay_each  # noqa: PLC0415  (with what takes series apart)

        replay_each(found, others or recorded_sides_of(found), tiers or tiers_of(found), is_its_own=others is None)
    files.begin("replay", [replayed(found, others or recorded_sides_of(found))])
    seen = look_again(found, others, tiers, say, times, judging or Judging.ALL)
    files.tell([replayed(found, seen.sides, seen)])
    files.write({"finding": shown(finding)})
    return _say_seen(found, seen, others is not None, times, for_bisect)


def _say_seen(found: Finding, seen: Seen, on_others: bool, times: int, for_bisect: bool) -> int:
    if seen.verdict is None:
        agree = "the sides agree" if times == 1 else f"the sides agree, all {times} times"
        was = f"{agree} (it was {found.kind} {found.bucket})"
        if seen.untold:
            show_line(f"not seen here: {was}\nWhether it is gone cannot be told: {seen.untold}")
        else:
            show_line(f"gone: {was}" if not on_others else f"gone on {' and '.join(dict.fromkeys(seen.names))}: {was}")
        for line in seen.notes:
            show_line(line)
        return TOOL_FAILURE if seen.untold else OK
    is_same = seen.verdict.bucket == found.bucket
    often = "" if times == 1 else f", {seen.often} of {counted(times, 'time')}"
    show_line(f"still there{often}" if is_same else f"still there{often}, but it was {found.bucket}")
    if seen.untold:
        show_line(f"note: {seen.untold}")
    click.echo()
    click.echo(seen.report, nl=False)
    if not for_bisect:
        say_next(found, "replay")
    return FINDING if is_same or not for_bisect else CANNOT_TELL


def _other_sides(found: Finding, kernel: dict[str, Any]) -> Sides | None:
    """The sides that the options choose; None where they choose nothing."""
    sides = None
    if kernel["sides"] is not None:
        sides = sides_from(**kernel)
    elif any(kernel[name] not in (None, ()) for name in ("linux", "patches", "pgtable")):
        sides = with_kernel(recorded_sides_of(found), kernel["linux"], tuple(kernel["patches"]), kernel["pgtable"])
    if kernel["flavour"] is not None:
        left, right = sides or recorded_sides_of(found)
        sides = with_flavour(left, kernel["flavour"]), with_flavour(right, kernel["flavour"])
    if kernel["kernel_object"] is not None:
        left, right = sides or recorded_sides_of(found)
        sides = with_object(left, kernel["kernel_object"]), with_object(right, kernel["kernel_object"])
    return sides
