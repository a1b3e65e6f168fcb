"""The compiler, and the LLVM tools of its own version: the one place where they are looked up.

An object, a profile or bitcode of one version of LLVM is nothing to another's tools. So a tool whose version is not the
compiler's counts as missing, wherever on the PATH it is.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import ToolFailure

_SUFFIXES: Final = ("-19", "-20", "-21", "-22", "-18", "-17", "-16", "")
"""Of compilers, the newest that was tested first; .ci/packages tries them in the same order."""
OLDEST: Final = 16
"""The oldest major version of clang that will do."""
PREFERRED: Final = 19
"""The one to install where there is none."""
_PACKAGES: Final = {"clang": "clang", "ld.lld": "lld"}
"""Debian's packages, where they are not `llvm`; each name ends with the version."""
_FOLDER: Final = "/usr/lib/llvm-%d"
"""Where Debian has a version of LLVM."""
_SAYS_VERSION: Final = re.compile(r"\b(?:version|LLD) (\d+)\.")


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The compiler and linker that are used; what the compiler calls itself, and its major version."""

    clang: str
    lld: str
    version: str
    major: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """Where a tool of the version that was asked for is; where there is none, `path` is None, and `others` has what
    was found in its place, in words."""

    name: str
    major: int
    path: str | None
    others: tuple[str, ...] = ()

    @property
    def package(self) -> str:
        """Debian's package that has it."""
        return f"{_PACKAGES.get(self.name, 'llvm')}-{self.major}"

    @property
    def problem(self) -> str:
        """Why it cannot be used."""
        instead = f" ({'; '.join(self.others)})" if self.others else ""
        return f"{self.name} of version {self.major}, the compiler's own, was not found{instead}"


def find_toolchain() -> Toolchain:
    """The newest-tested clang first, then any other that has the lld of its version. Raises ToolFailure when there is
    none."""
    problems = []
    for suffix in _SUFFIXES:
        clang = shutil.which(f"clang{suffix}")
        if clang is None:
            continue
        version = _said(clang)
        major = major_in(version)
        if major < OLDEST:
            problems.append(f"{clang} is of version {major or 'unknown'}, and {OLDEST} is the oldest that will do")
            continue
        lld = look_up("ld.lld", major)
        if lld.path is not None:
            return Toolchain(clang, lld.path, version.splitlines()[0], major)
        problems.append(f"{clang} is there, but {lld.problem}")
    why = f" ({'; '.join(problems)})" if problems else ""
    raise ToolFailure(
        f"no clang with ld.lld was found{why}; run `make setup`, or install clang-{PREFERRED} and lld-{PREFERRED}"
    )


def look_up(name: str, major: int) -> Lookup:
    """The LLVM tool of that major version: by its versioned name, in Debian's folder, or by its plain name."""
    others: dict[str, None] = {}
    for path in _candidates(name, major):
        version = version_of(path)
        if version == major:
            return Lookup(name, major, path)
        others.setdefault(f"{path} is of version {version or 'unknown'}")
    return Lookup(name, major, None, tuple(others))


def required(name: str, major: int) -> str:
    """The path of the LLVM tool of that version. Raises ToolFailure, saying what to install."""
    found = look_up(name, major)
    if found.path is None:
        raise ToolFailure(f"{found.problem}: install the package {found.package}")
    return found.path


def _candidates(name: str, major: int) -> Iterator[str]:
    for candidate in (f"{name}-{major}", f"{_FOLDER % major}/bin/{name}", name):
        path = shutil.which(candidate)
        if path is not None:
            yield path


def major_in(text: str) -> int:
    """The major version in what an LLVM tool says of itself; 0 where it does not say."""
    found = _SAYS_VERSION.search(text)
    return int(found[1]) if found else 0


def version_of(tool: str) -> int | None:
    """The major version that a tool says it is of. Where it says nothing, as llvm-profdata did for long, what its
    folder or its name says; None where they do not either."""
    if major := major_in(_said(tool)):
        return major
    found = re.search(r"/llvm-(\d+)/", str(Path(tool).resolve())) or re.search(r"-(\d+)$", Path(tool).name)
    return int(found[1]) if found else None


def _said(tool: str) -> str:
    stat = os.stat(tool)
    return _said_by(tool, stat.st_mtime_ns, stat.st_ino)


@functools.cache
def _said_by(tool: str, _mtime: int, _inode: int) -> str:
    """Asked once of a file as it is."""
    try:
        result = subprocess.run(
            [tool, "--version"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False
        )
    except OSError:  # not for this machine, or no program at all
        return ""
    return result.stdout + result.stderr
