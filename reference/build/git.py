"""Trees that git has: a commit of a repository, and which commit a folder is checked out from."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from harness.outside import shown
from reference.build.cache import cached, digest
from reference.build.commands import TAR_OPTIONS, git_environment, run, said
from reference.build.errors import BadKernelChoice, MissingSource
from reference.build.progress import Progress
from reference.build.tree import NEEDED, BaseTree, KernelTree, read


def commit_named(repository: Path, rev: str) -> str:
    """The id of the commit that a revision names in a repository. Raises BadKernelChoice, which names both."""
    where = f"{shown(repository)}@{shown(rev)}"
    if not rev or rev.startswith("-"):
        raise BadKernelChoice(f"{where}: {rev!r} is no revision; give REPOSITORY@REVISION")
    _git(where, repository, "rev-parse", "--git-dir")
    result = run(["git", "-C", repository, "rev-parse", "--verify", f"{rev}^{{commit}}"], env=git_environment())
    if result.returncode:
        raise BadKernelChoice(
            f"{where}: the repository has no revision `{shown(rev)}`; name a commit, a branch or a tag that is there"
        )
    return result.stdout.decode().strip()


def _git(where: str, folder: Path, *arguments: str | Path) -> bytes:
    """What git prints. Raises BadKernelChoice with its message when it fails."""
    result = run(["git", "-C", folder, *arguments], env=git_environment())
    if result.returncode:
        raise BadKernelChoice(f"{where}: git says: {said(result)}; give REPOSITORY@REVISION")
    return result.stdout


def commit_tree(repository: Path, rev: str, progress: Progress) -> BaseTree:
    """The tree at a revision, in the cache. Raises BadKernelChoice where there is no such tree."""
    where = f"{shown(repository)}@{shown(rev)}"
    commit = commit_named(repository, rev)
    # git archive would pack only the folder that it is called in.
    top = repository / os.fsdecode(_git(where, repository, "rev-parse", "--show-cdup").strip())
    listing = _git(where, top, "ls-tree", "-z", "--name-only", commit, "--", *NEEDED)
    present = os.fsdecode(listing).rstrip("\0").split("\0")
    description = f"{shown(repository)}@{commit[:12]}"
    if not listing:
        raise BadKernelChoice(f"{where}: nothing of Linux is in that commit; choose another")

    def fill(part: Path) -> None:
        archive = _git(where, top, "archive", "--format=tar", commit, "--", *present)
        result = run(["tar", "-x", "-f", "-", "-C", part, *TAR_OPTIONS], stdin=archive)
        if result.returncode:
            raise MissingSource(f"cannot unpack into {part.parent}: {said(result)}")

    name = f"git-{commit}-{digest(*NEEDED)[:8]}"
    root = cached(Path("sources") / name, f"taking {commit[:12]} from {shown(repository)}", fill, progress)
    return BaseTree(root, name, description, commit)


def commit_of(tree: KernelTree, names: Iterable[str]) -> tuple[str, list[str]]:
    """The commit that a tree is or is checked out from, and which files of those names (relative to it) are otherwise
    in the user's folder. An empty commit where git knows of none."""
    if tree.commit or tree.folder is None:
        return tree.commit, []
    folder = tree.folder

    def git(*arguments: str) -> bytes | None:
        result = run(["git", "-C", folder, "-c", "core.fsmonitor=false", *arguments], env=git_environment())
        return None if result.returncode else result.stdout

    try:
        top, head = git("rev-parse", "--show-toplevel"), git("rev-parse", "--verify", "HEAD^{commit}")
    except MissingSource:  # no git
        return "", []
    if top is None or head is None or Path(os.fsdecode(top).rstrip("\n")).resolve() != folder:
        return "", []
    commit = head.decode().strip()
    wanted = sorted(name for name in set(names) if tree.source(Path(name)) == tree.root / name)
    listing = git("--literal-pathspecs", "ls-tree", "-z", commit, "--", *wanted) or b""
    blobs = {}
    for entry in listing.split(b"\0")[:-1]:
        about, _, name = entry.partition(b"\t")
        blobs[os.fsdecode(name)] = about.split()[2].decode()
    return commit, [name for name in wanted if _blob(folder / name, len(blobs.get(name, ""))) != blobs.get(name)]


def _blob(path: Path, digits: int) -> str | None:
    """git's name for a file's content, of so many digits; None where there is no such file."""
    if not path.is_file():
        return None
    data = read(path)
    kind = hashlib.sha256 if digits == 64 else partial(hashlib.sha1, usedforsecurity=False)
    return kind(b"blob %d\0" % len(data) + data).hexdigest()
