"""Makes a folder from which a fuzzing cluster runs the target, with nothing else of this machine.

`NAME` is the launcher, and lies with the files that clusters look for by name in the folder itself; everything else is
in `NAME.files/`:

packages/      s2fuzz's own modules, Atheris, and what they import
lib/           Python's standard library
libraries/     the dynamic loader, and every shared library that Python or QEMU is linked with
qemu-system-…  QEMU; firmware/ is what it is told to take firmware from, of which a kernel's image needs none
kernels/       the image, ready to run
compiled/      the model as mypyc compiles it, if it is to be there
package.json   what is compared
"""

from __future__ import annotations

import compileall
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from fuzz.cluster.packaged import (
    COMPILED,
    FILES,
    FIRMWARE,
    IMAGES,
    LIBRARIES,
    MANIFEST,
    NAME,
    SETTING,
    loader_in,
    to_manifest,
)
from fuzz.corpus.store import (
    MAX_INPUT,
    check_codec,
    check_whole,
    input_for,
    name_of,
    programs_in,
    read_input,
    stamp_of,
    why_left_out,
)
from fuzz.sides import Side, capabilities_of
from harness.errors import BadInput, ToolFailure
from harness.findings.place import program_in
from harness.outside import shown, writing
from harness.program.codec import Dialect, dialect_for, fitting, frame, header_of
from harness.program.granule import Granule
from harness.program.program import Program
from harness.program.space import space_of
from harness.verdict.contracts.blame import KNOWN
from harness.verdict.tiers import Tier
from reference.build.image import Image
from reference.link.console import QEMU, QEMU_SETTING, qemu_version, qemu_words
from reference.link.executor import INPUT_TIMEOUT

DICTIONARY, OPTIONS, SEEDS = f"{NAME}.dict", f"{NAME}.options", f"{NAME}_seed_corpus.zip"
INTERPRETER: Final = f"{NAME}.pkg"
"""Python itself: OSS-Fuzz looks here for the machine that a Python target was made for."""
PARTS: Final = (FILES, INTERPRETER, DICTIONARY, OPTIONS, SEEDS, NAME)
"""All that a package is made of; the launcher comes last."""

_PACKAGES: Final = ("pgtable", "harness", "reference", "fuzz")
_ROOT: Final = Path(__file__).resolve().parents[2]

_UNNEEDED: Final = (
    *("__pycache__", "test", "tests", "idlelib", "turtledemo", "tkinter", "lib2to3", "ensurepip", "venv"),
    *("distutils", "pydoc_data", "site-packages", "dist-packages", "sitecustomize.py", "config-3*", "*.a"),
)
"""Of the standard library: what no fuzzing needs, as patterns of names."""
_UNNEEDED_EXTENSIONS: Final = re.compile(
    r"_?(curses|dbm|gdbm|sqlite3|ssl|tkinter|crypt|nis|test|xx|uuid|lsprof)|readline|ossaudio|audioop|spwd"
)

_LAUNCHER: Final = """\
#!/bin/sh
# LLVMFuzzerTestOneInput: clusters take an executable file with this word in it for a target.
case $0 in
*/*) folder=${0%%/*} ;;
*) folder=. ;;
esac
folder=$(CDPATH= cd -- "$folder" && pwd -P) || exit 3
files=$folder/%(files)s
loader=$files/%(libraries)s/%(loader)s
[ -x "$loader" ] || chmod +x "$loader" || exit 3 # an archive may have lost the bit
unset PYTHONPATH PYTHONSTARTUP LD_PRELOAD LD_LIBRARY_PATH S2FUZZ_ASSIGNMENT
export PYTHONHOME="$files" %(setting)s="$files" LC_ALL=C OPENSSL_CONF=/dev/null
exec "$loader" --inhibit-cache --library-path "$files/%(libraries)s" "$folder/%(interpreter)s" \\
	-s -S -P -B -X utf8 "$files/packages/fuzz/stage2_fuzzer.py" "$@"
"""

_TRIAL: Final = ("-runs=4", "-seed=1337")
"""What a new package is tried with, as OSS-Fuzz's check of a build does."""
_TRIAL_LIMIT: Final = 120
_FOUND: Final = 77
"""libFuzzer's exit status after a target has raised."""

Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class PackageContents:
    """What is to be packaged: a comparison of two `sides` with programs of one granule. `corpora` are programs,
    findings, folders of either, or folders of inputs with their stamps; `compiled` is a folder of
    `fuzz.engine.compiling`, if any."""

    sides: tuple[Side, Side]
    granule: Granule
    tiers: frozenset[Tier]
    corpora: tuple[Path, ...]
    compiled: Path | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """What came of it: inputs in the seed corpus, how many programs were left out of it and why, and bytes in all."""

    seeds: int
    left_out: Mapping[str, int]
    size: int


def package(folder: Path, contents: PackageContents, force: bool, told: Told) -> Made:
    """Make the package in `folder`, which may hold other files; `told` is told of every step. A package that is there
    already is replaced as a whole, once the new one has run; with `force`, whatever bears its names is.

    Raises BadInput for sides that cannot be packaged, a folder that may not be written over, or a bad corpus;
    ToolFailure where something is missing or the result does not run.
    """
    folder = folder.resolve()
    _check_place(folder, force)
    if any(side.kind == "kernel-make" for side in contents.sides):
        raise BadInput("kernels as their own build makes them cannot be packaged, as every program may need another")
    qemu = _own_qemu()
    images = {
        number: side.image(told, contents.granule) for number, side in enumerate(contents.sides) if side.is_kernel
    }
    dialect = dialect_for(capabilities_of(contents.sides), contents.granule)
    inputs, left_out = seed_inputs(contents.corpora, dialect)
    folder.mkdir(parents=True, exist_ok=True)
    with writing(folder), tempfile.TemporaryDirectory(dir=folder, prefix=f".{NAME}-") as scratch:
        new = Path(scratch) / "new"
        _fill(new, contents, images, qemu, told)
        _write_zip(new / SEEDS, inputs)
        (new / DICTIONARY).write_text("".join(f"{line}\n" for line in dictionary(dialect)))
        (new / OPTIONS).write_text(f"[libfuzzer]\nmax_len = {MAX_INPUT}\nlen_control = 0\ntimeout = {INPUT_TIMEOUT}\n")
        told("trying the package")
        _try(new, Path(scratch))
        size = sum(path.stat().st_size for path in new.rglob("*") if path.is_file())
        _replace(folder, new, Path(scratch) / "old")
    return Made(len(inputs), left_out, size)


def seed_inputs(corpora: Iterable[Path], dialect: Dialect) -> tuple[list[bytes], Counter[str]]:
    """The inputs that corpora come to, and how many programs are left out, by why: for another granule, or asking for
    what a side lacks, or too long. Raises BadInput."""
    inputs: dict[str, bytes] = {}
    left_out = Counter[str]()
    for corpus in corpora:
        if stamp_of(corpus).is_file():
            check_codec(corpus, dialect)
            files = sorted(corpus.iterdir())
            for path in files:
                check_whole(path)
            found = [read_input(path) for path in files]
        else:
            texts = programs_in(corpus)
            if not texts:
                raise BadInput(f"{corpus}: holds neither programs (*.s2) nor inputs with a stamp beside them")
            programs = [(program, input_for(program, dialect)) for program in _read(texts)]
            left_out.update(why_left_out(program, dialect) for program, data in programs if data is None)
            found = [data for _, data in programs if data is not None]
        inputs.update((name_of(data), data) for data in found)
    return [inputs[name] for name in sorted(inputs)], left_out


def _read(files: Iterable[Path]) -> list[Program]:
    """The programs in files. Raises BadInput, which names all that are none."""
    programs, problems = [], []
    for path in files:
        try:
            programs.append(program_in(path))
        except BadInput as error:
            problems.append(str(error))
    if problems:
        raise BadInput("\n".join(problems))
    return programs


def dictionary(dialect: Dialect) -> Iterator[str]:
    """libFuzzer's dictionary: a header for the ends of every knob, and every operation with its first choices."""
    for knob in dialect.knobs:
        for what, value in (("low", knob.low), ("high", knob.high)):
            if value != knob.default:
                yield _entry(f"{knob.name}_{what}", header_of(fitting(dialect.bare, {knob.name: value}), dialect))
    for stage in (1, 2):
        space = space_of(dialect.bare.replace("stage", stage))
        for op in dialect.capabilities.ops:
            if stage in op.stages:
                parts = [arg.kind.encode(0, space, 0) for arg in op.args]
                yield _entry(f"stage{stage}_{op.name}", frame([bytes((op.number - 1,)), *parts]))


def _entry(name: str, data: bytes) -> str:
    spelt = "".join([rf"\x{byte:02x}" for byte in data])
    return f'{name}="{spelt}"'


def _check_place(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"{shown(folder)} is no folder")
    there = [name for name in PARTS if os.path.lexists(folder / name)]
    if there and not force and not (folder / FILES / MANIFEST).is_file():
        raise BadInput(f"{shown(folder)} holds {', '.join(there)}, which s2fuzz did not make; --force replaces them")


def _own_qemu() -> Path:
    """This machine's QEMU. Raises ToolFailure where there is none, BadInput for a command of several words."""
    qemu_version()
    name, *more = qemu_words()
    found = shutil.which(name)
    if more or found is None:
        raise BadInput(f"{QEMU_SETTING} has to name a file for this, and nothing else")
    return Path(found)


def _fill(new: Path, contents: PackageContents, images: Mapping[int, Image], qemu: Path, told: Told) -> None:
    files = new / FILES
    for name in ("packages", LIBRARIES, FIRMWARE, IMAGES):
        (files / name).mkdir(parents=True)
    (files / FIRMWARE / "none").write_text("A kernel's image needs no firmware.\n")
    kept = {}
    for number, image in images.items():
        kept[number] = replace(image, elf=files / IMAGES / f"{number}.elf")
        _copy(image.elf, kept[number].elf)
    (files / MANIFEST).write_text(to_manifest(contents.sides, kept, contents.granule, contents.tiers) + "\n")
    told("collecting Python, Atheris and QEMU")
    _copy_python(files)
    if contents.compiled is not None:
        shutil.copytree(contents.compiled, files / COMPILED)
    _copy(Path(os.path.realpath(sys.executable)), new / INTERPRETER)
    _copy(qemu, files / QEMU)
    loaded = [new / INTERPRETER, files / QEMU, *sorted(files.rglob("*.so"))]
    for name, path in shared_libraries(loaded).items():
        _copy(path, files / LIBRARIES / name)
    loader = loader_in(files / LIBRARIES)
    loader.chmod(0o755)
    words = {"files": FILES, "interpreter": INTERPRETER, "libraries": LIBRARIES, "setting": SETTING}
    (new / NAME).write_text(_LAUNCHER % {**words, "loader": shlex.quote(loader.name)})
    (new / NAME).chmod(0o755)


def _copy(source: Path, target: Path) -> None:
    """A file's content. It is not executable: OSS-Fuzz may take what is for a target."""
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _copy_python(files: Path) -> None:
    """The standard library, our packages and what they import, as source and compiled for good."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in _PACKAGES:
        for path in sorted((_ROOT / name).rglob("*.py")):
            target = files / "packages" / path.relative_to(_ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    shutil.copytree(KNOWN, files / "packages" / KNOWN.relative_to(_ROOT), copy_function=_copy_module)
    for path in _third_party():
        target = files / "packages" / path.name
        if path.is_dir():
            shutil.copytree(path, target, ignore=ignored, copy_function=_copy_module)
        else:
            _copy(path, target)
    library = files / sys.platlibdir / f"python{sys.version_info.major}.{sys.version_info.minor}"
    shutil.copytree(
        sysconfig.get_path("stdlib"),
        library,
        ignore=_unneeded(),
        copy_function=_copy_module,
        ignore_dangling_symlinks=True,
    )
    extensions = Path(sysconfig.get_config_var("DESTSHARED"))
    if not (library / extensions.name).is_dir():
        shutil.copytree(extensions, library / extensions.name, ignore=_unneeded(), copy_function=_copy_module)
    compileall.compile_dir(
        files, quiet=2, stripdir=str(files), invalidation_mode=PycInvalidationMode.UNCHECKED_HASH, workers=1
    )


def _copy_module(source: str, target: str) -> str:
    _copy(Path(source), Path(target))
    return target


def _unneeded() -> Callable[[str, list[str]], set[str]]:
    named = shutil.ignore_patterns(*_UNNEEDED)

    def ignore(folder: str, names: list[str]) -> set[str]:
        extensions = {name for name in names if name.endswith(".so") and _UNNEEDED_EXTENSIONS.match(name)}
        return named(folder, names) | extensions

    return ignore


_WHAT_IS_IMPORTED: Final = """
import json, sys
before = set(sys.modules)
sys.path.insert(0, sys.argv[1])
import fuzz.stage2_fuzzer
import reference.probe.debug_info  # which waits until somebody asks
names = {name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)
files = {name: getattr(sys.modules.get(name), "__file__", None) for name in names}
print(json.dumps({name: file for name, file in files.items() if file}))
"""


def _third_party() -> list[Path]:
    """Top-level packages and modules that the target imports and that are neither Python's own nor ours."""
    words = [sys.executable, "-B", "-c", _WHAT_IS_IMPORTED, str(_ROOT)]
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ToolFailure(f"the target cannot be imported; is Atheris installed?\n{result.stderr.rstrip()}")
    found: dict[str, str] = json.loads(result.stdout.splitlines()[-1])
    paths = [Path(file) for name, file in sorted(found.items()) if name not in _PACKAGES]
    return [path.parent if path.name == "__init__.py" else path for path in paths]


def shared_libraries(files: Sequence[Path]) -> dict[str, Path]:
    """What these are linked with, the dynamic loader included, by the name under which it is looked for.

    Raises ToolFailure where one is not to be found.
    """
    result = subprocess.run(
        ["ldd", *map(str, files)], capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}
    )
    found: dict[str, Path] = {}
    for line in result.stdout.splitlines():
        if match := re.match(r"\s+(\S+) => not found", line):
            raise ToolFailure(f"a shared library is missing on this machine: {match[1]}")
        if match := re.match(r"\s+(?:(\S+) => )?(/\S+) \(0x", line):
            path = Path(match[2])
            found.setdefault(Path(match[1] or path).name, path)
    if not found:
        raise ToolFailure(f"ldd told of no shared libraries: {result.stderr.strip()}")
    return found


def _write_zip(path: Path, inputs: Iterable[bytes]) -> None:
    """Byte for byte the same for the same inputs."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for data in inputs:
            archive.writestr(zipfile.ZipInfo(name_of(data)), data, zipfile.ZIP_DEFLATED)


def _try(new: Path, scratch: Path) -> None:
    """Run the launcher where it was made, with hardly any environment. That the first inputs find something is no
    fault of the package."""
    try:
        result = subprocess.run(
            [str(new / NAME), *_TRIAL, f"-artifact_prefix={scratch}/"],
            cwd=scratch,
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_TRIAL_LIMIT,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailure(f"the package did not end within {_TRIAL_LIMIT} s; nothing was replaced") from error
    if result.returncode not in (0, _FOUND):
        said = "\n".join((result.stdout + result.stderr).splitlines()[-15:])
        raise ToolFailure(f"the package does not run (status {result.returncode}); nothing was replaced:\n{said}")


def _replace(folder: Path, new: Path, old: Path) -> None:
    """Move what is new into the folder; what bore its names goes, or comes back if that fails."""
    old.mkdir()
    moved: list[str] = []
    try:
        for name in PARTS:
            moved.append(name)
            if os.path.lexists(folder / name):
                (folder / name).rename(old / name)
            (new / name).rename(folder / name)
    except BaseException:
        for name in moved:
            if not os.path.lexists(new / name):
                (folder / name).rename(new / name)
            if os.path.lexists(old / name):
                (old / name).rename(folder / name)
        raise
