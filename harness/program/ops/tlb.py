"""TLB maintenance that KVM calls by itself, beside what the page-table code calls."""

from __future__ import annotations

from typing import Final

from harness.program.definition import OpDef
from harness.program.kunit import Statement
from harness.program.ops.common import RANGE

OPS: Final = (
    OpDef(
        13,
        "tlb_flush_vmid_range",
        RANGE,
        "invalidate the TLB for the range",
        weight=4,
        functions={"kvm_tlb_flush_vmid_range": ("void (struct kvm_s2_mmu *, phys_addr_t, size_t)",)},
        kunit=Statement("kvm_tlb_flush_vmid_range(&s2_mmu, $ipa, $size)"),
        scenario="protect",
    ),
    OpDef(
        21,
        "flush_cpu_context",
        (),
        "invalidate this CPU's TLB and instruction cache for the VMID",
        weight=1,
        functions={"__kvm_flush_cpu_context": ("void (struct kvm_s2_mmu *)",)},
        kunit=Statement("kvm_call_hyp(__kvm_flush_cpu_context, &s2_mmu)"),
        scenario="reschedule",
    ),
    OpDef(
        22,
        "flush_vm_context",
        (),
        "invalidate the TLB for all VMIDs, as when they run out",
        weight=1,
        functions={"__kvm_flush_vm_context": ("void (void)",)},
        kunit=Statement("kvm_call_hyp(__kvm_flush_vm_context)"),
        scenario="reschedule",
    ),
    OpDef(
        31,
        "tlb_flush_vmid",
        (),
        "invalidate the TLB for the whole VMID, as before a log of all its memory is read",
        weight=1,
        functions={"__kvm_tlb_flush_vmid": ("void (struct kvm_s2_mmu *)",)},
        kunit=Statement("kvm_call_hyp(__kvm_tlb_flush_vmid, &s2_mmu)"),
    ),
)
