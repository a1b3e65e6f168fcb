"""From the user's choice of kernel to a source tree that the reference can be compiled from.

A choice is a version that Debian packages (`6.12`), a folder, or a commit of a repository
(`DIR@REV`), each with patches and another `pgtable.c` on top. Trees of the user are used in place
and never written to; what has to be unpacked, patched or generated goes into the cache.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from harness.outside import shown
from reference.build.errors import BadKernelChoice
from reference.build.generated import generated_headers
from reference.build.git import commit_tree
from reference.build.hosted import PGTABLE
from reference.build.naming import DEFAULT_LINUX, SUPPORTED, at_revision, is_version
from reference.build.packages import TARBALLS, packaged_tree
from reference.build.progress import Progress, silent
from reference.build.tree import BaseTree, KernelTree, check_file, check_tree, read
from reference.build.versions import version_at


@dataclass(frozen=True)
class KernelChoice:
    """What the user asked for: the values of --linux, --patch and --pgtable."""

    linux: str = DEFAULT_LINUX
    patches: tuple[Path, ...] = ()
    pgtable: Path | None = None


def prepare(choice: KernelChoice, progress: Progress = silent, tarballs: Path = TARBALLS) -> KernelTree:
    """Makes the chosen kernel available and says where it lies. `progress` is told of slow steps.

    Raises BadKernelChoice when the choice is at fault, MissingSource when the machine is.
    """
    base = _find_base(choice.linux, tarballs, progress)
    check_tree(base)
    if choice.patches:
        from reference.build.patches import patched  # noqa: PLC0415  (most kernels have none)

        base = patched(base, choice.patches, progress)
        check_tree(base)
    pgtable, description = base.root / PGTABLE, base.description
    if choice.pgtable is not None:
        check_file(choice.pgtable, "pgtable.c")
        pgtable = choice.pgtable.absolute()
        description += f", pgtable.c from {shown(choice.pgtable)}"
    return KernelTree(
        root=base.root,
        generated=generated_headers(base.root, progress),
        pgtable=pgtable,
        pgtable_sha256=hashlib.sha256(read(pgtable)).hexdigest(),
        version=version_at(base.root),
        description=description,
        commit=base.commit,
        folder=base.folder,
        changed_by=base.changed_by,
    )


def _find_base(linux: str, tarballs: Path, progress: Progress) -> BaseTree:
    # Versions first: "6.12" must not depend on the current folder ("./6.12" names a folder).
    if is_version(linux):
        return packaged_tree(linux, tarballs, progress)
    if os.path.isdir(linux):
        root = Path(linux).resolve()
        return BaseTree(root, None, shown(root), folder=root)
    split = at_revision(linux)
    if split is not None:
        return commit_tree(*split, progress)
    raise BadKernelChoice(
        f"kernel {shown(linux)}: no such folder (or not readable), and not a known version; give one of"
        f" {', '.join(SUPPORTED)}, the folder of a kernel tree, or REPOSITORY@REVISION"
    )
