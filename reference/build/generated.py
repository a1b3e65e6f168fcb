"""The headers that the kernel's build would generate."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Final

from reference.build.cache import cached, digest
from reference.build.commands import run, said
from reference.build.errors import BadKernelChoice
from reference.build.progress import Progress
from reference.build.tree import read

# Header: its generator and table, both in arch/arm64/tools (6.1 has cpucaps.h for cpucap-defs.h).
_AWK_HEADERS: Final = {
    "sysreg-defs.h": ("gen-sysreg.awk", "sysreg"),
    "cpucap-defs.h": ("gen-cpucaps.awk", "cpucaps"),
    "cpucaps.h": ("gen-cpucaps.awk", "cpucaps"),
}

GENERATED: Final = "arch/arm64/include/generated"
"""Under which name the generated headers are told of: where the kernel's build has them."""

GENERATORS: Final = (
    "Makefile",
    *(f"{folder}/Kbuild" for folder in ("arch/arm64/include/asm", "arch/arm64/include/uapi/asm")),
    *(f"{folder}/Kbuild" for folder in ("include/asm-generic", "include/uapi/asm-generic")),
    *(f"arch/arm64/tools/{name}" for name in sorted({name for pair in _AWK_HEADERS.values() for name in pair})),
)
"""What is read of a tree besides what the compiler reads: its version, and what headers are generated from."""


def generated_headers(root: Path, progress: Progress) -> Path:
    """The folder with the headers that the kernel's build would generate and pgtable.c needs.

    Raises BadKernelChoice when the tree lacks the generators' inputs or they fail.
    """
    arch, generic = root / "arch/arm64/include", root / "include"
    kernel = _wrappers(arch / "asm", generic / "asm-generic/Kbuild")
    uapi = _wrappers(arch / "uapi/asm", generic / "uapi/asm-generic/Kbuild")
    # The kernel's build has a second root for the uapi wrappers. One can do for both: a header of
    # the kernel's own comes first either way, and the wrappers' text is the same.
    shared = {name for name in uapi if not os.path.exists(arch / "asm" / name)}
    wrappers = {f"asm/{name}" for name in kernel | shared} | {f"uapi/asm/{name}" for name in uapi}
    by_awk: dict[str, tuple[bytes, ...]] = {
        name: tuple(read(root / "arch/arm64/tools" / path) for path in _AWK_HEADERS[name])
        for name in sorted(_kbuild(arch / "asm/Kbuild", "generated-y") & _AWK_HEADERS.keys())
    }

    def fill(part: Path) -> None:
        (part / "asm").mkdir()
        (part / "uapi/asm").mkdir(parents=True)
        for path in wrappers:
            (part / path).write_text(f"#include <asm-generic/{Path(path).name}>\n")
        for name, (script, table) in by_awk.items():
            (part / "asm" / name).write_bytes(_awk(_AWK_HEADERS[name][0], script, table))

    inputs = [part for name, files in by_awk.items() for part in (name.encode(), *files)]
    key = digest(*sorted(wrappers), *inputs)
    return cached(Path("generated") / key, "generating headers", fill, progress)


def _wrappers(own: Path, generic_kbuild: Path) -> set[str]:
    """The headers to be taken from asm-generic, as scripts/Makefile.asm-headers chooses them."""
    names = _kbuild(own / "Kbuild", "generic-y") | _kbuild(generic_kbuild, "mandatory-y")
    names -= _kbuild(own / "Kbuild", "generated-y")
    return {name for name in names if not os.path.exists(own / name)}


def _kbuild(path: Path, variable: str) -> set[str]:
    """The headers that a Kbuild file lists in `variable`."""
    text = read(path).decode(errors="replace").replace("\\\n", " ")
    lists = re.findall(rf"^{variable}[ \t]*[+:]?=([^#\n]*)", text, re.MULTILINE)
    # Only plain names: they become files in the cache.
    return {name for words in lists for name in words.split() if re.fullmatch(r"[\w-]+(\.[\w-]+)+", name)}


def _awk(name: str, script: bytes, table: bytes) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / name
        path.write_bytes(script)
        result = run(["awk", "-f", path], stdin=table)
    if result.returncode:
        raise BadKernelChoice(f"the kernel's own arch/arm64/tools/{name} fails: {said(result)}")
    return result.stdout
