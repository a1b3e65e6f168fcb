"""Since which commit a finding is there: a walk over the commits that touch what the test kernel is made of.

Which files those are is not written down here. It is what the compiler read, and what headers were generated from, of
every commit that was built: a commit that touches none of them makes the same kernel as its parent. What is named in
the end is looked at together with its parents, for no such list tells of a file that was only read in between.

git chooses the commits and is asked nothing that would change the repository: no checkout, no refs.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fuzz.triage.cause import CommitCause
from fuzz.triage.recorded import recorded_sides_of, with_kernel
from fuzz.triage.replaying import look_again
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import Finding
from harness.outside import printable, shown
from reference.build.commands import git_environment
from reference.build.git import commit_named


@dataclass(slots=True)
class Walk:
    """What is known so far, in full commit ids: `bad` has the finding, no commit of `good` has. `paths` are the
    files that count; None: all."""

    bad: str
    good: list[str]
    paths: set[str] | None

    @property
    def limits(self) -> list[str]:
        """For `git rev-list`."""
        paths = [] if self.paths is None else sorted(self.paths)
        return [self.bad, *(f"^{good}" for good in self.good), "--", *paths]


@dataclass(frozen=True, slots=True)
class Culprit:
    """The commit that brought a finding, whose parents were seen without it; or, where `why` says why it cannot be
    pinned down, those among which it is."""

    commits: tuple[str, ...]
    why: str = ""


class Repository:
    """A git repository, to read."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()

    def git(self, *arguments: str) -> str:
        """What git prints. Raises BadInput with its message when it fails."""
        command = ["git", "--literal-pathspecs", "-C", str(self.path), *arguments]
        result = subprocess.run(
            command, env=git_environment(), capture_output=True, text=True, errors="replace", check=False
        )
        if result.returncode:
            raise BadInput(f"--repo {shown(self.path)}: git says: {printable(result.stderr.strip())}")
        return result.stdout

    def top(self) -> Path:
        """The folder that commits are of: paths are relative to it. Raises BadInput."""
        return (self.path / self.git("rev-parse", "--show-cdup").rstrip("\n")).resolve()

    def commit(self, revision: str, name: str) -> str:
        """The id of the commit that a revision names, which the user gave as `name`. Raises BadInput."""
        try:
            return commit_named(self.path, revision)
        except BadInput as error:
            raise BadInput(f"{name}: {error}") from error

    def parents(self, commit: str) -> list[str]:
        """Of a commit, the first one first; none of one that begins a history."""
        return self.git("rev-list", "--parents", "--max-count=1", commit).split()[1:]

    def bases(self, one: str, other: str) -> list[str]:
        """The best common ancestors of two commits. Raises BadInput where they have none."""
        try:
            return self.git("merge-base", "--all", one, other).split()
        except BadInput as error:
            raise BadInput("GOOD and BAD have no commit in common; give two of one history") from error

    def holds_any(self, walk: Walk) -> bool:
        """Whether any commit may be the first bad one."""
        return bool(self.git("rev-list", "--max-count=1", *walk.limits))

    def between(self, walk: Walk) -> list[str]:
        """The commits that touch what counts and may be the first bad one, the newest first."""
        return self.git("rev-list", *walk.limits).split()

    def halves(self, walk: Walk) -> list[str]:
        """The same in the order in which trying them tells most, by git's own reckoning."""
        return [line.split()[0] for line in self.git("rev-list", "--bisect-all", *walk.limits).splitlines()]

    def cause(self, commit: str) -> CommitCause:
        """Who made a commit, and what of."""
        told = self.git("show", "-s", "--date=short", "--format=%s%x00%an <%ae>%x00%ad%x00%P", commit).strip("\n")
        subject, author, date, parents = map(printable, told.split("\0"))
        return CommitCause(commit, subject, author, date, tuple(parents.split()))

    def describe(self, commit: str) -> str:
        """A commit on one line: id, subject, author, date."""
        return printable(self.git("show", "-s", "--date=short", "--format=%h %s (%an, %ad)", commit).strip())


def bisect(finding: Finding, repository: Repository, good: str, bad: str, say: Callable[[str], None]) -> Culprit:
    """The commit between `good` and `bad` that brought the finding.

    `say` hears of every step. Where `good` is no ancestor of `bad`, the commits where their histories part are tried
    first, as `git bisect` does. Raises BadInput when a revision does not exist, `good` or where they part has the
    finding, `bad` has not, or nothing lies between; ToolFailure when one of these cannot be run.
    """
    return _Bisection(finding, Repository(repository.top()), say).run(good, bad)


class _Bisection:
    def __init__(self, finding: Finding, repository: Repository, say: Callable[[str], None]) -> None:
        self._finding = finding
        self._repository = repository
        self._say = say
        self._seen: dict[str, bool | None] = {}
        """By commit, whether it has the finding; None where that cannot be told."""
        self._read: set[str] = set()
        """Files of the tree that any commit's kernel was made of."""

    def run(self, good: str, bad: str) -> Culprit:
        of = self._repository
        walk = Walk(of.commit(bad, "BAD"), [of.commit(good, "GOOD")], self._read)
        self._check_end("GOOD", walk.good[0], False)
        self._check_end("BAD", walk.bad, True)
        bases = of.bases(walk.good[0], walk.bad)
        if walk.bad in bases:
            raise BadInput(
                "BAD is an ancestor of GOOD, so that no commit between them brought it; choose another range"
            )
        for base in bases:
            if base != walk.good[0]:
                self._say("GOOD is no ancestor of BAD: trying where their histories part")
                self._check_end("where GOOD and BAD part", base, False)
        while True:
            left = self._narrow(walk)
            if len(left) > 1:
                return Culprit(tuple(left), "some could not be tried")
            if left and (culprit := self._examined(walk, left[0])):
                return culprit
            if not left and walk.paths is None:
                raise BadInput("there is no commit between GOOD and BAD")
            if not left:
                self._say("no commit that is left touches what was read of those that were built: going on with all")
                walk.paths = None

    def _check_end(self, name: str, commit: str, expected: bool) -> None:
        found, what = self._has(commit), self._repository.describe(commit)
        if found is None:
            raise ToolFailure(f"{name}, {what}, cannot be run")
        if found != expected:
            raise BadInput(f"{name}, {what}, {'has' if found else 'does not have'} the finding; choose another range")

    def _narrow(self, walk: Walk) -> list[str]:
        """The commits that may be the first with it, once there is one, or nothing more can be told about them."""
        while True:
            left = self._repository.halves(walk)
            untried = [one for one in left if one not in self._seen]
            if len(left) <= 1:
                return left
            if not untried:
                newest_first = self._repository.between(walk)
                return [one for one in newest_first if self._seen[one] is None or one == walk.bad]
            self._tell(walk, untried[0])

    def _examined(self, walk: Walk, commit: str) -> Culprit | None:
        """What the only commit that is left is, seen beside its parents; None where they show that it was another."""
        found = self._tell(walk, commit)
        if found is None:
            return Culprit((commit,), "it could not be tried")
        if not found:
            return None
        parents = self._repository.parents(commit)
        for parent in parents:
            if self._has(parent) and self._repository.holds_any(Walk(parent, walk.good, None)):
                walk.bad = parent
                return None
        if not parents:
            return Culprit((commit,), "its history begins there: it has no parent without the finding")
        if any(self._has(parent) for parent in parents):
            return Culprit((commit,), "a parent of it has the finding as well, from before GOOD")
        untold = [parent for parent in parents if self._has(parent) is None]
        return Culprit((commit, *untold), "a parent of it could not be tried" if untold else "")

    def _tell(self, walk: Walk, commit: str) -> bool | None:
        """Whether a commit has the finding, and what follows from that."""
        found = self._has(commit)
        if found:
            walk.bad = commit
        elif found is False:
            walk.good.append(commit)
        return found

    def _has(self, commit: str) -> bool | None:
        """Whether a commit has the finding; None where it cannot be told: it does not build, or something else is
        wrong before."""
        if commit not in self._seen:
            self._seen[commit] = self._try(commit)
        return self._seen[commit]

    def _try(self, commit: str) -> bool | None:
        what = self._repository.describe(commit)
        sides = with_kernel(recorded_sides_of(self._finding), f"{self._repository.path}@{commit}", (), None)
        try:
            for side in sides:
                if side.is_kernel and side.what.endswith(commit):
                    self._read |= side.image(lambda _: None, self._finding.program.machine.granule).read
            seen = look_again(self._finding, sides)
        except (BadInput, ToolFailure) as error:
            self._say(f"skipped  {what}: {str(error).splitlines()[0]}")
            return None
        verdict = seen.verdict
        if verdict is None and seen.untold:
            self._say(f"skipped  {what}: {seen.untold}")
            return None
        if verdict is not None and verdict.bucket != self._finding.bucket:
            self._say(f"skipped  {what}: it is {verdict.bucket} there")
            return None
        self._say(f"{'good   ' if verdict is None else 'bad    '}  {what}")
        return verdict is not None
