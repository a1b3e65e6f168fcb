"""What to do with a finding: the commands that apply to it, as whoever reads them can paste them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from fuzz.sides import Side
from fuzz.triage.recorded import kernel_of
from harness.errors import BadInput
from harness.findings.finding import Finding
from harness.outside import shown
from reference.build.naming import repository_of

TIMES: Final = 20
"""How often to run a flaky finding, where nobody says."""


def pasted(path: Path) -> str:
    """A path as a word for a shell: relative where it lies below the working directory."""
    absolute, here = path.absolute(), Path.cwd()
    word = str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)
    return shown(shlex.quote(f"./{word}" if word.startswith("-") else word))


def next_steps(finding: Finding, done: str = "") -> list[str]:
    """What can be done with it, a command a line, but for the one that was just `done`; no line where nothing can."""
    steps = [(why, f"s2fuzz {command}") for why, command in _steps(finding) if command.split()[0] != done]
    if not steps:
        return []
    width = max(len(why) for why, _ in steps)
    lines = ["next:", *(f"  {why:<{width}}  {command}" for why, command in steps)]
    return [*lines, f"  {_GOOD} is a revision without it"] if any(_GOOD in command for _, command in steps) else lines


_GOOD: Final = "GOOD"


def _steps(finding: Finding) -> Iterator[tuple[str, str]]:
    """What each command is for, and its words."""
    directory = pasted(finding.directory)
    if finding.is_flaky:
        yield "see how often", f"replay {directory} --times {TIMES}"
    else:
        yield "run it again", f"replay {directory}"
        if not finding.minimised:
            yield "make it smaller", f"tmin {directory}"
    try:
        kernel = kernel_of(finding)
    except BadInput:  # its files are gone, or somebody else's: replay says which
        return
    if kernel is None:
        return
    yield "look at it in gdb", f"debug {directory}"
    if finding.kind == "emulator":  # which no patch or commit of the kernel brings
        return
    if kernel.patches and not finding.is_flaky:
        yield "find its patch", f"replay {directory} --each"
    repository, commit = _repository(kernel), _commit(finding)
    if repository is not None and commit and not finding.is_flaky:
        yield "find its commit", f"bisect {directory} --repo {pasted(repository)} {_GOOD} {commit[:12]}"
    yield "write a mail", f"mail {directory}"


def _repository(kernel: Side) -> Path | None:
    """Where the commits are that may have brought it; a change on top of them is none of these."""
    return None if kernel.patches or kernel.pgtable else repository_of(kernel.what)


def _commit(finding: Finding) -> str:
    """The commit that it was found on; empty where none is recorded."""
    found = (finding.identities.get(side, {}).get("commit", "") for side in ("right", "left"))
    return next(filter(None, found), "")
