"""Where things lie in the guest's memory, for both who maps it: this process and, through generated.h, the kernel.

What is large is so only where a program asks for much: memory that is not touched takes none of the host's.
"""

from __future__ import annotations

from typing import Final

from harness.observation.events import MAX_EVENTS
from harness.observation.layout import EVENT_WORDS, MAX_OUTS
from harness.program.granule import GRANULES
from harness.program.guest import STUB, WINDOW, WINDOW_SIZE
from harness.program.machine import MAX_BUDGET, MAX_POOL_PAGES, POOL_BASE

RAM_BASE: Final = 0x4000_0000
_ALIGNMENT: Final = 2 << 20
"""The kernel maps what lies behind its pool in blocks."""


def _after(address: int, size: int) -> int:
    """Where the next thing lies."""
    return -(-(address + size) // _ALIGNMENT) * _ALIGNMENT


STUB_SIZE: Final = max(one.page for one in GRANULES)
"""What is kept for the page of the guest's code, whatever the granule."""
POOL_MEMORY: Final = POOL_BASE
assert RAM_BASE < WINDOW < WINDOW + WINDOW_SIZE <= STUB < STUB + STUB_SIZE <= POOL_MEMORY, "what the guest reaches"
assert not any(address % _ALIGNMENT for address in (WINDOW, WINDOW_SIZE, STUB)), "the kernel maps them in blocks"
POOL_MAX_PAGES: Final = MAX_POOL_PAGES
_POOL_SIZE: Final = POOL_MAX_PAGES * max(one.page for one in GRANULES)

REQUEST: Final = _after(POOL_MEMORY, _POOL_SIZE)
"""The mailbox: its half for requests, then that for replies."""
REQUEST_SIZE: Final = 2 << 20
REPLY: Final = REQUEST + REQUEST_SIZE
_EVENT_BYTES: Final = 8 * EVENT_WORDS * MAX_EVENTS
_OUT_BYTES: Final = 8 * MAX_OUTS * MAX_BUDGET
"""Those of a walk's visits, which the budget counts instead of events."""
_SPARE: Final = 8 << 20
REPLY_SIZE: Final = _after(0, max(_EVENT_BYTES, _OUT_BYTES) + _POOL_SIZE + _SPARE)
"""The longest observation: everything that the budget allows for, all pages, and what ops have besides."""

EVENT_MEMORY: Final = REPLY + REPLY_SIZE
"""The events of the op under way; then its out-values."""
EVENT_MEMORY_SIZE: Final = _after(0, _EVENT_BYTES + _ALIGNMENT)
OUT_MEMORY: Final = EVENT_MEMORY + EVENT_MEMORY_SIZE
OUT_MEMORY_SIZE: Final = _after(0, _OUT_BYTES)

RAM_SIZE: Final = OUT_MEMORY + OUT_MEMORY_SIZE - RAM_BASE
