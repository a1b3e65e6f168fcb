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

PIECE: Final = 0x1000
"""The window is made of pieces of this size, each with a place for code and one for data, whatever the granule."""
DATA: Final = 0x800
"""Where a piece's word of data lies: what `read` reads and `write` writes. Before the program it is its own physical
address. At the piece's begin stand instructions that return to the host."""
