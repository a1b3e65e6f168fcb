"""Processes that must not outlive the one that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_libc: Final = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel kill this process, or send it another signal, when `parent`, which must be its parent, ends.
    Called in the child; a parent that is already gone ends it at once."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
    if os.getppid() != parent:
        os._exit(1)
