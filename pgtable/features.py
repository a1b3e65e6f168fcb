"""What the machine offers the page-table code."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Features:
    """CPU features, system wide, that change what the page-table code does.

    fwb: FEAT_S2FWB. Stage 2 forces memory types: other MEMATTR values, no cache cleaning on unmap.
    tlb_range: FEAT_TLBIRANGE. TLB invalidation by range of pages.
    hw_af: hardware may set the access flag (CONFIG_ARM64_HW_AFDBM; VTCR_EL2.HA, which a CPU without it ignores).
    ac03_cpu_38: a CPU on which it must not (ARM64_WORKAROUND_AMPERE_AC03_CPU_38).
    ttl: FEAT_TTL. TLB invalidation by address may hint the entry's level.
    cnp: FEAT_TTCNP. VTTBR_EL2 may say that all CPUs share the tables.
    repeat_tlbi: a CPU that completes a TLB invalidation only when another follows (ARM64_WORKAROUND_REPEAT_TLBI).
    lpa2: FEAT_LPA2, as the kernel uses it: 52-bit addresses with 4K and 16K pages, in descriptors of another format.
        There is none for 64K pages; asked for it, the page-table code would take it all the same.
    pa_bits_52: CONFIG_ARM64_PA_BITS_52: with 64K pages, physical addresses of 52 bits.
    parange: ID_AA64MMFR0_EL1.PARange, 0 to 6: 32, 36, 40, 42, 44, 48 and 52 bits of physical address.
    vmid_bits: of VMID: 16 or 8, or fewer where KVM takes a CPU with 8 for less.
    bti: FEAT_BTI, and a kernel built to use it: hyp's executable pages are guarded.
    hvhe: hyp runs with HCR_EL2.E2H set, so that its stage 1 has the permissions of an EL2&0 regime.
    """

    fwb: bool = True
    tlb_range: bool = True
    hw_af: bool = True
    ac03_cpu_38: bool = False
    ttl: bool = True
    cnp: bool = True
    repeat_tlbi: bool = False
    lpa2: bool = False
    pa_bits_52: bool = False
    parange: int = 6
    vmid_bits: int = 16
    bti: bool = True
    hvhe: bool = False


ANY_CPU: Final = Features()
"""What is taken where nothing is said of the CPU."""
