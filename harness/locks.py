"""Locks that end with the process that has them, however it ends: flock's, on an open file or folder.

What inherits the descriptor by a fork has the lock too. Two descriptors of one process exclude each other.
"""

from __future__ import annotations

import fcntl


def lock(descriptor: int, shared: bool = False) -> None:
    """Have it, alone or with all others who want it `shared`; waits for that. Raises OSError."""
    fcntl.flock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)


def try_lock(descriptor: int, shared: bool = False) -> bool:
    """The same without waiting: whether one has it now. Raises OSError."""
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
