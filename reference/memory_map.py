"""Where things lie in the guest's memory, for both who maps it: this process and, through generated.h, the kernel."""

from __future__ import annotations

from typing import Final

from harness.machine import MAX_POOL_PAGES, POOL_BASE

RAM_BASE: Final = 0x4000_0000
RAM_SIZE: Final = 128 << 20
POOL_MEMORY: Final = POOL_BASE
POOL_MAX_PAGES: Final = MAX_POOL_PAGES
MAILBOX: Final = 0x4600_0000
MAILBOX_SIZE: Final = 0x100_0000
"""Half of it is for requests, half for replies."""
