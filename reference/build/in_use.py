"""Which entries of a cache are in use: each process has a list of those that it uses, and keeps it locked while it
lives. A list that can be locked is a dead process's.

An entry is put on the list before anybody looks whether it is there. Lists grow, and entries go, behind one gate: who
uses has it shared, who removes has it alone. So nothing goes that somebody has found.
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from harness.locks import lock, try_lock

_LISTS: Final = "in-use"
_GATE: Final = "in-use.lock"
NOT_OURS: Final = (errno.EROFS, errno.EACCES, errno.EPERM)
"""What a cache says that we may only read. Others keep it, and what is in it."""


@dataclass(frozen=True, slots=True)
class _List:
    descriptor: int
    names: set[str] = field(default_factory=set)

    @property
    def is_there(self) -> bool:
        """Not if somebody removed the whole cache."""
        return os.fstat(self.descriptor).st_nlink > 0


_lists: Final[dict[Path, _List]] = {}
_threads: Final = threading.Lock()


def use(root: Path, name: Path) -> None:
    """Have the entry `name` of the cache `root` left alone while this process lives, or what it forked. It need not be
    there yet. Raises OSError."""
    with _threads:
        mine = _lists.get(root)
        if mine is not None and str(name) in mine.names and mine.is_there:
            return
        try:
            with gate(root, shared=True):
                if mine is None or not mine.is_there:
                    mine = _lists[root] = _new_list(root / _LISTS)
                os.write(mine.descriptor, f"{name}\n".encode())
                mine.names.add(str(name))
        except OSError as error:
            if error.errno not in NOT_OURS:
                raise


def used(root: Path) -> frozenset[Path]:
    """The entries that living processes use. To be called behind the gate, alone. Raises OSError."""
    names: set[Path] = set()
    for path in (root / _LISTS).glob("*"):
        with path.open("rb") as file:
            if try_lock(file.fileno()):
                path.unlink()
            else:
                names.update(Path(os.fsdecode(line)) for line in file.read().splitlines())
    return frozenset(names)


@contextmanager
def gate(root: Path, shared: bool = False) -> Iterator[None]:
    """Before it lists grow (`shared`), or entries go. To be had for moments only. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    with (root / _GATE).open("a") as file:
        lock(file.fileno(), shared)
        yield


def _new_list(folder: Path) -> _List:
    folder.mkdir(exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=folder)
    os.chmod(name, 0o644)  # another user's process may be the one that prunes
    lock(descriptor)
    return _List(descriptor)
