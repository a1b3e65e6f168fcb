"""The command that finds the commit that brought a finding."""

from __future__ import annotations

from pathlib import Path

import click

from fuzz.cli.options import EXISTING, OK, TOOL_FAILURE, show_line
from fuzz.triage import cause
from fuzz.triage.bisecting import Repository
from fuzz.triage.bisecting import bisect as walk_commits
from harness.findings.finding import load


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
