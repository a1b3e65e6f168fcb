"""The test kernel with an object of the kernel's own build in place of ours: nobody has to trust the shim headers.

Whatever of ours meets Linux's types is compiled here with the kernel's flags and headers, not with the shim's.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from harness.errors import ToolFailure
from reference.build.alternatives import WINDOWS, Patches, read, tables, with_sites
from reference.build.cache import claimed, digest, room
from reference.build.flags import CALLS
from reference.build.hosted import HOSTED, PGTABLE, VMID, HostedFile
from reference.build.image import Builder, Image
from reference.build.kbuild import Configuration, kernel_build
from reference.build.objects import KERNELS, Object, Recipe, replace_file
from reference.build.own_files import SHIM, bridge_files
from reference.build.progress import Progress, silent
from reference.build.tree import KernelTree
from reference.tools import find_toolchain, required

_OUR_BUILD: Final = frozenset(path for row in HOSTED if row.path != PGTABLE for path in row.needs)
"""Of ours, what stands beside hosted files that are our own build's here too."""
_LOOKED_AT: Final = ("active_vmids", "reserved_vmids", "vmid_generation")
"""What is static in vmid.c."""


def build_by_make(
    tree: KernelTree,
    configuration: Configuration,
    progress: Progress = silent,
    calls_only: bool = False,
) -> Image:
    """The test kernel with pgtable.o as the kernel's own build makes it; where `tree` has another pgtable.c, that is
    compiled with the same flags, as vmid.c is. It has no coverage counters. `calls_only` is the flavour `calls`.

    Raises BadInput and ToolFailure, as `build` and `kernel_build` do.
    """
    with room():
        return replace(_MakeBuilder(tree, configuration, progress, calls_only).image(), is_made=True)


def patches_of(tree: KernelTree, configuration: Configuration, progress: Progress = silent) -> Patches:
    """What is patched in the hosted object of that image."""
    return _MakeBuilder(tree, configuration, progress).patches()


class _MakeBuilder(Builder):
    def __init__(
        self,
        tree: KernelTree,
        configuration: Configuration,
        progress: Progress,
        calls_only: bool = False,
    ) -> None:
        super().__init__(tree, CALLS if calls_only else "plain", find_toolchain(), progress, configuration.granule)
        self.kernel = kernel_build(configuration, self.toolchain, progress)

    def patches(self) -> Patches:
        return read(self._made(), self.tree.pgtable)

    def _hosted(self, row: HostedFile) -> list[Recipe | Object]:
        if row.path == VMID:
            return self._vmid(row)
        if row.path != PGTABLE:
            return super()._hosted(row)
        # What of ours is compiled with the kernel's headers asks for capabilities in the kernel's way too.
        bridge = self._objects.made([self._bridge(path) for path in bridge_files() if path not in _OUR_BUILD])
        found = [(one.path, patches) for one in bridge if not (patches := read(one.path)).is_empty]
        made, patches = self._made(), self.patches()
        hosted = self._kept(f"hosted_{row.name}.o", with_sites(made, patches))
        return [Object(hosted, {}), *(self._own(self._table(path, some)) for path, some in [*found, (made, patches)])]

    def _vmid(self, row: HostedFile) -> list[Recipe | Object]:
        source = self.kernel.source.parents[1] / row.path.name
        words = (*self.kernel.flags, "-x", "c")
        (made,) = self._objects.made([self._objects.compiled(row.name, source, words, self._bad_source)])
        path = self._kept(f"whole_{row.name}.o", self._opened(made.path))
        patches = read(path, source, WINDOWS)
        hosted = self._kept(f"hosted_{row.name}.o", with_sites(path, patches))
        return [Object(hosted, {}), self._own(self._table(path, patches))]

    def _opened(self, made: Path) -> bytes:
        """The object with `.init.text` behind its `.text`, for there is one table of what is patched; and with what is
        static, and the ops look at, for all to see."""
        objcopy = required("llvm-objcopy", self.toolchain.major)
        with TemporaryDirectory() as scratch:
            script, joined = Path(scratch) / "join.ld", Path(scratch) / "joined.o"
            script.write_text("SECTIONS { .text : { *(.text) *(.init.text) } }\n")
            commands = (
                [str(self.toolchain.lld), "-r", f"-T{script}", str(made), "-o", str(joined)],
                [objcopy, *(f"--globalize-symbol={name}" for name in _LOOKED_AT), str(joined)],
            )
            for command in commands:
                result = subprocess.run(command, capture_output=True, text=True, check=False)
                if result.returncode:
                    raise ToolFailure(f"{Path(command[0]).name} failed:\n{result.stderr.rstrip()}")
            return joined.read_bytes()

    def _table(self, path: Path, patches: Patches) -> Path:
        return self._kept(f"patches_{path.stem}.S", tables(path, patches).encode())

    def _kept(self, name: str, content: bytes) -> Path:
        folder = claimed(KERNELS, f"patched-{digest(name, content)[:24]}")
        folder.mkdir(exist_ok=True)
        replace_file(folder / name, content)
        return folder / name

    def _made(self) -> Path:
        """pgtable.o before it is patched."""
        if self.tree.pgtable.read_bytes() == self.kernel.source.read_bytes():
            return self.kernel.object
        words = (*self.kernel.flags, "-x", "c")
        made = self._objects.made([self._objects.compiled("pgtable", self.tree.pgtable, words, self._bad_source)])
        self._note_read(made)
        return made[0].path

    def _bridge_flags(self, source: Path) -> tuple[str, ...]:
        if source in _OUR_BUILD:
            return super()._bridge_flags(source)
        # Linux's own headers come first: of the shim's, only what no kernel has is found.
        return (*self.kernel.flags, f"-idirafter{SHIM}", "-DS2FUZZ_MADE")
