"""A kernel tree, and what is read of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.outside import shown
from reference.build.cache import digest
from reference.build.errors import BadKernelChoice
from reference.build.hosted import FOLDERS, HOSTED, PGTABLE

NEEDED: Final = ("Makefile", "include", "arch/arm64/include", *FOLDERS, "arch/arm64/tools")
"""What the build reads of a kernel tree."""

# Results of a build in the user's own tree: one configuration's, not source.
_BUILT_FOLDERS: Final = ("include/config", "include/generated", "arch/arm64/include/generated")
_BUILT_SUFFIXES: Final = (".o", ".cmd", ".a", ".ko", ".mod", ".order", ".d")


@dataclass(frozen=True)
class BaseTree:
    """A tree. `identity` stands for its contents; None: the user may change them at any time."""

    root: Path
    identity: str | None
    description: str
    commit: str = ""
    folder: Path | None = None
    changed_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class KernelTree:
    """What can be compiled. All paths are absolute; nothing in them is to be written to.

    The include roots are, after any shims and in this order: `root/arch/arm64/include`,
    `generated`, `root/include`, `root/arch/arm64/include/uapi`, `root/include/uapi`.
    """

    root: Path
    generated: Path
    pgtable: Path
    pgtable_sha256: str
    version: str
    description: str
    commit: str = ""
    """The commit that it is, in full; empty where it is none."""
    folder: Path | None = None
    """The user's own folder that it is, or was copied from, which may be changed at any time."""
    changed_by: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of files by their names in the tree, the user's patches that changed them, as messages name them."""

    @property
    def is_in_place(self) -> bool:
        """Whether it is the user's own folder, rather than a copy in the cache."""
        return self.root == self.folder

    def source(self, path: Path) -> Path:
        """Where the file is that is hosted as the tree's `path`: the user's own pgtable.c may stand for the tree's."""
        return self.pgtable if path == PGTABLE else self.root / path

    @property
    def under_test(self) -> tuple[Path, ...]:
        """The files that are hosted for their own sake, pgtable.c first."""
        return tuple(self.source(row.path) for row in HOSTED if row.is_under_test)


def check_tree(base: BaseTree) -> None:
    """Raise BadKernelChoice for a folder that holds no Linux with KVM/arm64."""
    for path in (Path("Makefile"), PGTABLE):
        if not os.path.isfile(base.root / path):
            raise BadKernelChoice(
                f"{base.description}: {shown(path)} is missing or cannot be read; give the top folder of a Linux tree"
            )


def needed_files(root: Path) -> Iterator[Path]:
    """The source files of the needed folders, relative to `root`, in a fixed order.

    Raises BadKernelChoice for a folder that cannot be read.
    """

    def unreadable(error: OSError) -> None:
        raise BadKernelChoice(f"{shown(error.filename)}: {error.strerror}; make it readable") from error

    for needed in NEEDED:
        if os.path.isfile(root / needed):
            yield Path(needed)
            continue
        if not os.path.isdir(root / needed):
            continue  # old kernels have no arch/arm64/tools
        for folder, subfolders, files in os.walk(root / needed, onerror=unreadable):
            here = Path(folder).relative_to(root)
            subfolders[:] = sorted(name for name in subfolders if str(here / name) not in _BUILT_FOLDERS)
            for name in sorted(files):
                # Not every name is a file: editors leave dangling links.
                if not name.endswith(_BUILT_SUFFIXES) and os.path.isfile(root / here / name):
                    yield here / name


def tree_digest(root: Path) -> str:
    """A name for the content of all needed files. Raises BadKernelChoice for what cannot be read."""
    parts = ((os.fsencode(path), read(root / path)) for path in needed_files(root))
    return digest(*(part for pair in parts for part in pair))


def read(path: Path) -> bytes:
    """What a file of the user's holds. Raises BadKernelChoice where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadKernelChoice(f"{shown(path)}: {error.strerror}; make it readable or choose another") from error


def check_file(path: Path, what: str) -> None:
    """Raise BadKernelChoice, naming what it is to be, where the user has given what is no regular file."""
    if not os.path.isfile(path):
        problem = "is not a regular file" if os.path.exists(path) else "no such file"
        raise BadKernelChoice(f"{what} {shown(path)}: {problem}; give a file that can be read")
