"""The test kernel with an object of the kernel's own build in place of ours: nobody has to trust the shim headers.

Whatever of ours meets Linux's types is compiled here with the kernel's flags and headers, not with the shim's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from reference.build import PAGE_SHIFT, SHIM, Builder, Image, find_toolchain, replace_file
from reference.kbuild import KernelBuild, kernel_build
from reference.patching import Patches, read, tables, with_sites
from reference.sources import KernelTree, digest

FLAVOUR: Final = "make"
"""What such an image says of itself."""


def build_by_make(tree: KernelTree, linux: str, progress: Callable[[str], None] = lambda _: None) -> Image:
    """The test kernel with pgtable.o as `linux`'s own build makes it; where `tree` has another pgtable.c, that is
    compiled with the same flags. It has no coverage counters.

    Raises BadInput and ToolFailure, as `build` and `kernel_build` do.
    """
    return _MakeBuilder(tree, kernel_build(linux, find_toolchain().clang, progress), progress).image()


def patches_of(tree: KernelTree, linux: str, progress: Callable[[str], None] = lambda _: None) -> Patches:
    """What is patched in the hosted object of that image."""
    return _MakeBuilder(tree, kernel_build(linux, find_toolchain().clang, progress), progress).patches()


class _MakeBuilder(Builder):
    def __init__(self, tree: KernelTree, kernel: KernelBuild, progress: Callable[[str], None]) -> None:
        super().__init__(tree, FLAVOUR, find_toolchain(), progress)
        self.kernel = kernel

    def patches(self) -> Patches:
        return read(self._made(), self.tree.pgtable)

    def _hosted_objects(self) -> list[Path]:
        made = self._made()
        patches = read(made, self.tree.pgtable)
        content, assembly = with_sites(made, patches), tables(made, patches).encode()
        folder = self.cache / f"patched-{digest(content, assembly)[:24]}"
        folder.mkdir(exist_ok=True)
        replace_file(folder / "hosted_pgtable.o", content)
        replace_file(folder / "tables.S", assembly)
        return [folder / "hosted_pgtable.o", self._own(folder / "tables.S")]

    def _made(self) -> Path:
        """pgtable.o before it is patched."""
        if self.tree.pgtable.read_bytes() == self.kernel.source.read_bytes():
            return self.kernel.object
        return self._object("pgtable", self.tree.pgtable, (*self.kernel.flags, "-x", "c"), self._bad_source)

    def _bridge_flags(self) -> tuple[str, ...]:
        # Linux's own headers come first: of the shim's, only what no kernel has is found.
        return (*self.kernel.flags, f"-idirafter{SHIM}", f"-DS2FUZZ_PAGE_SHIFT={PAGE_SHIFT}")
