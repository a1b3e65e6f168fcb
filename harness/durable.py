"""Files that are whole or not there, also after a power cut."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Final

from harness.outside import writing


def write_durably(target: Path, data: bytes, scratch: Path) -> None:
    """Write a file by way of `scratch`, a folder on the same file system: `target` appears whole, or replaces what was
    there. Call `sync_folder` once its name is to be safe, too. Raises OSError."""
    temporary = scratch / f".tmp-{os.getpid()}-{target.name}"
    try:
        temporary.unlink(missing_ok=True)  # of one that had our number and was killed, or put there to mislead us
        with writing(target):
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(target)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Have names in `folder` on the disk. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Have a file's content on the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Have everything below `folder` on the disk, but not what links in it lead to. Raises OSError."""
    for here, _, names in os.walk(folder):
        for name in names:
            if not os.path.islink(Path(here, name)):
                sync_file(Path(here, name))
        sync_folder(Path(here))


_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100


def exchange(one: Path, other: Path) -> None:
    """Let two folders of a file system change names: at once, where it can do that, as most can. Raises OSError."""
    other = other.resolve()
    rename = ctypes.CDLL(None, use_errno=True).renameat2
    if not rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _EXCHANGE):
        return
    if (number := ctypes.get_errno()) not in (errno.EINVAL, errno.ENOSYS):
        raise OSError(number, os.strerror(number), str(other))
    aside = one.with_name(f"{one.name}-old")
    os.rename(other, aside)
    os.rename(one, other)
    os.rename(aside, one)
