"""The compiler's flags: for every file, for ours, for hosted ones, and by flavour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

CALLS: Final = "calls"
"""The flavour in which files are left out of which only the calls are to be known."""
LINES: Final = "lines"
FLAVOURS: Final = ("plain", "ubsan", LINES, CALLS)
"""How the hosted files are compiled: as they are; with UBSan, whose reports become WARN-class events; with clang's
source-based counters, which `reference/probe/lines.py` reads; or without the tree's TLB maintenance, so that its
functions are known by their calls alone."""

COMMON: Final = (
    "--target=aarch64-linux-gnu",
    "-O2",
    "-gdwarf-4",
    "-ffreestanding",
    "-fno-builtin",
    "-fno-common",
    "-fno-pic",
    "-fno-stack-protector",
    "-fno-omit-frame-pointer",
    "-mgeneral-regs-only",
    "-mstrict-align",
    "-Werror=implicit-function-declaration",
)
ASSEMBLER: Final = (COMMON[0], "-gdwarf-4")
OWN: Final = ("-std=gnu11", "-fshort-wchar", "-Wall", "-Wextra", "-Wno-unused-parameter")
HOSTED: Final = (
    "-std=gnu11",
    "-fno-strict-aliasing",
    "-fno-strict-overflow",
    "-fshort-wchar",
    "-funsigned-char",
    "-Wno-gnu",
    "-D__KERNEL__",
    "-DKASAN_SHADOW_SCALE_SHIFT=0",
    '-DARM64_ASM_ARCH="armv8.5-a"',
)
COVERAGE: Final = ("-fsanitize-coverage=inline-8bit-counters,pc-table",)
OBJECTS: Final[Mapping[str, tuple[str, ...]]] = {
    "host": (),
    "hyp": ("-D__KVM_NVHE_HYPERVISOR__", "-D__DISABLE_EXPORTS", "-D__DISABLE_TRACE_MMIO__"),
}
"""What a file that Linux builds twice is built as: part of the kernel proper, or of what runs at EL2 (with the kernel's
own flags for that, arch/arm64/kvm/hyp/nvhe/Makefile)."""
_LINES: Final = (
    "-fprofile-instr-generate",
    "-fcoverage-mapping",
    "-mllvm",
    "-enable-name-compression=false",
    "-U__OPTIMIZE__",  # compile-time assertions would count as branches that are never taken, and their lines with them
)
_FLAVOURS: Final[Mapping[str, tuple[str, ...]]] = {
    "plain": (),
    "ubsan": ("-fsanitize=undefined", "-fno-sanitize=function,vptr,object-size"),
    LINES: _LINES,
    CALLS: (),
}


def of_flavour(flavour: str, is_counted: bool) -> tuple[str, ...]:
    """Those of a hosted file, by flavour and by whether what it reaches is counted."""
    more = _FLAVOURS[flavour] if is_counted or flavour != LINES else ()
    return (*(COVERAGE if is_counted else ()), *more)
