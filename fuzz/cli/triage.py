"""The commands that work on findings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuzz.cli import display
from fuzz.cli.chosen import sides_from
from fuzz.cli.each import replay_each
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
from fuzz.cli.result_files import ResultFiles, result_options
from fuzz.results.outcome import replayed
from fuzz.sides import with_flavour, with_object
from fuzz.triage import cause
from fuzz.triage.bisecting import Repository
from fuzz.triage.bisecting import bisect as walk_commits
from fuzz.triage.filing import Sides, recorded_sides_of, tiers_of, with_kernel
from fuzz.triage.replaying import Seen, look_again, shrink
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
        display.say_next(found, "replay")
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


@click.command()
@click.argument("finding", type=EXISTING)
@click.option(
    "--tries",
    type=click.IntRange(min=1),
    help="Stop after so many, with the simplest so far.  [default: when nothing simpler is found]",
)
def tmin(finding: Path, tries: int | None) -> int:
    """Minimise a finding: the simplest program that still falls into its bucket.

    Leaves out ops, merges them, lets one do another's work, gives the machine its default settings, clears flags,
    shrinks sizes and moves addresses, until nothing of it helps. The finding's directory is replaced at once and keeps
    the first program, as original.s2. Exit status: 0 done, 2 does not reproduce.
    """
    found = load(finding)
    with display.minimising(len(found.program.ops)) as told:
        shrunk = shrink(found, say, told, tries)
    click.echo(shrunk.report, nl=False)
    click.echo()
    show_line(shrunk.summary(found))
    display.say_next(load(finding), "tmin")
    return OK


@click.command()
@click.argument("finding", type=EXISTING)
@click.option(
    "--repo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="The git repository of the kernel; nothing in it is changed.",
)
@click.argument("good")
@click.argument("bad")
def bisect(finding: Path, repo: Path, good: str, bad: str) -> int:
    """Find the commit between GOOD and BAD that brought a finding.

    Tries commits that touch what the compiler read of those that it built, and skips those that do not build or where
    something else goes wrong first. GOOD need not be an ancestor of BAD. The commit that is named was run, and so were
    its parents: it has the finding, they have not. That is kept with the finding, in bisect.json and its report. Exit
    status: 0 found, 2 if GOOD has the finding or BAD does not, 3 if it cannot be pinned down.
    """
    found = load(finding)
    repository = Repository(repo)
    culprit = walk_commits(found, repository, good, bad, show_line)
    if not culprit.why:
        (commit,) = culprit.commits
        cause.record(finding, repository.cause(commit))
        show_line(f"the first with it: {repository.describe(commit)}\n{commit}")
        return OK
    which = "one of these" if len(culprit.commits) > 1 else "perhaps this one"
    show_line(f"the first with it is {which}; {culprit.why}:")
    for commit in culprit.commits:
        show_line(f"  {repository.describe(commit)}")
    return TOOL_FAILURE
