"""Since which commit a finding is there: a walk over the commits that touch what the test kernel hosts.

git chooses the commits and is asked nothing that would change the repository: no checkout, no refs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fuzz.triage.filing import sides_of, with_kernel
from fuzz.triage.replaying import look_again
from harness.errors import BadInput, ToolFailure
from harness.finding import Finding
from harness.outside import printable, shown
from reference.sources import PGTABLE, git_environment

HOSTED: Final = (
    str(PGTABLE),
    "arch/arm64/kvm/hyp/nvhe/tlb.c",
    "arch/arm64/kvm/hyp/vhe/tlb.c",
    "arch/arm64/kvm/hyp/include/nvhe",
    "arch/arm64/include/asm/kvm_pgtable.h",
    "arch/arm64/include/asm/kvm_arm.h",
    "arch/arm64/include/asm/kvm_asm.h",
    "arch/arm64/include/asm/kvm_mmu.h",
    "arch/arm64/include/asm/pgtable-hwdef.h",
    "arch/arm64/include/asm/stage2_pgtable.h",
    "arch/arm64/include/asm/tlbflush.h",
)
"""The files of the tree that are hosted, and the headers of KVM's and of the page tables' that they include."""


@dataclass(slots=True)
class Walk:
    """What is known so far, in full commit ids: `bad` has the finding, no commit of `good` has; of `skipped` nothing
    can be told. `left` are those that may be the first with it."""

    bad: str
    good: list[str]
    skipped: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)


class Repository:
    """A git repository, to read."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def git(self, *arguments: str) -> str:
        """What git prints. Raises BadInput with its message when it fails."""
        command = ["git", "-C", str(self.path), *arguments]
        result = subprocess.run(
            command, env=git_environment(), capture_output=True, text=True, errors="replace", check=False
        )
        if result.returncode:
            raise BadInput(f"{shown(self.path)}: git says: {printable(result.stderr.strip())}")
        return result.stdout

    def commit(self, revision: str) -> str:
        """The id of the commit that a revision names. Raises BadInput."""
        if revision.startswith("-"):
            raise BadInput(f"{shown(revision)} is not a revision")
        return self.git("rev-parse", "--verify", f"{revision}^{{commit}}").strip()

    def between(self, walk: Walk) -> list[str]:
        """The commits that touch hosted files and may be the first bad one."""
        return self.git("rev-list", walk.bad, *(f"^{good}" for good in walk.good), "--", *HOSTED).split()

    def halves(self, walk: Walk) -> list[str]:
        """The same, in the order in which trying them tells most."""
        found = self.git("rev-list", "--bisect-all", walk.bad, *(f"^{good}" for good in walk.good), "--", *HOSTED)
        return [line.split()[0] for line in found.splitlines()]

    def describe(self, commit: str) -> str:
        """A commit on one line: id, subject, author, date."""
        return printable(self.git("show", "-s", "--date=short", "--format=%h %s (%an, %ad)", commit).strip())


def bisect(finding: Finding, repository: Repository, good: str, bad: str, say: Callable[[str], None]) -> list[str]:
    """The commit between `good` and `bad` that brought the finding; more than one where some could not be tried.

    `say` hears of every step. Raises BadInput when a revision does not exist, `good` has the finding, `bad` has not, or
    no commit between them touches hosted files; ToolFailure when one of these two cannot be run.
    """
    walk = Walk(repository.commit(bad), [repository.commit(good)])
    for name, commit, expected in (("GOOD", walk.good[0], False), ("BAD", walk.bad, True)):
        found = _try(finding, repository, commit, say)
        if found is None:
            raise ToolFailure(f"{name}, {repository.describe(commit)}, cannot be run")
        if found != expected:
            raise BadInput(f"{name}, {repository.describe(commit)}, {'has' if found else 'does not have'} the finding")
    tried = {walk.bad}
    while True:
        walk.left = repository.between(walk)
        if not walk.left:
            raise BadInput("no commit between GOOD and BAD touches what the test kernel hosts")
        if len(walk.left) == 1:
            return walk.left
        untried = [one for one in repository.halves(walk) if one not in tried]
        if not untried:
            return [one for one in walk.left if one in walk.skipped or one == walk.bad]
        commit = untried[0]
        tried.add(commit)
        found = _try(finding, repository, commit, say)
        if found is None:
            walk.skipped.append(commit)
        elif found:
            walk.bad = commit
        else:
            walk.good.append(commit)


def _try(finding: Finding, repository: Repository, commit: str, say: Callable[[str], None]) -> bool | None:
    """Whether a commit has the finding; None where it cannot be told: it does not build, or something else is wrong
    before."""
    sides = with_kernel(sides_of(finding), f"{repository.path}@{commit}", (), None)
    try:
        verdict = look_again(finding, sides).verdict
    except (BadInput, ToolFailure) as error:
        say(f"skipped  {repository.describe(commit)}: {str(error).splitlines()[0]}")
        return None
    if verdict is not None and verdict.bucket != finding.bucket:
        say(f"skipped  {repository.describe(commit)}: it is {verdict.bucket} there")
        return None
    say(f"{'good   ' if verdict is None else 'bad    '}  {repository.describe(commit)}")
    return verdict is not None
