"""What files with patches are called, and a kernel after them; `reference.build.series` reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

SUFFIXES: Final = (".patch", ".diff", ".mbox", ".mbx", ".eml")
FILE_ENDS: Final = (*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES))
"""Of the names of files with patches."""
STDIN: Final = "stdin.mbox"
"""The file that a patch from standard input is kept in."""
_MOST_NAMED: Final = 2
"""Files that a kernel's name names."""


def names_of(paths: Sequence[Path]) -> list[str]:
    """What a kernel with the patches in these files is called after them."""
    return [path.name for path in paths] if len(paths) <= _MOST_NAMED else [f"{len(paths)} patches"]
