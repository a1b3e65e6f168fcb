"""The register of TLBI instructions that take an address (Arm ARM, "TLBI VAE2IS" and its like)."""

from typing import Final

from pgtable.geometry import LAST_LEVEL, Geometry

_VA_SHIFT: Final = 12
"""The field holds the address without these bits, whatever the granule."""
_VA_MASK: Final = (1 << 44) - 1
_TTL_SHIFT: Final = 44
_GRANULES: Final = {12: 1, 14: 2, 16: 3}
"""TTL[3:2], by page shift."""


def va_operand(addr: int, level: int, geometry: Geometry, ttl: bool) -> int:
    """Invalidate one virtual address, of ASID 0; with FEAT_TTL hint the entry's level, 0..3; no other is hinted.

    There is room for the address' bits 55:12 only.
    """
    operand = addr >> _VA_SHIFT & _VA_MASK
    if not ttl or not 0 <= level <= LAST_LEVEL:
        return operand
    return operand | (_GRANULES[geometry.page_shift] << 2 | level) << _TTL_SHIFT
