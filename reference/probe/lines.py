"""Which lines of the hosted pgtable.c were reached: clang's source-based counters (flavour `lines`), read out of guest
memory and judged by llvm-cov.

The counters become a profile in llvm-profdata's text form, which is documented and the same for every version; what
the sections hold beyond name, hash and counters is the compiler's private matter.
"""

from __future__ import annotations

import hashlib
import re
import struct
import subprocess
import tempfile
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elftools.elf.elffile import ELFFile

from harness.errors import ToolFailure
from reference.guest_ram import GuestRam
from reference.memory_map import RAM_BASE
from reference.tools import major_in, required

_ABOUT: Final = struct.Struct("<QQQ")
"""What clang writes of a function begins like this: the MD5 of its name, a hash of its shape, and how far from here its
counters are. What follows grew with clang's versions."""
_ABOUT_SIZES: Final = (48, 56, 64, 72, 80)


_U64: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Function:
    """One function's counters: where they lie, and how a profile names it."""

    name: str
    hash: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class FileLines:
    """How often each line of a file that holds code was executed."""

    path: Path
    lines: dict[int, int]

    @property
    def reached(self) -> int:
        """How many lines were executed at all."""
        return sum(count > 0 for count in self.lines.values())

    def unreached(self) -> list[int]:
        """The numbers of the others, ascending."""
        return sorted(line for line, count in self.lines.items() if not count)


def profile(elf: Path, ram: GuestRam) -> str:
    """What the kernel `elf`, of flavour `lines`, has counted in `ram` since it booted: text that llvm-profdata reads.

    Raises ToolFailure for another flavour.
    """
    functions = _functions(elf)
    if not functions:
        raise ToolFailure("the kernel has no line counters: build it with --flavour lines")
    return "\n".join(_entry(function, ram) for function in functions)


def _entry(function: Function, ram: GuestRam) -> str:
    counts = struct.unpack_from(f"<{function.count}Q", ram.memory, function.address - RAM_BASE)
    values = "\n".join(map(str, counts))
    return f"{function.name}\n# Hash:\n{function.hash}\n# Counters:\n{function.count}\n{values}\n"


def _functions(elf: Path) -> list[Function]:
    with elf.open("rb") as stream:
        image = ELFFile(stream)
        counters, about, listed = (
            image.get_section_by_name(f"__llvm_prf_{name}") for name in ("cnts", "data", "names")
        )
        if not (counters and about and listed):
            return []
        names = {_md5(name): name for name in _names(listed.data())}
        found = []
        for offset, (name, shape, distance) in _abouts(about.data(), names):
            found.append((about["sh_addr"] + offset + distance & _U64, names[name], shape))
        end = counters["sh_addr"] + counters["sh_size"]
    found.sort()
    ends = [address for address, _, _ in found[1:]] + [end]
    return [Function(name, shape, at, (end - at) // 8) for (at, name, shape), end in zip(found, ends, strict=True)]


def _abouts(section: bytes, names: Container[int]) -> Iterator[tuple[int, tuple[int, int, int]]]:
    """The functions in `__llvm_prf_data`, with their offsets. However long an entry is, each begins with a name."""
    for size in _ABOUT_SIZES:
        if len(section) % size == 0:
            entries = [(offset, _ABOUT.unpack_from(section, offset)) for offset in range(0, len(section), size)]
            if all(name in names for _, (name, _, _) in entries):
                yield from entries
                return
    raise ToolFailure("the line counters of this clang are laid out in a way that is not known here")


def _names(section: bytes) -> Iterator[str]:
    """Lists of names, each behind its two lengths (the second, of its compressed form, is 0)."""
    at = 0
    while at < len(section):
        size, at = _uleb(section, at)
        if not size:
            return
        compressed, at = _uleb(section, at)
        if compressed:
            raise ToolFailure("the names in the line counters are compressed")
        yield from section[at : at + size].decode().split("\1")
        at += size


def _uleb(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


def _md5(name: str) -> int:
    return int.from_bytes(hashlib.md5(name.encode(), usedforsecurity=False).digest()[:8], "little")


def judge(elf: Path, profiles: list[str], source: Path, clang_version: str) -> FileLines:
    """What llvm-cov says of `source`, by the sum of `profiles`, of kernels that were built alike (`elf` is one) by the
    compiler that calls itself `clang_version`: profiles are readable for their own version only.

    Raises ToolFailure when the tools are missing or fail.
    """
    profdata, cov = (required(name, major_in(clang_version)) for name in ("llvm-profdata", "llvm-cov"))
    with tempfile.TemporaryDirectory() as scratch:
        texts = [Path(scratch) / f"{number}.proftext" for number in range(len(profiles))]
        for path, text in zip(texts, profiles, strict=True):
            path.write_text(text)
        merged = Path(scratch) / "merged.profdata"
        _run([profdata, "merge", *map(str, texts), "-o", str(merged)])
        lcov = _run([cov, "export", "-format=lcov", f"-instr-profile={merged}", str(elf), str(source)])
    lines = {int(line): int(count) for line, count in re.findall(r"^DA:(\d+),(\d+)", lcov, re.MULTILINE)}
    if not lines:
        raise ToolFailure(f"llvm-cov says nothing of {source}")
    return FileLines(source, lines)


def sum_of(parts: Sequence[FileLines]) -> FileLines:
    """Of the same file in kernels that were built differently: a line counts where any of them has it."""
    lines: Counter[int] = Counter()
    for part in parts:
        lines.update(part.lines)
    return FileLines(parts[0].path, dict(lines))


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise ToolFailure(f"{Path(command[0]).name} failed:\n{result.stderr.rstrip()}")
    return result.stdout
