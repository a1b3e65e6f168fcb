"""Trees that Debian packages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from reference.build.cache import Progress, cached, digest, environment, silent
from reference.build.commands import HELP, TAR_OPTIONS, require, run, said
from reference.build.errors import BadKernelChoice, MissingSource
from reference.build.tree import NEEDED, BaseTree

SUPPORTED: Final = ("6.12", "6.1")
"""The versions that Debian packages and the model knows."""
DEFAULT_LINUX: Final = SUPPORTED[0]
"""The kernel where none is chosen."""

TARBALLS: Final = Path("/usr/src")
"""Where Debian's linux-source packages put their tarballs."""

# What `whole_tree` leaves out, as tar's patterns (whose * matches any number of folders).
_LEFT_OUT: Final = (
    *(f"{folder}/*.[chS]" for folder in ("drivers", "sound", "fs", "net", "crypto", "arch/[b-z]*")),
    "*.dts",
    "*.dtsi",
    "Documentation/*.*",
    "tools/testing/*",
    "tools/perf/*",
)


def packaged_tree(version: str, tarballs: Path, progress: Progress) -> BaseTree:
    """What the build needs of a packaged kernel, in the cache. Raises BadKernelChoice for a version that is not
    packaged, MissingSource where the package is not installed."""
    if version not in SUPPORTED:
        raise BadKernelChoice(
            f"kernel {version}: {version} is not supported; use {' or '.join(SUPPORTED)}, or give the folder of a"
            " kernel tree"
        )
    name = f"linux-{version}-{_tarball_key(version, tarballs, *NEEDED)}"
    message = f"unpacking linux-source-{version}.tar.xz (once; about 10 s)"
    members = tuple(f"linux-source-{version}/{path}" for path in NEEDED)
    root = cached(Path("sources") / name, message, lambda part: _unpack(version, tarballs, part, members), progress)
    return BaseTree(root, name, f"{version} (Debian linux-source-{version})")


def whole_tree(version: str, progress: Progress = silent, tarballs: Path = TARBALLS) -> Path:
    """A packaged kernel's tree with all that its own build needs, but without what takes the most room and never
    reaches KVM: drivers, file systems, other architectures, documentation.

    Raises BadKernelChoice for a version that is not packaged, MissingSource as `prepare` does.
    """
    if version not in SUPPORTED:
        raise BadKernelChoice(f"{version} is not supported; use {' or '.join(SUPPORTED)}")
    name = f"linux-{version}-whole-{_tarball_key(version, tarballs, *_LEFT_OUT)}"
    leave_out = ("--anchored", *(f"--exclude=linux-source-{version}/{pattern}" for pattern in _LEFT_OUT))
    message = f"unpacking all of linux-source-{version}.tar.xz that is needed (once; about 15 s)"
    return cached(Path("sources") / name, message, lambda part: _unpack(version, tarballs, part, leave_out), progress)


def _tarball(version: str, tarballs: Path) -> Path:
    return tarballs / f"linux-source-{version}.tar.xz"


def _tarball_key(version: str, tarballs: Path, *parts: str) -> str:
    tarball = _tarball(version, tarballs)
    with environment(f"the Debian package linux-source-{version} is needed ({HELP})"):
        stat = tarball.stat()
    return digest(tarball.name, stat.st_size, stat.st_mtime_ns, *parts)[:16]


def _unpack(version: str, tarballs: Path, part: Path, what: Sequence[str]) -> None:
    """Unpacks a Debian tarball into `part`; `what` are tar's last arguments."""
    require("xz")
    tarball = _tarball(version, tarballs)
    # Debian's tarballs have many blocks: -T0 halves the time on two cores.
    unpack = ["tar", "-x", "--use-compress-program=xz -T0", f"--file={tarball}"]
    result = run([*unpack, f"--directory={part}", "--strip-components=1", *TAR_OPTIONS, *what])
    if result.returncode:
        raise MissingSource(f"{tarball} cannot be unpacked (reinstall linux-source-{version}): {said(result)}")
