"""The memory of a test kernel, as this process has it."""

from __future__ import annotations

import ctypes
import mmap
import os

from reference.memory_map import RAM_BASE, RAM_SIZE


class GuestRam:
    """The RAM of a machine: an unlinked file, mapped here, that outlives every QEMU it is handed to, so that what
    points into it stays valid across restarts."""

    def __init__(self) -> None:
        self._file = os.fdopen(os.memfd_create("s2fuzz-ram", os.MFD_CLOEXEC), "r+b")
        self._file.truncate(RAM_SIZE)
        self.memory = mmap.mmap(self._file.fileno(), RAM_SIZE)

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
