"""The kernel's own parser of KTAP: `tools/testing/kunit/kunit_parser.py`, out of the packaged source. Nothing of it is
ours, and it is kept in the cache, not here."""

from __future__ import annotations

import functools
import io
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from reference.build.cache import cached, silent
from reference.build.packages import DEFAULT_LINUX, TARBALLS

_FILES = ("kunit_parser.py", "kunit_printer.py")


def _unpack(folder: Path) -> None:
    name = f"linux-source-{DEFAULT_LINUX}"
    members = [f"{name}/tools/testing/kunit/{file}" for file in _FILES]
    tar = ["tar", "-x", "--use-compress-program=xz -T0", f"--file={TARBALLS / name}.tar.xz", f"--directory={folder}"]
    subprocess.run([*tar, "--strip-components=4", "--occurrence=1", *members], check=True)


@functools.cache
def _parser() -> Any:
    """The module, which prints to nowhere."""
    size = (TARBALLS / f"linux-source-{DEFAULT_LINUX}.tar.xz").stat().st_size
    folder = cached(Path("kunit") / f"{DEFAULT_LINUX}-{size}", "unpacking the parser", _unpack, silent)
    sys.path.insert(0, str(folder))
    try:
        parser = import_module("kunit_parser")
        parser.stdout = import_module("kunit_printer").Printer(io.StringIO())
    finally:
        sys.path.remove(str(folder))
    return parser


def parse(text: str) -> Any:
    """The tests in KTAP, as the module has them."""
    return _parser().parse_run_tests(text.splitlines())
