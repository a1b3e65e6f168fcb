"""Objects and images, cached by what went into them: our sources, the flags, the compiler, and the content of every
header that the compiler read. So a changed pgtable.c costs one compilation and a link, and a changed tree is noticed.

Hosted files are compiled to assembly first. It is assembled behind kernel/instructions.inc, which has the instructions
recorded that the kernel maintains TLBs with; the files and the tree's headers stay as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import ToolFailure
from harness.full_disk import says_full
from reference.build.cache import added, claimed, no_room, scratch
from reference.build.flags import ASSEMBLER
from reference.build.own_files import OURS, SHIM
from reference.build.progress import HowFar, Progress
from reference.tools import Toolchain

_SHIM_HEADERS: Final = sorted(str(path.relative_to(SHIM)) for path in SHIM.rglob("*.h"))
"""One that is new may hide a header of the tree's from an object that is otherwise up to date."""

KERNELS: Final = "kernels"
"""The kind of entry of the cache that objects and images are."""

_INSTRUCTIONS: Final = OURS / "instructions.inc"
_LINKER_SCRIPT: Final = OURS / "link.ld"
_BITCODE: Final = b"BC\xc0\xde"
"""What LLVM's bitcode begins with."""

_FEW: Final = 3
"""Files that are named when they are compiled; more are counted."""

Failure = Callable[[Path, str], Exception]
"""What to raise where a file does not compile, by the compiler's message."""


@dataclass(frozen=True, slots=True)
class Object:
    """An object, and the files that it was made of with the sha256 of what they held."""

    path: Path
    made_of: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How an object is made: `make` writes it to a path, and the compiler's rule of what it was made of to another.
    `depends` is what it hangs on besides what that rule names; `label` is for people."""

    name: str
    label: str
    depends: Sequence[object]
    make: Callable[[Path, Path], None]


class ObjectCache:
    """Compiles and links, unless that was done before. `generated` holds what instructions.inc includes; `progress` is
    told of what is made."""

    def __init__(self, toolchain: Toolchain, generated: Path, progress: Progress) -> None:
        self._toolchain = toolchain
        self._generated = generated
        self._progress = progress

    def compiled(self, name: str, source: Path, flags: Sequence[str], failure: Failure, label: str = "") -> Recipe:
        """For the object `name` of a source file. Where that does not compile, making it raises what `failure` makes of
        the compiler's message, or ToolFailure."""
        command = [self._toolchain.clang, *flags]

        def make(out: Path, deps: Path) -> None:
            _run([*_compiling(command, source, deps), "-c", "-o", str(out)], source, failure)

        return self._recipe(name, source, [command], make, label)

    def recorded(
        self, name: str, source: Path, flags: Sequence[str], failure: Failure, misfit: Failure, label: str = ""
    ) -> Recipe:
        """The same of a hosted file, whose instructions are recorded; `misfit` is for what cannot be."""
        command = [self._toolchain.clang, *flags]
        includes = (f"-Wa,-I,{self._generated}", f"-Wa,-I,{OURS}")
        assemble = [self._toolchain.clang, *ASSEMBLER, *includes, "-c"]

        def make(out: Path, deps: Path) -> None:
            assembly = out.with_suffix(".s")
            # Text as the tree's headers have it, rather than as the compiler would put it.
            to_assembly = [*_compiling(command, source, deps), "-S", "-fno-integrated-as", "-o", str(assembly)]
            _run(to_assembly, source, failure)
            assembly.write_text(f'.include "generated.inc"\n.include "instructions.inc"\n{assembly.read_text()}')

            def unassembled(where: Path, message: str) -> Exception:
                from reference.build.complaints import in_source  # noqa: PLC0415

                return misfit(where, in_source(message, assembly.read_text()))

            _run([*assemble, str(assembly), "-o", str(out)], source, unassembled)

        return self._recipe(name, source, [command, assemble, _hash_of(_INSTRUCTIONS)], make, label)

    def _recipe(
        self, name: str, source: Path, how: Sequence[object], make: Callable[[Path, Path], None], label: str
    ) -> Recipe:
        depends = (self._toolchain.version, *how, str(source), _hash_of(source), _SHIM_HEADERS)
        return Recipe(name, label or source.name, depends, make)

    def made(self, wanted: Sequence[Recipe | Object]) -> list[Object]:
        """The objects, in that order; what is one already stays what it is. Compiles on every CPU. Raises what the
        first recipe raises that fails."""
        hashes = _Hashes()
        found = [one if isinstance(one, Object) else self._known(one, hashes) for one in wanted]
        missing = [one for one, known in zip(wanted, found, strict=True) if known is None and isinstance(one, Recipe)]
        made = iter(self._compile_all(missing))
        return [known or next(made) for known in found]

    def _known(self, recipe: Recipe, hashes: _Hashes) -> Object | None:
        target, manifest = self._files(recipe)
        known = _up_to_date(manifest, hashes) if target.exists() else None
        return None if known is None else Object(target, known)

    def _compile_all(self, recipes: Sequence[Recipe]) -> list[Object]:
        if not recipes:
            return []
        from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415  (mostly, all of it is there)

        labels = ", ".join(recipe.label for recipe in recipes)
        step = f"compiling {labels if len(recipes) <= _FEW else f'{len(recipes)} files of the test kernel'}"
        self._progress(step)
        made = []
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            try:
                for one in pool.map(self._compile, recipes):
                    made.append(one)
                    self._progress(HowFar(step, len(made), len(recipes), "done"))
            finally:
                pool.shutdown(cancel_futures=True)
        return made

    def linked(self, objects: Sequence[Path], failure: Callable[[str], Exception]) -> Path:
        """The image. Raises what `failure` makes of the linker's message, or ToolFailure.

        What the linker is to optimise is ours, and optimising takes nearly all of its time: that is done apart, once
        for every pgtable.c in a tree.
        """
        bitcode = [path for path in objects if _is_bitcode(path)]
        rest = [path for path in objects if path not in bitcode]
        together = [self._linked("optimised", "ours.o", ("-r",), bitcode, failure)] if bitcode else []
        script = ("--orphan-handling=error", "-T", str(_LINKER_SCRIPT))
        return self._linked("image", "kernel.elf", script, [*together, *rest], failure)

    def _linked(
        self, kind: str, name: str, options: Sequence[str], objects: Sequence[Path], failure: Callable[[str], Exception]
    ) -> Path:
        content = [self._toolchain.version, _hash_of(_LINKER_SCRIPT), *(_hash_of(path) for path in objects)]
        directory = claimed(KERNELS, f"{kind}-{_sha256(json.dumps(content).encode())[:24]}")
        linked = directory / name
        if linked.exists():
            return linked
        self._progress(f"linking {name}")
        with scratch(KERNELS) as folder:
            out = folder / name
            command = [self._toolchain.lld, *options, "-o", str(out)]
            _run([*command, *map(str, objects)], out, lambda _, message: failure(message))
            directory.mkdir(exist_ok=True)
            replace_file(linked, out.read_bytes())
        added(directory, self._progress)
        return linked

    def _files(self, recipe: Recipe) -> tuple[Path, Path]:
        """Where the object is, or will be, and the list of what it was made of."""
        directory = claimed(KERNELS, f"object-{_sha256(json.dumps(recipe.depends).encode())[:24]}")
        return directory / f"{recipe.name}.o", directory / "dependencies.json"

    def _compile(self, recipe: Recipe) -> Object:
        target, manifest = self._files(recipe)
        with scratch(KERNELS) as folder:
            out, deps = folder / target.name, folder / "deps"
            recipe.make(out, deps)
            target.parent.mkdir(exist_ok=True)
            replace_file(target, out.read_bytes())
            found = _dependencies(deps)
            replace_file(manifest, json.dumps(found).encode())
        added(target.parent, self._progress)
        return Object(target, found)


def _is_bitcode(path: Path) -> bool:
    """Whether the compiler left it to the linker to make instructions of it."""
    with path.open("rb") as file:
        return file.read(len(_BITCODE)) == _BITCODE


def _compiling(command: Sequence[str], source: Path, deps: Path) -> list[str]:
    return [*command, "-MD", "-MF", str(deps), str(source)]


def _run(command: list[str], source: Path, failure: Callable[[Path, str], Exception]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode:
        _check_environment(result)
        raise failure(source, result.stderr)


def _check_environment(result: subprocess.CompletedProcess[str]) -> None:
    """Raise ToolFailure when a compiler or linker failed for reasons that are not its input's."""
    tool = Path(result.args[0]).name
    if result.returncode < 0:
        raise ToolFailure(f"{tool} was killed by signal {-result.returncode}")
    if says_full(result.stderr):
        raise no_room()


def _dependencies(makefile_rule: Path) -> dict[str, str]:
    text = makefile_rule.read_text().replace("\\\n", " ").partition(":")[2]
    names = re.findall(r"(?:\\ |\S)+", text)
    return {name.replace("\\ ", " "): _hash_of(Path(name.replace("\\ ", " "))) for name in sorted(set(names))}


class _Hashes(dict[str, str]):
    """The hashes of files by their names, each looked up once: objects were made of the same headers."""

    def __missing__(self, name: str) -> str:
        self[name] = found = _hash_of(Path(name))
        return found


def _up_to_date(manifest: Path, hashes: _Hashes) -> dict[str, str] | None:
    """What an object was made of, where all of that is as it was."""
    try:
        recorded: dict[str, str] = json.loads(manifest.read_text())
        return recorded if all(hashes[name] == digest for name, digest in recorded.items()) else None
    except (OSError, ValueError):
        return None


def _hash_of(path: Path) -> str:
    return _sha256(path.read_bytes())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that nobody, now or after a crash, sees half of it."""
    if path.exists() and path.read_bytes() == data:
        return
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as new:
        try:
            new.write(data)
            new.flush()
        except OSError:
            os.unlink(new.name)
            raise
    os.replace(new.name, path)
