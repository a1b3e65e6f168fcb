"""The user's patches on a tree."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from harness.outside import printable, shown
from reference.build.cache import cached, digest
from reference.build.commands import run, said
from reference.build.errors import BadKernelChoice
from reference.build.patch_names import names_of
from reference.build.progress import Progress
from reference.build.series import ONLY_NEEDED, Patch, apply_environment, read_series
from reference.build.tree import NEEDED, BaseTree, needed_files, read, tree_digest


def patched(base: BaseTree, patches: Sequence[Path], progress: Progress) -> BaseTree:
    """The tree with the patches in these files, in the cache. Raises BadKernelChoice for one that cannot be read, does
    not apply, or changes what would run on this machine, and where none concerns anything that is used here."""
    series = [patch for patch in read_series(patches).patches if patch.files]
    if not series:
        raise BadKernelChoice(
            f"--patch {', '.join(shown(patch) for patch in patches)}: touches nothing that is used here "
            f"({', '.join(NEEDED)}; paths are read as `git apply -p1` does); leave it out"
        )
    identity = base.identity or tree_digest(base.root)

    def fill(part: Path) -> None:
        _populate(base, part)
        if base.identity is None and tree_digest(part) != identity:
            raise BadKernelChoice(f"{shown(base.root)}: changed while it was being copied; try again")
        for patch in series:
            _apply(part, patch)

    name = f"patched-{digest(identity, *NEEDED, *(patch.diff for patch in series))}"
    root = cached(Path("sources") / name, f"patching {base.description}", fill, progress)
    description = " + ".join([base.description, *map(shown, names_of(patches))])
    changed_by: dict[str, tuple[str, ...]] = {}
    for patch in series:
        for file in patch.files:
            changed_by[file] = (*changed_by.get(file, ()), patch.place)
    return BaseTree(root, name, description, base.commit, base.folder, changed_by)


def _populate(base: BaseTree, target: Path) -> None:
    """Fills `target` with what is needed: links to what never changes, copies of what may."""
    for path in needed_files(base.root):
        new = target / path
        new.parent.mkdir(parents=True, exist_ok=True)
        if base.identity is None:
            new.write_bytes(read(base.root / path))
        else:
            try:
                os.link(base.root / path, new)
            except OSError:  # a file system without links, or too many of them
                shutil.copyfile(base.root / path, new)


def _apply(tree: Path, patch: Patch) -> None:
    """Applies what concerns needed files. git replaces files; it never writes through a link."""
    if any(".awk" in file for file in patch.files):
        raise BadKernelChoice(
            f"{patch.place}: changes a script that the build runs on this machine; if you trust it, apply it to a tree "
            "of your own and use --linux"
        )
    command = ["git", "apply", "-p1", "--whitespace=nowarn", *ONLY_NEEDED]
    result = run([*command, "-"], cwd=tree, env=apply_environment(), stdin=patch.diff)
    if result.returncode:
        undone = run([*command, "--check", "--reverse", "-"], cwd=tree, env=apply_environment(), stdin=patch.diff)
        advice = (
            "choose the tree that it was made for" if undone.returncode else "it is in the tree already: leave it out"
        )
        because = f" ({patch.hint})" if patch.hint else ""
        raise BadKernelChoice(
            f"{patch.place}: does not apply{_where(patch, result.stderr)}; {advice}{because}. git says: {said(result)}"
        )


def _where(patch: Patch, complaint: bytes) -> str:
    """The file and the hunk that git complains of; empty where it complains of something else."""
    failed = re.search(rb"patch failed: (.+):(\d+)", complaint)
    if failed is None:
        return ""
    of_file = patch.diff.partition(b"--- a/" + failed[1])[2]
    hunk = re.search(rb"^@@ -%s\b.*$" % failed[2], of_file, re.MULTILINE)
    place = failed[1] if hunk is None else failed[1] + b", hunk `" + hunk[0] + b"`"
    return f" at {printable(place.decode(errors='replace'))}"
