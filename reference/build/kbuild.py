"""Runs the kernel's own build, for the object that Linux itself would be linked from.

The tree is unpacked without what no header leads to (drivers' sources, file systems, documentation); Kconfig and
Makefiles are all there. Configuration is `make alldefconfig`, each option at its default, with KVM, the granule and
debugging information on top. Results are cached by the tree's identity, the configuration and the compiler.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import BadInput, ToolFailure
from harness.full_disk import says_full
from harness.program.granule import GRANULE_4K, Granule, granule_named
from harness.program.machine import Machine
from reference.build.cache import cached, digest, no_room
from reference.build.hosted import PGTABLE
from reference.build.naming import SUPPORTED
from reference.build.packages import TARBALLS, whole_tree
from reference.build.progress import Progress
from reference.tools import Toolchain, required

OBJECT: Final = PGTABLE.with_suffix(".o")
_SECONDS: Final = 900.0
"""What a whole build may take; it takes some ten seconds."""

_OPTIONS: Final = (
    "CONFIG_VIRTUALIZATION=y",
    "CONFIG_KVM=y",
    "CONFIG_ARM64_VA_BITS_48=y",
    "CONFIG_PREEMPT=y",  # where RCU's lock is a call, and so can be seen
    "CONFIG_DEBUG_KERNEL=y",  # which only offers the next
    "CONFIG_DEBUG_INFO_DWARF4=y",
)
GRANULE_64K: Final = granule_named("64k")

_TOOLS: Final = {
    "bc": "bc",
    "bison": "bison",
    "flex": "flex",
    "gcc": "gcc",
    "make": "make",
}
_LLVM: Final = {
    "AR": "llvm-ar",
    "NM": "llvm-nm",
    "OBJCOPY": "llvm-objcopy",
    "OBJDUMP": "llvm-objdump",
    "READELF": "llvm-readelf",
    "STRIP": "llvm-strip",
}
"""Variables of the kernel's Makefile, and the tools that are named by them instead of being taken from the PATH."""
KERNEL_BUILD_TOOLS: Final = tuple(_LLVM.values())


@dataclass(frozen=True, slots=True)
class Configuration:
    """Which kernel is built, and what its configuration decides of what a program's machine may ask for."""

    linux: str
    granule: Granule = GRANULE_4K
    has_52_bits: bool = False
    has_hw_af: bool = True

    @classmethod
    def of(cls, linux: str, machine: Machine) -> Configuration:
        """The one for programs of that machine. Stage 2 asks for CONFIG_ARM64_PA_BITS_52 with 64K pages only."""
        has_52_bits = bool(machine["pa_bits_52"]) and machine.granule == GRANULE_64K
        return cls(linux, machine.granule, has_52_bits, bool(machine["hw_af"]))

    @property
    def options(self) -> tuple[str, ...]:
        """Lines of a .config."""
        return (
            *_OPTIONS,
            f"CONFIG_ARM64_{self.granule.name.upper()}_PAGES=y",
            f"CONFIG_ARM64_PA_BITS_{52 if self.has_52_bits else 48}=y",
            "CONFIG_ARM64_HW_AFDBM=y" if self.has_hw_af else "# CONFIG_ARM64_HW_AFDBM is not set",
        )


@dataclass(frozen=True, slots=True)
class KernelBuild:
    """What the kernel's build left: the object, what it was compiled from, and the compiler's flags, good from any
    folder."""

    object: Path
    source: Path
    flags: tuple[str, ...]


def kernel_build(
    configuration: Configuration, toolchain: Toolchain, progress: Progress, tarballs: Path = TARBALLS
) -> KernelBuild:
    """Has the kernel's `make` build pgtable.o with that compiler and the LLVM tools of its version.

    Raises BadInput for a kernel that is not a packaged version, ToolFailure for what the machine lacks and for a build
    that fails.
    """
    linux, options = configuration.linux, configuration.options
    if linux not in SUPPORTED:
        raise BadInput(f"kernel-make:{linux}: the kernel's own build is for packaged versions: {', '.join(SUPPORTED)}")
    for tool, package in _TOOLS.items():
        if shutil.which(tool) is None:
            raise ToolFailure(f"{tool} is not installed: it is in Debian's {package}; `make fidelity` installs it")
    llvm = [f"{variable}={required(tool, toolchain.major)}" for variable, tool in _LLVM.items()]
    source = whole_tree(linux, progress, tarballs)
    name = f"{source.name}-{digest(toolchain.version, *options)[:16]}"

    def fill(part: Path) -> None:
        seed = part / "options"
        seed.write_text("\n".join(options) + "\n")
        make = [
            "make",
            f"--directory={source}",
            f"O={part}",
            "ARCH=arm64",
            "LLVM=1",
            f"CC={toolchain.clang}",
            f"HOSTCC={toolchain.clang}",
            f"LD={toolchain.lld}",
            *llvm,
            f"-j{os.cpu_count() or 1}",
        ]
        _run([*make, "alldefconfig"], {"KCONFIG_ALLCONFIG": str(seed)})
        _check_configuration(part / ".config", options)
        _run([*make, str(OBJECT)], {})

    done = cached(Path("kbuild") / name, "the kernel's own build makes pgtable.o (once; about 15 s)", fill, progress)
    return KernelBuild(done / OBJECT, source / PGTABLE, _flags(done))


def _run(command: Sequence[str], variables: dict[str, str]) -> None:
    # Whatever our caller's make told its children is not for this one.
    inherited = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "KCONFIG_CONFIG")}
    try:
        result = subprocess.run(
            command,
            env={**inherited, "LC_ALL": "C", **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolFailure(f"the kernel's build did not end within {_SECONDS:g} s") from error
    if result.returncode:
        if says_full(result.stderr):
            raise no_room()
        said = "\n".join(result.stderr.strip().splitlines()[-20:])
        raise ToolFailure(f"the kernel's build failed ({command[-1]}):\n{said}")


def _check_configuration(path: Path, options: Sequence[str]) -> None:
    """Raises ToolFailure for an option that Kconfig did not take, as for one that was renamed."""
    lines = path.read_text().splitlines()
    refused = [option for option in options if option not in lines]
    if refused:
        raise ToolFailure(f"the kernel's configuration does not take {', '.join(refused)}")


def _flags(folder: Path) -> tuple[str, ...]:
    """The compiler's flags for pgtable.o, as the build saved them, with its relative folders made absolute."""
    text = (folder / OBJECT.with_name(f".{OBJECT.name}.cmd")).read_text()
    match = re.match(r"(?:saved)?cmd_\S+ := (.*)", text)
    if match is None:
        raise ToolFailure(f"the kernel's build saved no command for {OBJECT.name}")
    words = shlex.split(match[1].replace("$(pound)", "#").replace("$$", "$"))[1:]
    flags: list[str] = []
    for word in words[: words.index("-c")]:
        if flags and flags[-1] == "-I":  # a folder in a word of its own
            flags[-1] = _absolute(f"-I{word}", folder)
        elif not word.startswith("-Wp,-MMD"):
            flags.append(_absolute(word, folder))
    return tuple(flags)


def _absolute(flag: str, folder: Path) -> str:
    is_relative = flag.startswith("-I") and len(flag) > 2 and not os.path.isabs(flag[2:])
    return f"-I{folder / flag[2:]}" if is_relative else flag
