"""Which version a tree is of."""

from __future__ import annotations

import os
import re
from pathlib import Path

from harness.outside import shown
from reference.build.commands import git_environment, run
from reference.build.errors import BadKernelChoice, MissingSource
from reference.build.naming import at_revision, is_version
from reference.build.tree import read


def version_of(linux: str) -> str | None:
    """The version of a choice's tree (`6.1.192`, or a packaged one as it was given) without preparing it; None where
    it cannot be told. What is wrong with the choice is for `prepare` to say."""
    if is_version(linux):
        return linux
    try:
        if os.path.isdir(linux):
            return version_at(Path(linux))
        split = at_revision(linux)
        if split is not None and not split[1].startswith("-"):
            result = run(["git", "-C", split[0], "show", f"{split[1]}:Makefile"], env=git_environment())
            return None if result.returncode else version_in(result.stdout, split[0])
    except (BadKernelChoice, MissingSource):
        pass
    return None


def version_at(root: Path) -> str:
    """VERSION.PATCHLEVEL.SUBLEVEL and EXTRAVERSION from the tree's Makefile."""
    return version_in(read(root / "Makefile"), root)


def version_in(makefile: bytes, root: Path) -> str:
    text = makefile.decode(errors="replace")
    pattern = r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)"
    found: dict[str, str] = dict(re.findall(pattern, text, re.MULTILINE))
    numbers = [found.get(name, "") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    if not all(numbers):
        raise BadKernelChoice(
            f"{shown(root / 'Makefile')}: VERSION, PATCHLEVEL or SUBLEVEL is missing; give the top folder of a Linux "
            "tree"
        )
    return ".".join(numbers) + found.get("EXTRAVERSION", "")
