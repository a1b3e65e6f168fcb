"""What the machine offers the page-table code."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Features:
    """CPU features, system wide, that change what the page-table code does.

    fwb: FEAT_S2FWB. Stage 2 forces memory types: other MEMATTR values, no cache cleaning on unmap.
    tlb_range: FEAT_TLBIRANGE. TLB invalidation by range of pages.
    hw_af: hardware sets the access flag (VTCR_EL2.HA); False on a CPU with the workaround
        ARM64_WORKAROUND_AMPERE_AC03_CPU_38.
    ttl: FEAT_TTL. TLB invalidation by address may hint the entry's level.
    cnp: FEAT_TTCNP. VTTBR_EL2 may say that all CPUs share the tables.
    repeat_tlbi: a CPU that completes a TLB invalidation only when another follows (ARM64_WORKAROUND_REPEAT_TLBI).
    """

    fwb: bool = True
    tlb_range: bool = True
    hw_af: bool = True
    ttl: bool = True
    cnp: bool = True
    repeat_tlbi: bool = False
