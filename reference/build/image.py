"""Builds the test kernel: our C files and the tree's hosted ones, in one bare-metal ELF image."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.errors import BadInput, ToolFailure
from harness.files import HOSTED_FILES, file_lines
from harness.outside import shown
from harness.program.capabilities import Capabilities
from harness.program.granule import GRANULE_4K, Granule
from reference.build import flags
from reference.build.cache import claimed, room
from reference.build.declared import declared
from reference.build.flags import CALLS, OBJECTS
from reference.build.generated import GENERATED, GENERATORS
from reference.build.git import commit_of
from reference.build.header import generated_header, generated_include, generated_rules
from reference.build.hosted import HOSTED, PGTABLE, HostedFile
from reference.build.objects import KERNELS, Object, ObjectCache, Recipe, replace_file
from reference.build.own_files import OURS, SHIM, hot_files, meets_tree, name_of, own_files
from reference.build.progress import Progress, silent
from reference.build.slices import slice_of
from reference.build.tree import KernelTree
from reference.tools import Toolchain, find_toolchain


@dataclass(frozen=True, slots=True)
class Image:
    """A test kernel: its ELF file and what it is made of (for reports)."""

    elf: Path
    tree: KernelTree
    flavour: str
    compiler: str
    sha256: str
    capabilities: Capabilities
    """What programs may ask of it."""
    granule: Granule = GRANULE_4K
    is_made: bool = False
    """Whether pgtable.o is that of the kernel's own build."""
    kernel_object: str = "host"
    files: Mapping[str, str] = field(default_factory=dict)
    """The tree's files that the hosted code was compiled from, headers included: their names in the tree, and the
    sha256 of what they held. Empty where that is not known."""
    read: frozenset[str] = frozenset()
    """Names of all of the tree's files that were read, by ours as well."""
    commit: str = ""
    """The commit that the tree is, or is checked out from; empty where it is none."""
    changed: tuple[str, ...] = ()
    """Which of `read` are otherwise than in that commit."""

    @property
    def has_counters(self) -> bool:
        """Whether the hosted files count what they reach."""
        return not self.is_made

    @property
    def identity(self) -> Mapping[str, str]:
        more = {"commit": self.commit, "commit_changed": " ".join(self.changed)} if self.commit else {}
        if self.files:
            more[HOSTED_FILES] = ", ".join(file_lines(self.files))
        return more | {
            "compiler": self.compiler,
            "flavour": f"{self.flavour}, made by the kernel's build" if self.is_made else self.flavour,
            "granule": self.granule.name,
            "image_sha256": self.sha256,
            "linux": self.tree.version,
            "object": self.kernel_object,
            "pgtable_sha256": self.tree.pgtable_sha256,
            "source": self.tree.description,
        }


def build(
    tree: KernelTree,
    flavour: str = "plain",
    progress: Progress = silent,
    granule: Granule = GRANULE_4K,
    kernel_object: str = "host",
) -> Image:
    """The test kernel that hosts `tree`'s pgtable.c, compiled for that granule and as that object of OBJECTS.

    Raises BadInput, with the compiler's message, when the tree's file does not compile or no longer fits the shim
    headers, and ToolFailure when our own files or the toolchain fail, or the disk is full.
    """
    with room():
        return Builder(tree, flavour, find_toolchain(), progress, granule, kernel_object).image()


class Builder:
    """One build. `make_build.py` makes one whose hosted objects come from elsewhere."""

    def __init__(
        self,
        tree: KernelTree,
        flavour: str,
        toolchain: Toolchain,
        progress: Progress,
        granule: Granule,
        kernel_object: str = "host",
    ) -> None:
        self.tree = tree
        self.flavour = flavour
        self.toolchain = toolchain
        self.granule = granule
        self.kernel_object = kernel_object
        self.declared = declared(tree.root)
        self.generated = self._generated_dir(
            "generated",
            {
                "generated.h": generated_header(),
                "generated.inc": generated_include(),
                "generated_rules.h": generated_rules(),
            },
        )
        self.generated_for_tree = self._generated_dir("declared", {"declared.h": self.declared.header})
        self._objects = ObjectCache(toolchain, self.generated, progress)
        self._hosted_files: dict[str, str] = {str(PGTABLE): tree.pgtable_sha256}
        self._read: set[str] = {*GENERATORS, str(PGTABLE)}

    def image(self) -> Image:
        own = [self._bridge(path) if meets_tree(path) else self._own(path) for path in own_files()]
        has = self.declared.capabilities.has
        rows = [
            row for row in HOSTED if (row.is_in_calls or self.flavour != CALLS) and (not row.serves or has(row.serves))
        ]
        objects = self._objects.made([*own, *(one for row in rows for one in self._hosted(row))])
        self._note_read(objects)
        self._hosted_files |= dict(self._in_tree(objects[len(own) :]))
        elf = self._objects.linked(
            [one.path for one in objects], lambda message: self._misfit(self.tree.pgtable, message)
        )
        digest = hashlib.sha256(elf.read_bytes()).hexdigest()
        capabilities, which = self.declared.capabilities, self.kernel_object
        commit, changed = commit_of(self.tree, self._read)
        return Image(
            elf,
            self.tree,
            self.flavour,
            self.toolchain.version,
            digest,
            capabilities,
            self.granule,
            kernel_object=which,
            files=dict(sorted(self._hosted_files.items())),
            read=frozenset(self._read),
            commit=commit,
            changed=tuple(changed),
        )

    def _generated_dir(self, name: str, files: Mapping[str, str]) -> Path:
        """A folder with these files."""
        directory = claimed(KERNELS, f"{name}-{hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]}")
        directory.mkdir(exist_ok=True)
        for file, text in files.items():
            replace_file(directory / file, text.encode())
        return directory

    @property
    def _ours(self) -> tuple[str, ...]:
        return (f"-DS2FUZZ_PAGE_SHIFT={self.granule.shift}", f"-I{OURS}", f"-I{self.generated}")

    def _own(self, source: Path) -> Recipe:
        words = (*flags.COMMON, *flags.OWN, *_inlining(source), *self._ours)
        return self._objects.compiled(source.stem, source, words, _own_failure)

    def _bridge(self, source: Path) -> Recipe:
        name = name_of(source)
        calls = ("-DS2FUZZ_CALLS_ONLY",) if self.flavour == CALLS else ()
        words = (*self._bridge_flags(source), *self._ours, f"-I{self.generated_for_tree}", *calls)
        return self._objects.compiled(name.partition(".")[0].replace("/", "_"), source, words, self._misfit, name)

    def _bridge_flags(self, source: Path) -> tuple[str, ...]:
        return (*self._tree_flags(), *OBJECTS[self.kernel_object], *_inlining(source))

    def _hosted(self, row: HostedFile) -> list[Recipe | Object]:
        """The objects that stand for a hosted file, or how they are made."""
        source = self._parts(row) if row.parts else self.tree.source(row.path)
        words = (
            *self._tree_flags(),
            *(OBJECTS[self.kernel_object] if row.both_objects else ()),
            *row.all_flags,
            *flags.of_flavour(self.flavour, row.is_under_test),
            *("-x", "c"),  # the user's file may have any name
        )
        failure = self._bad_source if row.is_under_test else self._misfit
        label = source.name if row.is_under_test else f"{row.path.parent.name}/{row.path.name}"
        return [self._objects.recorded(f"hosted_{row.name}", source, words, failure, self._misfit, label)]

    def _parts(self, row: HostedFile) -> Path:
        """A file with the functions of a row's parts."""
        text, has = f"#include <{row.begins_with}>\n", self.declared.capabilities.has
        for path, every in row.parts.items():
            names = tuple(name for name in every if name not in row.parts_for or has(row.parts_for[name]))
            found = self.tree.root / path
            if found.is_file():
                content = found.read_bytes()
                text += slice_of(content.decode(errors="replace"), names, str(found))
                self._hosted_files[str(path)] = hashlib.sha256(content).hexdigest()
                self._read.add(str(path))
        name = f"{row.name}.c"
        return self._generated_dir(row.name, {name: text}) / name

    def _tree_flags(self) -> tuple[str, ...]:
        root, generated = self.tree.root, self.tree.generated
        roots = (
            SHIM,
            root / "arch/arm64/include",
            generated,
            root / "include",
            root / "arch/arm64/include/uapi",
            generated / "uapi",
            root / "include/uapi",
            root / "arch/arm64/kvm/hyp/include",
        )
        forced = (root / "include/linux/kconfig.h", root / "include/linux/compiler_types.h")
        includes = tuple(f"-I{path}" for path in roots)
        return (
            *flags.COMMON,
            *flags.HOSTED,
            f"-DS2FUZZ_PAGE_SHIFT={self.granule.shift}",
            f"-I{self.generated}",
            "-nostdinc",
            *includes,
            *(word for path in forced for word in ("-include", str(path))),
        )

    def _note_read(self, objects: Iterable[Object]) -> None:
        """Remember what objects were made of that is the tree's, by its name there."""
        self._read |= {name for name, _ in self._in_tree(objects) if not name.startswith(GENERATED)}

    def _in_tree(self, objects: Iterable[Object]) -> Iterator[tuple[str, str]]:
        """Of what objects were made of, what is the tree's: the names there, and the sha256."""
        made_of = {path: digest for one in objects for path, digest in one.made_of.items()}
        for path, digest in made_of.items():
            name = self._name_in_tree(Path(os.path.normpath(path)))
            if name is not None:
                yield name, digest

    def _name_in_tree(self, path: Path) -> str | None:
        if path == self.tree.pgtable:
            return str(PGTABLE)
        for root, prefix in ((self.tree.generated, GENERATED), (self.tree.root, "")):
            if path.is_relative_to(root):
                return str(Path(prefix) / path.relative_to(root))
        return None

    def _bad_source(self, source: Path, message: str) -> Exception:
        # Nobody waits for these but who is told of errors.
        from reference.build.complaints import name_for_people, told  # noqa: PLC0415
        from reference.build.diagnosis import shim_lacks  # noqa: PLC0415

        lacks = shim_lacks(self.tree.root, message)
        name = shown(name_for_people(source, self.tree))
        return BadInput(f"{name}{f': {lacks}' if lacks else ' does not compile:'}\n{told(message, self.tree)}")

    def _misfit(self, source: Path, message: str) -> Exception:
        from reference.build.complaints import told  # noqa: PLC0415
        from reference.build.diagnosis import misfits, shim_lacks  # noqa: PLC0415

        lines = [
            f"{self.tree.description} does not fit the test kernel{misfits(message)}:",
            told(message, self.tree),
            shim_lacks(self.tree.root, message),
        ]
        if self.flavour != CALLS and any(self._is_from(row, source, message) for row in HOSTED if not row.is_in_calls):
            lines.append("--flavour calls does without the tree's TLB maintenance, and records the calls of it alone")
        return BadInput("\n".join(filter(None, lines)))

    def _is_from(self, row: HostedFile, source: Path, message: str) -> bool:
        """Whether it is for that hosted file that `source` does not compile, or that nothing is linked."""
        return source in (*row.needs, self.tree.source(row.path)) or f"hosted_{row.name}.o" in message


def _own_failure(source: Path, message: str) -> Exception:
    return ToolFailure(f"{source.name} of the test kernel does not compile:\n{message.rstrip()}")


def _inlining(source: Path) -> tuple[str, ...]:
    return ("-flto",) if source in hot_files() else ()
