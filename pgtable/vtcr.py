"""VTCR_EL2, the register that tells the hardware the shape of a stage-2 table.

Fields as in kvm_arm.h and the Arm ARM's description of the register.
"""

from typing import Final

from pgtable.features import Features
from pgtable.geometry import GRANULE_4K, Geometry

T0SZ_MASK: Final = 0x3F
SL0_SHIFT: Final = 6
SL0_MASK: Final = 3 << SL0_SHIFT
IRGN0_WBWA: Final = 1 << 8
ORGN0_WBWA: Final = 1 << 10
SH0_INNER: Final = 3 << 12
TG0_4K: Final = 0 << 14
PS_SHIFT: Final = 16
VS_16BIT: Final = 1 << 19
HA: Final = 1 << 21
RES1: Final = 1 << 31

FLAGS: Final = SH0_INNER | ORGN0_WBWA | IRGN0_WBWA | RES1 | TG0_4K
"""The constant part with 4K pages (VTCR_EL2_FLAGS)."""

_MIN_IA_BITS: Final = 32
_MAX_IA_BITS: Final = 48
_PARANGE_48: Final = 5
_PARANGE_MAX: Final = 15
_ANY_CPU: Final = Features()


def get_vtcr(ia_bits: int, features: Features = _ANY_CPU, mmfr0_parange: int = _PARANGE_48, vmid16: bool = True) -> int:
    """The value KVM gives a VM with ia_bits of guest address (32..48) and 4K pages.

    mmfr0_parange is ID_AA64MMFR0_EL1.PARange, 0..15; more than 48 bits counts as 48.
    Built like kvm_get_vtcr with CONFIG_ARM64_HW_AFDBM=y and without LPA2.
    Raises ValueError out of these ranges.
    """
    if not _MIN_IA_BITS <= ia_bits <= _MAX_IA_BITS:
        raise ValueError(f"ia_bits must be {_MIN_IA_BITS}..{_MAX_IA_BITS}, not {ia_bits}")
    if not 0 <= mmfr0_parange <= _PARANGE_MAX:
        raise ValueError(f"mmfr0_parange must be 0..{_PARANGE_MAX}, not {mmfr0_parange}")
    vtcr = FLAGS | min(mmfr0_parange, _PARANGE_48) << PS_SHIFT | 64 - ia_bits
    vtcr |= _sl0_base(GRANULE_4K) - GRANULE_4K.start_level(ia_bits) << SL0_SHIFT
    if features.hw_af:
        vtcr |= HA
    if vmid16:
        vtcr |= VS_16BIT
    return vtcr


def ia_bits_of(vtcr: int) -> int:
    """Bits of guest address (IPA) that the table translates."""
    return 64 - (vtcr & T0SZ_MASK)


def start_level_of(vtcr: int, geometry: Geometry) -> int:
    """The level of the root, -1..3."""
    return _sl0_base(geometry) - ((vtcr & SL0_MASK) >> SL0_SHIFT)


def _sl0_base(geometry: Geometry) -> int:
    # SL0 counts up from the lowest level that the granule can start at.
    return 2 if geometry == GRANULE_4K else 3
