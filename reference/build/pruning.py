"""How large a cache is, and what goes when it is too large: what was not used for longest, and is not in use.

An entry is a folder, two below the cache's own: KIND/NAME. When it was last used is the folder's own time. Trees share
files by hard links: what an entry takes, and what its going would free, is counted by file.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import BadInput
from harness.locks import lock, try_lock
from harness.outside import shown
from harness.settings import setting
from reference.build.in_use import gate, used

KINDS: Final[Mapping[str, str]] = {
    "sources": "kernel trees",
    "generated": "generated headers",
    "kernels": "objects and test kernels",
    "kbuild": "the kernel's own builds",
    "compiled": "compiled Python modules",
}
"""What is kept, by the folder that it is in. Whatever else lies in the cache's folder is not ours."""

SIZE_SETTING: Final = "S2FUZZ_CACHE_SIZE"
DEFAULT_SIZE: Final = "1G"
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]?)(?:i?B)?", re.IGNORECASE)
_UNITS: Final = {unit: 1 << 10 * power for power, unit in enumerate(("", "K", "M", "G", "T"))}

_SCRATCH: Final = (".", "tmp-")
"""What names begin with of what is not complete yet, or is on its way out."""
_TOTAL: Final = "size"
_CLEANING: Final = "cleaning.lock"


def parse_size(text: str, name: str) -> int:
    """Bytes, from `500M` or `1.5G` or a plain number; `name` is whose value it is. Raises BadInput."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise BadInput(f"{name}: {shown(text)} is no size; give bytes, or a number with K, M, G or T behind it: 500M")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def readable(size: int) -> str:
    """Bytes, for people: `1.4 GiB`."""
    unit = max((unit for unit, bytes_ in _UNITS.items() if size >= bytes_), key=_UNITS.__getitem__, default="")
    text = f"{size / _UNITS[unit]:.1f}".removesuffix(".0")
    return f"{text} {unit}iB" if unit else f"{size} bytes"


def most() -> int:
    """Bytes that a cache is to hold at most: $S2FUZZ_CACHE_SIZE, or a default. Raises BadInput."""
    return parse_size(setting(SIZE_SETTING) or DEFAULT_SIZE, SIZE_SETTING)


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies under one name: `name` is KIND/NAME, `used` its last use (seconds since the epoch), `files` the bytes
    of each file, by device and inode."""

    name: Path
    used: float
    files: Mapping[tuple[int, int], int]

    @property
    def kind(self) -> str:
        return self.name.parts[0]

    @property
    def is_scratch(self) -> bool:
        return self.name.name.startswith(_SCRATCH)


@dataclass(frozen=True, slots=True)
class Survey:
    """A cache at some moment. `taken` are the names that processes use."""

    entries: tuple[Entry, ...]
    taken: frozenset[Path]

    def superfluous(self, limit: int) -> tuple[Entry, ...]:
        """What is to go for a cache of at most `limit` bytes: leftovers, then what was not used for longest."""
        holders = Counter(number for entry in self.entries for number in entry.files)
        left = size_of(self.entries)
        going = []
        for entry in sorted(self.entries, key=lambda entry: (not entry.is_scratch, entry.used, entry.name)):
            if entry.name in self.taken or (left <= limit and not entry.is_scratch):
                continue
            going.append(entry)
            holders.subtract(entry.files.keys())
            left -= sum(size for number, size in entry.files.items() if not holders[number])
        return tuple(going)

    def without(self, going: Iterable[Entry]) -> tuple[Entry, ...]:
        """The other entries."""
        names = {entry.name for entry in going}
        return tuple(entry for entry in self.entries if entry.name not in names)


def size_of(entries: Iterable[Entry]) -> int:
    """Bytes that these take on the disk together."""
    return sum({number: size for entry in entries for number, size in entry.files.items()}.values())


def survey(root: Path) -> Survey:
    """What is in the cache `root`. Raises OSError."""
    entries = tuple(_entries(root))
    with gate(root):
        return Survey(entries, used(root))


def prune(root: Path, limit: int, wait: bool = True) -> int:
    """Make a cache as small as `limit` bytes, as far as what is in use allows; returns the bytes that this freed. While
    another process is at it, waits, or else does nothing. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / _CLEANING).open("a") as file:
        if not try_lock(file.fileno()):
            if not wait:
                return 0
            lock(file.fileno())
        noted = _noted(root)
        entries = tuple(_entries(root))
        with gate(root):
            found = Survey(entries, used(root))
            going = found.superfluous(limit)
            aside = [path for entry in going if (path := _put_aside(root / entry.name)) is not None]
        for path in aside:
            shutil.rmtree(path, ignore_errors=True)  # what resists is a leftover for the next time
        left = size_of(found.without(going))
        with gate(root):
            # What others added while we counted may have been counted, or not.
            (root / _TOTAL).write_text(f"{left}\n{sum(_noted(root)) - sum(noted)}\n")
    return size_of(entries) - left


def remove_leftovers(root: Path, kind: str) -> None:
    """Remove what processes left incomplete that were killed. Raises OSError."""
    with gate(root):
        taken = used(root)
        paths = [path for path in (root / kind).iterdir() if path.name.startswith(_SCRATCH)]
        leftovers = [path for path in paths if path.relative_to(root) not in taken]
    for path in leftovers:
        shutil.rmtree(path, ignore_errors=True)


def note_added(root: Path, name: Path, limit: int) -> int:
    """Count an entry that was made, and prune where the cache is too large by now, to a little less, so that not every
    entry has all counted; returns the bytes that this freed. Raises OSError."""
    # Files that have other names, too, are those of an entry that was there.
    size = sum(stat.st_blocks * 512 for stat in _stats(root / name) if stat.st_nlink == 1)
    with gate(root, shared=True), (root / _TOTAL).open("a") as file:
        file.write(f"{size}\n")
    measured, *added = _noted(root)
    slack = limit // 16
    is_new = not added  # then nobody counted what is there
    is_too_large = measured + sum(added) > limit and sum(added) > slack
    return prune(root, limit - slack, wait=False) if is_new or is_too_large else 0


def _noted(root: Path) -> list[int]:
    """Bytes that were counted the last time, and those that were added since; all zero where nothing was counted."""
    with suppress(FileNotFoundError, ValueError):  # half of a number, of one that was killed
        return [int(line) for line in (root / _TOTAL).read_text().split()] or [0]
    return [0]


def _entries(root: Path) -> Iterator[Entry]:
    for kind in KINDS:
        for path in sorted((root / kind).glob("*/")):
            with suppress(FileNotFoundError):  # another process may be removing it, or renaming its scratch
                files = {(stat.st_dev, stat.st_ino): stat.st_blocks * 512 for stat in _stats(path)}
                yield Entry(path.relative_to(root), path.stat().st_mtime, files)


def _stats(folder: Path) -> Iterator[os.stat_result]:
    """Of a folder and everything below."""
    yield folder.lstat()
    with os.scandir(folder) as below:
        for entry in below:
            if entry.is_dir(follow_symlinks=False):
                yield from _stats(Path(entry.path))
            else:
                yield entry.stat(follow_symlinks=False)


def _put_aside(path: Path) -> Path | None:
    """Have an entry's name free at once; removing it takes longer. None where it is gone already."""
    aside = path.with_name(f".gone-{secrets.token_hex(8)}")
    try:
        path.rename(aside)
    except FileNotFoundError:
        return None
    return aside
