"""The test kernel's own files: what `reference/kernel` holds, sub-folders included."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Final

OURS: Final = Path(__file__).parents[1] / "kernel"
SHIM: Final = Path(__file__).parents[1] / "shim"

_MEETS_TREE: Final = re.compile(rb"^#define S2FUZZ_HOSTED_SIDE$", re.MULTILINE)
"""How a file says that it includes headers of the tree's."""

_HOT: Final = ("events.c", "handles.c", "observe.c", "pool.c")
"""Files that run for every operation, of those that do without the tree's headers."""


@functools.cache
def own_files() -> tuple[Path, ...]:
    """All that is compiled or assembled of ours, in a fixed order."""
    return tuple(sorted(OURS.rglob("*.[cS]")))


@functools.cache
def meets_tree(path: Path) -> bool:
    """Whether one of ours is compiled against the tree's headers."""
    return _MEETS_TREE.search(path.read_bytes()) is not None


def bridge_files() -> tuple[Path, ...]:
    """Those of ours that are compiled against the tree's headers."""
    return tuple(path for path in own_files() if meets_tree(path))


@functools.cache
def hot_files() -> tuple[Path, ...]:
    """Those of ours that are optimised as one, so that calls between them are inlined: QEMU looks up the target of
    every return, and of every call to another page."""
    return (*bridge_files(), *(OURS / name for name in _HOT))


def name_of(path: Path) -> str:
    """How one of ours is called in messages: its path in `reference/kernel`."""
    return str(path.relative_to(OURS))


def is_ours(unit: str) -> bool:
    """Whether a file that was compiled, as debugging information names it, is ours. What it is asked of may have been
    built elsewhere; files of the tree may have the same names."""
    return unit.endswith(_endings())


@functools.cache
def _endings() -> tuple[str, ...]:
    return tuple(f"/{OURS.parent.name}/{OURS.name}/{name_of(path)}" for path in own_files())
