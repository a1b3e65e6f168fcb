"""The memory of a test kernel, as this process has it."""

from __future__ import annotations

import ctypes
import mmap
import os
from typing import IO

from reference.memory_map import RAM_BASE, RAM_SIZE

PlainMemory = tuple[IO[bytes], mmap.mmap]


class GuestRam:
    """The RAM of a machine: an unlinked file, mapped here, that outlives every QEMU it is handed to, so that what
    points into it stays valid across restarts."""

    def __init__(self, plain: PlainMemory | None = None) -> None:
        """`plain` is the memory of another GuestRam that is not used any more; by default there is a new one."""
        if plain is None:
            file = os.fdopen(os.memfd_create("s2fuzz-ram", os.MFD_CLOEXEC), "r+b")
            file.truncate(RAM_SIZE)
            plain = file, mmap.mmap(file.fileno(), RAM_SIZE)
        self._file, self.memory = plain

    @property
    def plain(self) -> PlainMemory:
        """The file and the mapping, for a GuestRam that takes this one's place."""
        return self._file, self.memory

    @property
    def qemu_args(self) -> tuple[str, ...]:
        """What makes QEMU use it. The path leads to this process's descriptor: QEMU is started without it."""
        backend = (
            f"memory-backend-file,id=ram,size={RAM_SIZE},share=on,mem-path=/proc/{os.getpid()}/fd/{self._file.fileno()}"
        )
        return ("-object", backend, "-machine", "memory-backend=ram")

    def host_address(self, physical: int) -> int:
        """Where the guest's memory at `physical` lies in this process."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self.memory, physical - RAM_BASE))
