"""Checks the machine: what s2fuzz needs, whether it is there, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import click

from fuzz.cli.options import OK, say
from fuzz.engine import compiling
from harness.errors import ToolFailure
from harness.outside import shown
from reference.build.cache import cache_dir
from reference.build.kbuild import KERNEL_BUILD_TOOLS
from reference.build.naming import DEFAULT_LINUX, SUPPORTED
from reference.build.packages import TARBALLS
from reference.build.pruning import KINDS, SIZE_SETTING, most, parse_size, prune, readable, size_of, survey
from reference.link.console import qemu_version
from reference.tools import PREFERRED, find_toolchain, look_up

_DOWN_TO_THE_LIMIT: Final = "the limit"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `needed_for` says what does not work without it; what is `optional` may be
    missing on a sound machine."""

    name: str
    found: str | None
    needed_for: str
    remedy: str
    optional: bool = False


def examine() -> Iterator[Check]:
    """Every check, in order. None raises: a thing that is missing has `found` None."""
    yield Check("Python", f"{platform.python_version()} ({sys.executable})", "everything", "")
    yield Check("QEMU", _attempt(qemu_version), "running kernels", "apt-get install qemu-system-arm")
    yield from _compiler()
    for tool, package in (("git", "git"), ("tar", "tar"), ("xz", "xz-utils"), ("awk", "mawk")):
        yield Check(tool, shutil.which(tool), "preparing kernel sources", f"apt-get install {package}")
    for version in SUPPORTED:
        tarball = TARBALLS / f"linux-source-{version}.tar.xz"
        yield Check(
            f"Linux {version} source",
            str(tarball) if tarball.exists() else None,
            f"--linux {version} (trees of your own need none)",
            f"apt-get install linux-source-{version}",
            optional=version != DEFAULT_LINUX,
        )
    for module in ("click", "pexpect", "platformdirs", "elftools", "rich"):
        yield Check(f"Python package {module}", _version_of(module), "everything", "pip install s2fuzz")
    yield Check(
        "Atheris",
        _version_of("atheris"),
        "fuzzing (everything else works without it)",
        "pip install 's2fuzz[fuzz]' (x86-64, Python 3.11 to 3.13)",
        optional=True,
    )
    yield Check(
        "mypyc and a C compiler",
        _attempt(compiling.tools),
        "fuzzing at full speed: without, the model runs uncompiled",
        "apt-get install gcc libc6-dev python3-dev; pip install 's2fuzz[fuzz]'",
        optional=True,
    )
    gdb = shutil.which("gdb-multiarch") or shutil.which("aarch64-linux-gnu-gdb")
    yield Check("gdb for arm64", gdb, "what s2fuzz debug waits for", "apt-get install gdb-multiarch", optional=True)
    yield Check("cache folder", _attempt(_writable_cache), "building kernels", "make it writable, or set S2FUZZ_CACHE")


def _compiler() -> Iterator[Check]:
    """The compiler, and the tools that have to be of its version."""
    needed_for = "building kernels"
    try:
        toolchain = find_toolchain()
    except ToolFailure as error:
        yield Check(
            "clang and lld", None, f"{needed_for} ({error})", f"apt-get install clang-{PREFERRED} lld-{PREFERRED}"
        )
        major = PREFERRED
    else:
        yield Check("clang and lld", toolchain.version, needed_for, "")
        major = toolchain.major
    for names, purpose in (
        (("llvm-cov", "llvm-profdata"), "s2fuzz coverage and the lines in reports"),
        (KERNEL_BUILD_TOOLS, "the kernel's own build (kernel-make:…)"),
    ):
        found = [look_up(name, major) for name in names]
        missing = [one for one in found if one.path is None]
        others = [other for one in missing for other in one.others]
        why = f" ({'; '.join(others)})" if others else ""
        yield Check(
            f"{', '.join(names)} of version {major}",
            None if missing else ", ".join(str(one.path) for one in found),
            f"{purpose}{why}",
            f"apt-get install {found[0].package}",
            optional=True,
        )


def _attempt(probe: Callable[[], str]) -> str | None:
    try:
        return probe()
    except (ToolFailure, OSError, subprocess.SubprocessError):
        return None


def _version_of(module: str) -> str | None:
    if importlib.util.find_spec(module) is None:
        return None
    distribution = {"elftools": "pyelftools"}.get(module, module)
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "unknown version"


def _writable_cache() -> str:
    folder = cache_dir()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".writable").touch()
    (folder / ".writable").unlink()
    return f"{folder} ({readable(shutil.disk_usage(folder).free)} free on its disk)"


def _clean(size: str) -> None:
    """Prune the cache to a size. Raises BadInput, OSError."""
    root = cache_dir()
    freed = prune(root, most() if size == _DOWN_TO_THE_LIMIT else parse_size(size, "--clean"))
    click.echo(f"removed {readable(freed)} from {shown(root)}")


def _describe_cache() -> None:
    """How large the cache is, by kind, and what cleaning it would free. Raises BadInput, OSError."""
    root, limit = cache_dir(), most()
    if not root.is_dir():
        return
    found = survey(root)
    taken = [entry for entry in found.entries if entry.name in found.taken]
    click.echo(
        f"         {readable(size_of(found.entries))}, {readable(size_of(taken))} of it in use; it may hold "
        f"{readable(limit)} ({SIZE_SETTING}), and is pruned when something is added"
    )
    for kind, title in KINDS.items():
        entries = [entry for entry in found.entries if entry.kind == kind]
        in_use = sum(entry.kind == kind for entry in taken)
        if entries:
            click.echo(f"         {title}: {len(entries)}, {in_use} in use, {readable(size_of(entries))}")
    for size, asked in ((limit, ""), (0, " 0")):
        going = found.superfluous(size)
        if going:
            freed = size_of(found.entries) - size_of(found.without(going))
            click.echo(f"         `s2fuzz doctor --clean{asked}` would free {readable(freed)}")


@click.command()
@click.option(
    "--clean",
    metavar="[SIZE]",
    is_flag=False,
    flag_value=_DOWN_TO_THE_LIMIT,
    help="First remove from the cache what was not used for longest, until it holds no more than SIZE (0, 500M, 2G; "
    f"without one, what {SIZE_SETTING} says). What a process uses stays.",
)
@click.option(
    "--compile",
    "compiles",
    is_flag=True,
    help="Have mypyc compile the model and its driver now, so that no run has to do that behind its fuzzing.",
)
def doctor(clean: str | None, compiles: bool) -> int:
    """Check this machine: what s2fuzz needs, whether it is there, and how to get it.

    The cache has what was unpacked, generated and compiled, all of which can be made again. It keeps itself to
    S2FUZZ_CACHE_SIZE (1G where it is not set); --clean is for room that is needed now.
    """
    if clean is not None:
        _clean(clean)
    if compiles:
        click.echo(f"compiled  {shown(compiling.compiled(say))}")
    missing = 0
    for check in examine():
        if check.found is None:
            missing += not check.optional
            click.echo(f"missing  {check.name}, needed for {check.needed_for}: {check.remedy}")
        else:
            click.echo(f"ok       {check.name}: {check.found}")
    _describe_cache()
    if missing:
        raise ToolFailure(f"{missing} missing; `make setup` in a checkout installs them on Debian 12")
    return OK
