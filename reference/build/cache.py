"""The cache: what has to be unpacked, patched, generated or compiled, under names made from everything that it depends
on. An entry is filled under another name and renamed when complete, so an entry that exists is whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.settings import setting
from reference.build.errors import MissingSource
from reference.build.progress import Progress


def cache_dir() -> Path:
    """Where unpacked and generated files go: $S2FUZZ_CACHE, or s2fuzz in the user's cache.

    Raises MissingSource when the user has no home folder.
    """
    if own := setting("S2FUZZ_CACHE"):
        return Path(own).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(xdg):  # the XDG specification has relative values ignored
        return Path(xdg) / "s2fuzz"
    try:
        return Path.home() / ".cache" / "s2fuzz"
    except RuntimeError as error:
        raise MissingSource("there is no home folder to keep a cache in: set S2FUZZ_CACHE") from error


def cached(name: Path, message: str, fill: Callable[[Path], None], progress: Progress) -> Path:
    """The cache's entry `name`; made, if it does not exist, by letting `fill` fill a folder."""
    target = cache_dir() / name
    with environment(f"the cache {cache_dir()} cannot be used (set S2FUZZ_CACHE to another folder)"):
        if target.is_dir():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target.parent, progress):
            if target.is_dir():
                return target
            for leftover in target.parent.glob(".part-*"):  # of a crash: we hold the lock
                shutil.rmtree(leftover, ignore_errors=True)
            progress(message)
            part = Path(tempfile.mkdtemp(prefix=".part-", dir=target.parent))
            try:
                fill(part)
                part.rename(target)
            finally:
                shutil.rmtree(part, ignore_errors=True)
    return target


@contextmanager
def _locked(folder: Path, progress: Progress) -> Iterator[None]:
    """One lock a folder: compiling takes minutes, and whoever needs sources need not wait for it."""
    with folder.with_suffix(".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another s2fuzz that is preparing what goes to {folder}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def environment(problem: str) -> Iterator[None]:
    """Have an OSError within be a MissingSource that says `problem`."""
    try:
        yield
    except OSError as error:
        raise MissingSource(f"{problem}: {error}") from error


def digest(*parts: bytes | str | int) -> str:
    """A name for these parts, each hashed with its length so that none runs into the next."""
    whole = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode()
        whole.update(b"%d:" % len(data) + data)
    return whole.hexdigest()
