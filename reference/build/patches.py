"""The user's patches on a tree."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.outside import shown
from reference.build.cache import Progress, cached, digest
from reference.build.commands import git_environment, run, said
from reference.build.errors import BadKernelChoice
from reference.build.tree import NEEDED, BaseTree, check_file, needed_files, read, tree_digest


def patched(base: BaseTree, patches: Sequence[Path], progress: Progress) -> BaseTree:
    """The tree with these patches, in the cache. Raises BadKernelChoice for one that does not apply, that concerns
    nothing that is used here, or that changes what would run on this machine."""
    contents = [_read_patch(patch) for patch in patches]
    identity = base.identity or tree_digest(base.root)

    def fill(part: Path) -> None:
        _populate(base, part)
        if base.identity is None and tree_digest(part) != identity:
            raise BadKernelChoice(f"{shown(base.root)}: changed while it was being copied; try again")
        for patch, content in zip(patches, contents, strict=True):
            _apply(part, patch, content)

    name = f"patched-{digest(identity, *NEEDED, *contents)}"
    root = cached(Path("sources") / name, f"patching {base.description}", fill, progress)
    description = " + ".join([base.description, *(shown(patch.name) for patch in patches)])
    return BaseTree(root, name, description, base.commit, base.folder)


def _read_patch(patch: Path) -> bytes:
    check_file(patch, "--patch")
    content = read(patch)
    if not content.strip():
        raise BadKernelChoice(f"--patch {shown(patch)}: the file is empty; give a diff or a mail with one")
    return content


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


def _apply(tree: Path, patch: Path, content: bytes) -> None:
    """Applies what concerns needed files. git replaces files; it never writes through a link."""
    environment = git_environment() | {
        # Without a repository: inside one, git would silently skip all that is not in this folder.
        "GIT_DIR": os.devnull,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    command = ["git", "apply", "--numstat", "--apply", "-p1", "--whitespace=nowarn"]
    command += [f"--include={path}{'' if path == 'Makefile' else '/*'}" for path in NEEDED]
    touched = False
    for part in _diffs(patch, content, environment):
        result = run([*command, "-"], cwd=tree, env=environment, stdin=part)
        if result.returncode:
            raise BadKernelChoice(
                f"--patch {shown(patch)}: does not apply; choose the tree that it was made for. git says: "
                f"{said(result)}"
            )
        if b".awk" in result.stdout:
            raise BadKernelChoice(
                f"--patch {shown(patch)}: changes a script that the build runs on this machine; if you trust it, apply "
                "it to a tree of your own and use --linux"
            )
        touched = touched or bool(result.stdout)
    if not touched:
        raise BadKernelChoice(
            f"--patch {shown(patch)}: touches nothing that is used here ({', '.join(NEEDED)};"
            " paths are read as `git apply -p1` does); leave it out"
        )


def _diffs(patch: Path, content: bytes, environment: dict[str, str]) -> list[bytes]:
    """The diffs of a patch file, in order: of each mail that has one, or the file as it is."""
    header = content.lstrip().replace(b"\r\n", b"\n").split(b"\n\n")[0]
    if not re.match(rb"From \S", header) and not all(
        re.search(rb"(?mi)^%s:" % name, header) for name in (b"from", b"subject")
    ):
        return [content]
    bodies = []
    with tempfile.TemporaryDirectory() as scratch:

        def git(*arguments: str, stdin: bytes) -> None:
            result = run(["git", *arguments], cwd=Path(scratch), env=environment, stdin=stdin)
            if result.returncode:
                raise BadKernelChoice(f"--patch {shown(patch)}: not a readable mail: {said(result)}")

        git("mailsplit", "-b", "-o.", stdin=content.lstrip())
        for mail in sorted(Path(scratch).glob("[0-9]*"), key=lambda path: int(path.name)):
            git("mailinfo", "-n", "message", "diff", stdin=mail.read_bytes())
            bodies.append((Path(scratch) / "diff").read_bytes())
    diffs = [body for body in bodies if re.search(rb"(?m)^(diff --git|\+\+\+) ", body)]
    if not diffs:
        raise BadKernelChoice(f"--patch {shown(patch)}: no mail in it holds a diff; leave it out")
    return diffs
