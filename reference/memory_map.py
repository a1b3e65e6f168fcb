"""Where things lie in the guest's memory, for both who maps it: this process and, through generated.h, the kernel.

What is large is so only where a program asks for much: memory that is not touched takes none of the host's.
"""

from __future__ import annotations

from typing import Final

from harness.granule import GRANULES
from harness.machine import MAX_BUDGET, MAX_POOL_PAGES, POOL_BASE
from harness.observation import EVENT_WORDS, MAX_OUTS

RAM_BASE: Final = 0x4000_0000
_ALIGNMENT: Final = 2 << 20
"""The kernel maps what lies behind its pool in blocks."""


def _after(address: int, size: int) -> int:
    """Where the next thing lies."""
    return -(-(address + size) // _ALIGNMENT) * _ALIGNMENT


POOL_MEMORY: Final = POOL_BASE
POOL_MAX_PAGES: Final = MAX_POOL_PAGES
_POOL_SIZE: Final = POOL_MAX_PAGES * max(one.page for one in GRANULES)

REQUEST: Final = _after(POOL_MEMORY, _POOL_SIZE)
"""The mailbox: its half for requests, then that for replies."""
REQUEST_SIZE: Final = 2 << 20
REPLY: Final = REQUEST + REQUEST_SIZE
_WORDS_PER_EVENT: Final = max(EVENT_WORDS, MAX_OUTS)
REPLY_SIZE: Final = _after(0, 8 * _WORDS_PER_EVENT * MAX_BUDGET + _POOL_SIZE + (8 << 20))
"""The longest observation: everything that the budget allows for, all pages, and what ops have besides."""

EVENTS: Final = REPLY + REPLY_SIZE
"""Those of the op under way; then its out-values."""
EVENTS_SIZE: Final = _after(0, 8 * EVENT_WORDS * MAX_BUDGET + (1 << 20))
OUTS: Final = EVENTS + EVENTS_SIZE
OUTS_SIZE: Final = _after(0, 8 * MAX_OUTS * MAX_BUDGET)

RAM_SIZE: Final = OUTS + OUTS_SIZE - RAM_BASE
