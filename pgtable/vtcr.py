"""VTCR_EL2, the register that tells the hardware the shape of a stage-2 table.

Fields as in kvm_arm.h and the Arm ARM's description of the register.
"""

from typing import Final

from pgtable.features import ANY_CPU, Features
from pgtable.geometry import (
    CONCATENATION_BITS,
    GRANULE_4K,
    GRANULE_16K,
    GRANULE_64K,
    MIN_STAGE2_LEVELS,
    U32,
    U64,
    Geometry,
)
from pgtable.versions import LINUX_6_12, LinuxVersion

T0SZ_MASK: Final = 0x3F
SL0_SHIFT: Final = 6
SL0_MASK: Final = 3 << SL0_SHIFT
IRGN0_WBWA: Final = 1 << 8
ORGN0_WBWA: Final = 1 << 10
SH0_INNER: Final = 3 << 12
TG0: Final = {GRANULE_4K.page_shift: 0 << 14, GRANULE_16K.page_shift: 2 << 14, GRANULE_64K.page_shift: 1 << 14}
"""By page_shift."""
PS_SHIFT: Final = 16
VS_16BIT: Final = 1 << 19
HA: Final = 1 << 21
RES1: Final = 1 << 31
DS: Final = 1 << 32
"""Descriptors as FEAT_LPA2 has them."""

FLAGS: Final = SH0_INNER | ORGN0_WBWA | IRGN0_WBWA | RES1
"""The constant part (VTCR_EL2_FLAGS, but for the granule)."""

_MIN_IA_BITS: Final = 32
_MAX_IA_BITS: Final = 52
_PARANGE: Final = {48: 5, 52: 6}
_PARANGE_MAX: Final = 15
_PHYS_BITS_OF: Final = {0: 32, 1: 36, 2: 40, 3: 42, 4: 44, 5: 48, 6: 52}
"""By ID_AA64MMFR0_EL1.PARange."""
_VMID_BITS_16: Final = 2
"""ID_AA64MMFR1_EL1.VMIDBits of a CPU with 16 bits of VMID."""


def phys_bits(features: Features, geometry: Geometry) -> int:
    """Bits of physical address that the code reckons with, whatever the CPU has: 48 or 52 (kvm_get_parange_max)."""
    return 52 if features.lpa2 or (features.pa_bits_52 and geometry.page_shift == GRANULE_64K.page_shift) else 48


def ipa_limit(features: Features, geometry: Geometry) -> int:
    """The most bits of guest address that a VM may ask for: those of physical address (kvm_ipa_limit)."""
    return min(_PHYS_BITS_OF.get(features.parange, _MAX_IA_BITS), phys_bits(features, geometry))


def get_vtcr(ia_bits: int, features: Features = ANY_CPU, geometry: Geometry = GRANULE_4K) -> int:
    """The value KVM gives a VM with ia_bits of guest address, 32..52 (kvm_get_vtcr).

    More than 48 bits are not refused where neither CPU nor granule has them: that is the caller's to check.
    Raises ValueError out of this range, or for a features.parange that is not 0..15.
    """
    if not _MIN_IA_BITS <= ia_bits <= _MAX_IA_BITS:
        raise ValueError(f"ia_bits must be {_MIN_IA_BITS}..{_MAX_IA_BITS}, not {ia_bits}")
    if not 0 <= features.parange <= _PARANGE_MAX:
        raise ValueError(f"parange must be 0..{_PARANGE_MAX}, not {features.parange}")
    return vtcr_for(
        features.parange, _VMID_BITS_16 << 4 if features.vmid_bits == 16 else 0, ia_bits, features, geometry
    )


def vtcr_for(
    mmfr0: int,
    mmfr1: int,
    phys_shift: int,
    features: Features,
    geometry: Geometry,
    version: LinuxVersion = LINUX_6_12,
) -> int:
    """What kvm_get_vtcr makes of any ID registers, and of any phys_shift, 0..2^32-1.

    Nothing is checked: above 64 bits T0SZ is negative and fills the register. Of the number of levels eight bits are
    kept, with a sign where the version's levels have one; below 8 bits of address it wraps.
    """
    parange = min(mmfr0 & 0xF, _PARANGE[phys_bits(features, geometry)])
    vtcr = FLAGS | TG0[geometry.page_shift] | parange << PS_SHIFT | 64 - phys_shift & U64
    levels = geometry.levels(phys_shift - CONCATENATION_BITS)
    levels = (levels + 0x80 & 0xFF) - 0x80 if version.lpa2 else levels & 0xFF
    levels = max(levels, MIN_STAGE2_LEVELS)
    vtcr |= (_sl0_base(geometry) - 4 + levels << SL0_SHIFT) & U64
    if features.hw_af and not features.ac03_cpu_38:
        vtcr |= HA
    if features.lpa2:
        vtcr |= DS
    if mmfr1 >> 4 & 0xF == _VMID_BITS_16:
        vtcr |= VS_16BIT
    return vtcr


def root_size(vtcr: int, geometry: Geometry) -> int | None:
    """Bytes of a root of this shape (kvm_pgtable_stage2_pgd_size), however odd; pages are counted in 32 bits.

    None where C does not say: for 64 bits of address (T0SZ 0), and for a start level above which one entry would map
    2^64 bytes and more (with 64K pages, level 0).
    """
    ia_bits, start_level = ia_bits_of(vtcr), start_level_of(vtcr, geometry)
    if ia_bits == 64 or geometry.level_shift(start_level - 1) >= 64:
        return None
    return (geometry.root_pages(ia_bits, start_level) & U32) * geometry.page_size


def ia_bits_of(vtcr: int) -> int:
    """Bits of guest address (IPA) that the table translates."""
    return 64 - (vtcr & T0SZ_MASK)


def start_level_of(vtcr: int, geometry: Geometry) -> int:
    """The level of the root, -1..3."""
    return _sl0_base(geometry) - ((vtcr & SL0_MASK) >> SL0_SHIFT)


def _sl0_base(geometry: Geometry) -> int:
    # SL0 counts up from the lowest level that the granule can start at.
    return 2 if geometry.page_shift == GRANULE_4K.page_shift else 3
