"""What people name a kernel by: a version, a folder, or REPOSITORY@REVISION. Nothing here looks into any."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

SUPPORTED: Final = ("6.12", "6.1")
"""The versions that Debian packages and the model knows."""
DEFAULT_LINUX: Final = SUPPORTED[0]
"""The kernel where none is chosen."""


def is_version(linux: str) -> bool:
    """Whether a choice of a kernel is a version: `6.12`."""
    return re.fullmatch(r"[0-9]+(\.[0-9]+)+", linux) is not None


def at_revision(linux: str) -> tuple[Path, str] | None:
    """Folder and revision of REPOSITORY@REVISION. Both may contain an @: the longest existing folder wins."""
    for at in reversed([match.start() for match in re.finditer("@", linux)]):
        if at > 0 and os.path.isdir(linux[:at]):
            return Path(linux[:at]).resolve(), linux[at + 1 :]
    return None


def repository_of(linux: str) -> Path | None:
    """The folder in a choice of a kernel: of a tree, or of a repository; None for a version, and where it is gone."""
    if is_version(linux):
        return None
    if os.path.isdir(linux):
        return Path(linux).resolve()
    split = at_revision(linux)
    return None if split is None else split[0]
