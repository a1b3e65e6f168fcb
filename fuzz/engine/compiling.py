"""The hot modules compiled to C by mypyc, for fuzzing processes alone: the same source, in less than half of the
model's time.

What a run and its findings mean does not hang on it: everything else, `replay` among it, runs the modules as they are.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

from harness.errors import ToolFailure
from harness.full_disk import says_full
from reference.build.cache import cached, digest, no_room
from reference.build.progress import Progress

_ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGES: Final = ("pgtable", "harness", "reference", "fuzz")
_GROUP: Final = "s2fuzz"
_ROOMS: Final = ("pgtable", "harness/program", "harness/observation", "harness/model", "fuzz/generate")
"""What runs between a generated input and its verdict, and what makes the next input: whole, sub-folders included."""
_OTHERS: Final = (
    *(f"harness.verdict.{name}" for name in ("invalidation", "judge", "pair", "verdicts")),
    *("reference.guest_ram", "reference.protocol"),
    *("reference.link.executor", "reference.link.ram", "reference.probe.coverage"),
    *("fuzz.coverage.joint", "fuzz.engine.stats", "fuzz.engine.worker"),
)
"""Of other rooms, what takes part in every execution."""
_LEFT_OUT: Final = (
    *("harness/program/ops", "harness/program/kunit.py", "harness/program/text.py"),
    *("harness/observation/descriptors.py", "harness/observation/tables.py", "pgtable/verified.py"),
)
"""Definitions, which are read once, and what is written for people: a fifth of the C, and of the time that it takes."""


def _modules() -> tuple[str, ...]:
    found = []
    for room in _ROOMS:
        for path in sorted((_ROOT / room).rglob("*.py")):
            file = path.relative_to(_ROOT)
            # A package's own file is no place for what is hot: `_Finder` finds modules only.
            if path.stem != "__init__" and not any(file.is_relative_to(cold) for cold in _LEFT_OUT):
                found.append(".".join(file.with_suffix("").parts))
    return (*found, *_OTHERS)


MODULES: Final = _modules()
"""What is compiled."""

_SETUP: Final = """
import sys
from mypyc.build import mypycify
from setuptools import setup

group, folder, *files = sys.argv[1:]
# `make test` checks types, with the project's own settings; here they only tell mypyc what is what.
settings = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
setup(
    name=group,
    ext_modules=mypycify([*settings, *files], opt_level="2", debug_level="0", group_name=group, multi_file=True),
    script_args=["--quiet", "build_ext", "--build-lib", folder],
)
"""


class CannotCompile(ToolFailure):
    """Something is missing that compiling takes, or it failed. The message says what, and what to do."""


def compiled(progress: Progress) -> Path:
    """The folder of the compiled modules, made unless the cache has it. `progress` is told, for it takes minutes.

    Raises CannotCompile.
    """
    tools()
    sources = [path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*.py"))]
    texts = [path.read_bytes() for path in _with_imported(MODULES)]
    name = digest(version("mypy"), sys.version, EXTENSION_SUFFIXES[0], _SETUP, *MODULES, *texts)[:16]
    message = "compiling the model and its driver with mypyc (once, until they change; about two minutes)"
    return cached(Path("compiled") / name, message, lambda part: _fill(part, sources), progress)


def install(folder: Path) -> None:
    """Have the modules in `folder` imported from there; before any of them is imported otherwise."""
    sys.meta_path.insert(0, _Finder(folder))


def tools() -> str:
    """What compiles, in a few words. Raises CannotCompile when something is missing."""
    try:
        mypyc = f"mypyc {version('mypy')}, setuptools {version('setuptools')}"
    except PackageNotFoundError as error:
        raise CannotCompile(f"the Python package {error.name} is missing: pip install 's2fuzz[fuzz]'") from error
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    if shutil.which(compiler) is None:
        raise CannotCompile(f"there is no C compiler {compiler}: apt-get install gcc libc6-dev")
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        raise CannotCompile("Python's own headers are missing: apt-get install python3-dev")
    return f"{mypyc}, {compiler}"


class _Finder(MetaPathFinder):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        file = str(self._folder.joinpath(*fullname.split("."))) + EXTENSION_SUFFIXES[0]
        if not Path(file).is_file():
            return None
        return spec_from_file_location(fullname, file, loader=ExtensionFileLoader(fullname, file))


def _source(module: str) -> Path:
    return _ROOT.joinpath(*module.split(".")).with_suffix(".py")


def _with_imported(modules: Sequence[str]) -> list[Path]:
    """The files of modules and of all of ours that they import, sorted: mypyc copies constants out of any of them."""
    todo, found = list(modules), set[Path]()
    while todo:
        module = todo.pop()
        path = _source(module) if _source(module).exists() else _ROOT.joinpath(*module.split("."), "__init__.py")
        if module.partition(".")[0] not in _PACKAGES or path in found or not path.exists():
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                todo += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                todo += [alias.name for alias in node.names]
    return sorted(found)


def _fill(part: Path, sources: Sequence[Path]) -> None:
    work = part / "work"
    for source in sources:
        copy = work / source.relative_to(_ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    files = [str(_source(module).relative_to(_ROOT)) for module in MODULES]
    command = [sys.executable, "-c", _SETUP, _GROUP, str(part), *files]
    result = subprocess.run(command, cwd=work, capture_output=True, text=True, check=False)
    if result.returncode:
        if says_full(result.stdout + result.stderr):
            raise no_room()
        said = "\n".join([line for line in (result.stdout + result.stderr).splitlines() if "warning" not in line][-15:])
        raise CannotCompile(f"mypyc failed with status {result.returncode}:\n{said}")
    shutil.rmtree(work)
