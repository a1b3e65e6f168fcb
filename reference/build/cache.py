"""The cache: what has to be unpacked, patched, generated or compiled, under names made from everything that it depends
on. An entry is filled under another name and renamed when complete, so an entry that exists is whole. It stays while a
process uses it; what was not used for longest goes when the cache is too large (`pruning.py`).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.full_disk import DiskFull, is_full
from harness.locks import lock, try_lock
from harness.outside import shown
from harness.settings import setting
from reference.build.errors import MissingSource
from reference.build.in_use import NOT_OURS, use
from reference.build.progress import Progress
from reference.build.pruning import KINDS, most, note_added, readable, remove_leftovers


def cache_dir() -> Path:
    """Where unpacked and generated files go: $S2FUZZ_CACHE, or s2fuzz in the user's cache.

    Raises MissingSource when the user has no home folder.
    """
    if own := setting("S2FUZZ_CACHE"):
        return Path(own).absolute()
    from platformdirs import user_cache_path  # noqa: PLC0415  (not every command has a cache)

    try:
        return user_cache_path("s2fuzz")
    except RuntimeError as error:
        raise MissingSource("there is no home folder to keep a cache in: set S2FUZZ_CACHE") from error


def claimed(kind: str, name: str) -> Path:
    """Where the entry `name` of that one of KINDS is, or is to be made. It is in use from now on, for as long as this
    process lives. Raises OSError."""
    root = cache_dir()
    use(root, Path(kind, name))
    path = root / kind / name
    try:
        os.utime(path)
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno not in NOT_OURS:
            raise
    return path


def added(path: Path, progress: Progress) -> None:
    """To be called once an entry that `claimed` gave is complete: makes room for it, where the cache is too large."""
    root = path.parents[1]
    limit = most()
    try:
        freed = note_added(root, path.relative_to(root), limit)
    except OSError as error:  # what was made is good all the same
        progress(f"{shown(root)} cannot be pruned: {error}")
        return
    if freed:
        progress(
            f"removed {readable(freed)} of the cache that were not used for longest: it may hold {readable(limit)}"
        )


@contextmanager
def scratch(kind: str) -> Iterator[Path]:
    """A new folder among the entries of that kind, for one that is being made. It may be renamed. Raises OSError."""
    path = claimed(kind, f"tmp-{os.getpid()}-{secrets.token_hex(8)}")
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def cached(name: Path, message: str, fill: Callable[[Path], None], progress: Progress) -> Path:
    """The cache's entry `name`, KIND/NAME; made, if it does not exist, by letting `fill` fill a folder. It is in use
    from now on, as `claimed` says."""
    kind = name.parts[0]
    assert kind in KINDS
    with environment(f"the cache {cache_dir()} cannot be used (set S2FUZZ_CACHE to another folder)"):
        target = claimed(kind, name.name)
        if target.is_dir():
            return target
        with _locked(target.parent, progress):
            if target.is_dir():
                return target
            remove_leftovers(cache_dir(), kind)
            progress(message)
            with scratch(kind) as part:
                fill(part)
                part.rename(target)
        added(target, progress)
    return target


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    """One lock a folder: compiling takes minutes, and whoever needs sources need not wait for it."""
    with folder.with_suffix(".lock").open("a") as file:
        if not try_lock(file.fileno()):
            progress(f"waiting for another s2fuzz that is preparing what goes to {folder}")
            lock(file.fileno())
        yield


@contextmanager
def environment(problem: str) -> Iterator[None]:
    """Have an OSError within be a MissingSource that says `problem`, or DiskFull."""
    try:
        with room():
            yield
    except OSError as error:
        raise MissingSource(f"{problem}: {error}") from error


@contextmanager
def room() -> Iterator[None]:
    """Have an OSError within that says that the disk is full be DiskFull, of the cache."""
    try:
        yield
    except OSError as error:
        if is_full(error):
            raise no_room() from error
        raise


def no_room() -> DiskFull:
    """What to raise where the cache, or what a tool wrote there, has no room."""
    return DiskFull(
        cache_dir(),
        "make room there (`s2fuzz doctor --clean 0` removes all of the cache that no process uses), or have "
        "S2FUZZ_CACHE name a folder on another disk",
    )


def digest(*parts: bytes | str | int) -> str:
    """A name for these parts, each hashed with its length so that none runs into the next."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()
