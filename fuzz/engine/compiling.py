"""The hot modules compiled to C by mypyc, for fuzzing processes alone: the same source, in less than half of the
model's time.

What a run and its findings mean does not hang on it: everything else, `replay` among it, runs the modules as they are.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, ModuleSpec
from importlib.metadata import PackageNotFoundError, version
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

from harness.errors import ToolFailure
from harness.full_disk import says_full
from reference.build.cache import added, cached, claimed, digest, no_room
from reference.build.progress import HowFar, Progress

_ROOT: Final = Path(__file__).resolve().parents[2]
_PACKAGES: Final = ("pgtable", "harness", "reference", "fuzz")
_GROUP: Final = "s2fuzz"
_ROOMS: Final = (
    *("pgtable", "harness/program", "harness/observation", "harness/model", "fuzz/generate"),
    *("harness/verdict/tlb", "harness/verdict/effects"),
)
"""What runs between a generated input and its verdict, and what makes the next input: whole, sub-folders included."""
_OTHERS: Final = (
    *(f"harness.verdict.{name}" for name in ("caller", "hardware", "invalidation", "judge", "judging")),
    *("harness.verdict.pair", "harness.verdict.trees", "harness.verdict.verdicts"),
    *("harness.verdict.maplets", "harness.verdict.contracts.replay"),
    *("reference.guest_ram", "reference.protocol"),
    *("reference.link.executor", "reference.link.ram", "reference.probe.coverage"),
    *("fuzz.coverage.joint", "fuzz.engine.stats", "fuzz.engine.target", "fuzz.engine.worker"),
)
"""Of other rooms, what takes part in every execution."""
_LEFT_OUT: Final = (
    *("harness/program/ops", "harness/program/kunit.py", "harness/program/text.py"),
    *("harness/observation/descriptors.py", "harness/observation/tables.py", "pgtable/verified.py"),
)
"""Definitions, which are read once, and what is written for people: a fifth of the C, and of the time that it takes."""


_IMPORT: Final = re.compile(r"^\s*(?:from ([\w.]+) )?import (\([^)]*\)|.+)$", re.MULTILINE)


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

_GENERATE: Final = """
import json, sys
from mypyc.build import mypycify

group, plan, *files = sys.argv[1:]
# `make test` checks types, with the project's own settings; here they only tell mypyc what is what.
settings = ["--config-file=", "--ignore-missing-imports", "--follow-imports=silent"]
library = mypycify([*settings, *files], opt_level="2", debug_level="0", group_name=group, multi_file=True)[0]
with open(plan, "w") as file:
    json.dump([library.sources, library.extra_compile_args, library.include_dirs], file)
"""
_LIBRARY: Final = f"{_GROUP}__mypyc{EXTENSION_SUFFIXES[0]}"
"""Where all of them are: mypyc calls the module so. It would have another extension for each module, which only passes
on to this one, and takes as long to compile as a quarter of it; `_Loader` does that instead."""
_KIND: Final = "compiled"
"""Of entries in the cache."""
_MOST_COMPILERS: Final = 8
"""At once: each takes up to a quarter of a gigabyte."""


class CannotCompile(ToolFailure):
    """Something is missing that compiling takes, or it failed. The message says what, and what to do."""


def compiled(progress: Progress) -> Path:
    """The folder of the compiled modules, made unless the cache has it. `progress` is told, for it takes minutes; what
    is compiled until it is killed, the next one need not compile again.

    Raises CannotCompile.
    """
    message = "compiling the model and its driver with mypyc"
    return cached(Path(_KIND, _entry()), message, lambda part: _fill(part, progress), progress)


def in_cache(name: str | None = None) -> Path | None:
    """The folder of the compiled modules, or of those of that name, where the cache has it; it stays there while this
    process lives. Raises CannotCompile as `compiled` does."""
    try:
        folder = claimed(_KIND, name or _entry())
    except OSError:  # whoever makes it says what is wrong with the cache
        return None
    return folder if folder.is_dir() else None


def _entry() -> str:
    tools()
    texts = [path.read_bytes() for path in _with_imported(MODULES)]
    return digest(version("mypy"), sys.version, EXTENSION_SUFFIXES[0], _GENERATE, *MODULES, *texts)[:16]


def install(folder: Path) -> None:
    """Have the compiled modules imported from `folder`; before any of them is imported otherwise."""
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
        self._file = str(folder / _LIBRARY)
        self._loaders = {name: _Loader() for name in MODULES}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == f"{_GROUP}__mypyc":
            return spec_from_file_location(fullname, self._file, loader=ExtensionFileLoader(fullname, self._file))
        loader = self._loaders.get(fullname)
        return None if loader is None else spec_from_file_location(fullname, self._file, loader=loader)


class _Loader(Loader):
    """Calls a module's init function, to which the library has a capsule."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        library = importlib.import_module(f"{_GROUP}__mypyc")
        name = f"init_{spec.name.replace('.', '___')}"
        pointer_in = ctypes.pythonapi.PyCapsule_GetPointer
        pointer_in.restype, pointer_in.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
        init = pointer_in(getattr(library, name), f"{_GROUP}__mypyc.{name}".encode())
        module: ModuleType = ctypes.PYFUNCTYPE(ctypes.py_object)(init)()
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It has run when it was made."""


def _source(module: str) -> Path:
    return _ROOT.joinpath(*module.split(".")).with_suffix(".py")


def _with_imported(modules: Sequence[str]) -> list[Path]:
    """The files of modules and of all of ours that they import, sorted: mypyc copies constants out of any of them."""
    todo, seen, found = list(modules), set[str](), set[Path]()
    while todo:
        module = todo.pop()
        if module in seen or module.partition(".")[0] not in _PACKAGES:
            continue
        seen.add(module)
        path = _source(module) if _source(module).exists() else _ROOT.joinpath(*module.split("."), "__init__.py")
        if path in found or not path.exists():
            continue
        found.add(path)
        for package, names in _IMPORT.findall(path.read_text()):
            todo += [package, *(f"{package}.{name}" if package else name for name in re.findall(r"[\w.]+", names))]
    return sorted(found)


def _fill(part: Path, progress: Progress) -> None:
    work = part / "work"
    for source in [path for package in _PACKAGES for path in sorted((_ROOT / package).rglob("*.py"))]:
        copy = work / source.relative_to(_ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)
    files = [str(_source(module).relative_to(_ROOT)) for module in MODULES]
    _run([sys.executable, "-c", _GENERATE, _GROUP, "plan.json", *files], work, "mypyc")
    sources, flags, folders = json.loads((work / "plan.json").read_text())
    objects = _compile_all(work, sources, flags, [sysconfig.get_path("include"), *folders], progress)
    link = shlex.split(sysconfig.get_config_var("LDSHARED"))
    _run([*link, *map(str, objects), "-o", str(part / _LIBRARY)], work, "the linker")
    shutil.rmtree(work)


def _compile_all(
    work: Path, sources: Sequence[str], flags: Sequence[str], folders: Sequence[str], progress: Progress
) -> list[Path]:
    """The objects of these files below `work`, made on all CPUs. One of a file and headers that were compiled before
    is taken as it is. The headers in `folders` outside are Python's and mypyc's, and follow from their versions."""
    words = " ".join(sysconfig.get_config_var(name) or "" for name in ("CC", "CFLAGS", "CCSHARED"))
    command = [*shlex.split(words), *flags]
    headers = [path.read_bytes() for path in sorted(work.rglob("*.h"))]
    compiler = subprocess.run([command[0], "--version"], capture_output=True, check=True).stdout
    common = digest(version("mypy"), sys.version, compiler, *command, *headers)
    folder = claimed(_KIND, f"objects-{common[:16]}")
    folder.mkdir(exist_ok=True)
    objects = [folder / f"{digest((work / source).read_bytes())[:32]}.o" for source in sources]

    def make(source: str, target: Path) -> None:
        if target.exists():
            return
        new = work / f"{target.name}.new"
        _run([*command, *(f"-I{folder}" for folder in folders), "-c", source, "-o", str(new)], work, command[0])
        new.replace(target)

    with ThreadPoolExecutor(min(len(os.sched_getaffinity(0)), _MOST_COMPILERS)) as pool:
        tasks = [pool.submit(make, *one) for one in zip(sources, objects, strict=True)]
        try:
            for done, task in enumerate(as_completed(tasks), 1):
                task.result()
                progress(HowFar("compiling with mypyc", done, len(tasks), "C files"))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    added(folder, progress)
    return objects


def _run(command: Sequence[str], folder: Path, what: str) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode:
        if says_full(result.stdout + result.stderr):
            raise no_room()
        said = "\n".join([line for line in (result.stdout + result.stderr).splitlines() if "warning" not in line][-15:])
        raise CannotCompile(f"{what} failed with status {result.returncode}:\n{said}")
