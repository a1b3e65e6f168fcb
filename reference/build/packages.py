"""Trees that Debian packages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Final

from reference.build.cache import cached, digest, environment
from reference.build.commands import HELP, TAR_OPTIONS, require, run_fed, said
from reference.build.errors import BadKernelChoice, MissingSource
from reference.build.naming import SUPPORTED
from reference.build.progress import HowFar, Progress, silent
from reference.build.tree import NEEDED, BaseTree

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
    tarball, what = _tarball(version, tarballs), f"unpacking {_tarball(version, tarballs).name} (once)"
    members = [f"linux-source-{version}/{path}" for path in NEEDED]
    root = cached(
        Path("sources") / name, what, lambda part: _unpack_members(tarball, part, members, what, progress), progress
    )
    return BaseTree(root, name, f"{version} (Debian linux-source-{version})")


def whole_tree(version: str, progress: Progress = silent, tarballs: Path = TARBALLS) -> Path:
    """A packaged kernel's tree with all that its own build needs, but without what takes the most room and never
    reaches KVM: drivers, file systems, other architectures, documentation.

    Raises BadKernelChoice for a version that is not packaged, MissingSource as `prepare` does.
    """
    if version not in SUPPORTED:
        raise BadKernelChoice(f"{version} is not supported; use {' or '.join(SUPPORTED)}")
    name = f"linux-{version}-whole-{_tarball_key(version, tarballs, *_LEFT_OUT)}"
    leave_out = ["--anchored", *(f"--exclude=linux-source-{version}/{pattern}" for pattern in _LEFT_OUT)]
    tarball, what = _tarball(version, tarballs), f"unpacking most of {_tarball(version, tarballs).name} (once)"
    return cached(
        Path("sources") / name, what, lambda part: _unpack_whole(tarball, part, leave_out, what, progress), progress
    )


def _tarball(version: str, tarballs: Path) -> Path:
    return tarballs / f"linux-source-{version}.tar.xz"


def _tarball_key(version: str, tarballs: Path, *parts: str) -> str:
    tarball = _tarball(version, tarballs)
    with environment(f"the Debian package linux-source-{version} is needed ({HELP})"):
        stat = tarball.stat()
    return digest(tarball.name, stat.st_size, stat.st_mtime_ns, *parts)[:16]


def _unpack_members(tarball: Path, part: Path, members: Sequence[str], what: str, progress: Progress) -> None:
    """Unpacks folders and files of a Debian tarball into `part`, and tells how far it is with `what`."""
    # Only who unpacks needs these.
    import lzma  # noqa: PLC0415

    import xz  # noqa: PLC0415

    from reference.build.tarball import END, Tarball  # noqa: PLC0415

    try:
        with Tarball(tarball) as archive:
            ranges = archive.ranges(members)
            pieces = chain.from_iterable(map(archive.read, ranges))
            told = _told(pieces, sum(map(len, ranges)), what, progress)
            _unpack(tarball, part, chain(told, (END,)), members)
    except (xz.XZError, lzma.LZMAError, EOFError) as error:
        raise _damaged(tarball, str(error)) from error


def _unpack_whole(tarball: Path, part: Path, leave_out: Sequence[str], what: str, progress: Progress) -> None:
    """Unpacks a Debian tarball into `part`, but for what tar's options leave out, and tells how far it is."""
    require("xz")
    with tarball.open("rb") as packed:
        pieces = iter(lambda: packed.read(1 << 18), b"")
        told = _told(pieces, tarball.stat().st_size, what, progress)
        # Debian's tarballs have many blocks: -T0 halves the time on two cores.
        _unpack(tarball, part, told, ["--use-compress-program=xz -T0", *leave_out])


def _told(pieces: Iterable[bytes], of: int, what: str, progress: Progress) -> Iterator[bytes]:
    done = 0
    for piece in pieces:
        yield piece
        done += len(piece)
        progress(HowFar(what, done, of))


def _unpack(tarball: Path, part: Path, pieces: Iterable[bytes], words: Sequence[str]) -> None:
    """Has tar unpack what it is fed; `words` are its last arguments."""
    command = ["tar", "-x", "--file=-", f"--directory={part}", "--strip-components=1", *TAR_OPTIONS, *words]
    result = run_fed(command, pieces)
    if result.returncode:
        raise _damaged(tarball, said(result))


def _damaged(tarball: Path, why: str) -> MissingSource:
    return MissingSource(f"{tarball} cannot be unpacked (reinstall {tarball.name.removesuffix('.tar.xz')}): {why}")
