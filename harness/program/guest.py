"""The memory that a guest can reach: a window of RAM, and the page with the code that makes its accesses.

Both sides know them by these addresses, which are physical; where the reference's memory lies is in
`reference/memory_map.py`. Everything else is out of a guest's reach (`harness/program/ops/guest.py`).
"""

from __future__ import annotations

from typing import Final

WINDOW: Final = 0x4200_0000
"""The scratch window, aligned to a block of 16K pages."""
WINDOW_SIZE: Final = 0x20_0000
"""A block of 4K pages."""
STUB: Final = 0x4220_0000
"""The page of the guest's code. Both sides map it at `init`, to the IPA of the same number, where the machine has a
guest (the knob `guest`)."""

VCPU_TABLES: Final = 0x900
"""Where in the stub's page the stage-1 tables of vCPUs lie, each of `VCPU_ENTRIES` blocks of a gigabyte. They are the
guest's own: what walks them goes through the table under test."""
VCPU_ENTRIES: Final = 16
VCPU_REACH: Final = 8 << 30
"""How much of the guest's memory a vCPU's stage 1 maps, in bytes, from 0 on."""
VCPU_CODE: Final = VCPU_REACH + STUB % (1 << 30)
"""Where every vCPU's stage 1 has the stub's page."""
VCPU_ASID: Final = 1
"""Of every vCPU's stage 1."""

PIECE: Final = 0x1000
"""The window is made of pieces of this size, each with a place for code and one for data, whatever the granule."""
DATA: Final = 0x800
"""Where a piece's word of data lies: what `read` reads and `write` writes. Before the program it is its own physical
address. At the piece's begin stand instructions that return to the host."""


def virtual_address(vcpu: int, ipa: int) -> int:
    """Where a vCPU's stage 1 maps that address, below VCPU_REACH: each vCPU swaps gigabytes in a way of its own, so
    that one virtual address is another page of memory for each."""
    return ipa ^ vcpu << 30
