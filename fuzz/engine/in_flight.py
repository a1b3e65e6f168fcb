"""The input in flight, where it survives the process that runs it: whoever started that can read it afterwards."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path
from typing import Final

_SIZE: Final = 4096
_LENGTH: Final = struct.Struct("<I")


class InFlight:
    """A page of a file, mapped. Raises OSError."""

    def __init__(self, path: Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.posix_fallocate(descriptor, 0, _SIZE)  # a store into a hole of a full disk would kill us
            self._memory = mmap.mmap(descriptor, _SIZE)
        finally:
            os.close(descriptor)

    def note(self, data: bytes) -> None:
        """`data` is about to run."""
        data = data[: _SIZE - _LENGTH.size]
        _LENGTH.pack_into(self._memory, 0, 0)
        self._memory[_LENGTH.size : _LENGTH.size + len(data)] = data
        _LENGTH.pack_into(self._memory, 0, len(data))


def last_in_flight(path: Path) -> bytes | None:
    """What a process noted last; None where it noted nothing."""
    try:
        page = path.read_bytes()
    except OSError:
        return None
    size = _LENGTH.unpack_from(page)[0] if len(page) == _SIZE else 0
    return page[_LENGTH.size : _LENGTH.size + size] or None
