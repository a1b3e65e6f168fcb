"""The kernel's own parser of KTAP: `tools/testing/kunit/kunit_parser.py`, out of the packaged source. Nothing of it is
ours, and it is kept in the cache, not here."""

from __future__ import annotations

import functools
import io
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from reference.build.cache import cached
from reference.build.naming import DEFAULT_LINUX
from reference.build.packages import TARBALLS, _unpack_members
from reference.build.progress import silent

_FOLDER = "tools/testing/kunit"
_FILES = ("kunit_parser.py", "kunit_printer.py")
_PACKAGE = f"linux-source-{DEFAULT_LINUX}"
_TARBALL = TARBALLS / f"{_PACKAGE}.tar.xz"


def _unpack(folder: Path) -> None:
    _unpack_members(_TARBALL, folder, [f"{_PACKAGE}/{_FOLDER}/{file}" for file in _FILES], "the parser", silent)


@functools.cache
def _parser() -> Any:
    """The module, which prints to nowhere."""
    name = f"kunit-{DEFAULT_LINUX}-{_TARBALL.stat().st_size}"
    folder = str(cached(Path("sources") / name, "unpacking the parser", _unpack, silent) / _FOLDER)
    sys.path.insert(0, folder)
    try:
        parser = import_module("kunit_parser")
        parser.stdout = import_module("kunit_printer").Printer(io.StringIO())
    finally:
        sys.path.remove(folder)
    return parser


def parse(text: str) -> Any:
    """The tests in KTAP, as the module has them."""
    return _parser().parse_run_tests(text.splitlines())
