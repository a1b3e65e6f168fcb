"""vCPUs on CPUs: none meets another one's stage 1 in the TLB, and nothing is invalidated for nothing.

The source is seed 003, where the reviewers say what last_vcpu_ran is for ("to prevent KVM accidentally emulating CNP
without the opt-in"), and the comment in kvm_arch_vcpu_load() (arch/arm64/kvm/arm.c) that says the same as a promise.
`harness.verdict.vcpus` follows who ran where.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.observation.events import FLUSH_VM_CONTEXT
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition

_LOADS: Final = ("vcpu_load", "vcpu_load_first")
_COMMENT: Final = 'kvm_arch_vcpu_load(): "We guarantee that both TLBs and I-cache are private to each vcpu"'
_SEED: Final = 'seed 003: "track the vcpu_id that last ran this stage2 on this physical CPU"'


@contract(*_LOADS, source=f"{_COMMENT}; {_SEED}")
def another_vcpu_s_stage_1_is_gone(op: Transition) -> Iterator[str] | None:
    """A vCPU that is loaded where another one of that MMU ran last runs behind an invalidation of all that its CPU may
    have of stage 1 under that VMID, which has been waited for."""
    load = op.judged.loads.get(op.number)
    if load is None or load.last in (None, load.vcpu):
        return None
    return (
        f"CPU {load.cpu} is to run vCPU {load.vcpu} under MMU {load.mmu}, where vCPU {other} has left stage-1 entries"
        f" of VMID {load.vmid:#x}"
        for other in load.left_by
    )


@contract(
    *_LOADS, source='kvm_arch_vcpu_load(): "If detecting that a vcpu from the same VM has previously run"; seed 003'
)
def a_vcpu_that_ran_there_last_keeps_its_tlb(op: Transition) -> Iterator[str] | None:
    """A vCPU that is loaded where it was the last one of that MMU to run causes no invalidation, but for a
    rollover's where a VMID is allocated."""
    load = op.judged.loads.get(op.number)
    if load is None or load.last != load.vcpu:
        return None
    calls = op.judged.calls.get(op.number, ())
    return (f"{one.event} on CPU {load.cpu}, where it ran last" for one in calls if one.event.kind != FLUSH_VM_CONTEXT)


@contract(*_LOADS, source=f"{_SEED}; TLB maintenance is addressed by MMU")
def a_load_invalidates_this_cpu_and_this_vmid_alone(op: Transition) -> Iterator[str] | None:
    """What a load invalidates, it invalidates on this CPU alone, and under the VMID of the MMU that it loads, but
    for a rollover's flush."""
    load = op.judged.loads.get(op.number)
    if load is None:
        return None
    calls = op.judged.calls.get(op.number, ())
    has_rollover = any(one.event.kind == FLUSH_VM_CONTEXT for one in calls)
    issued = [one for one in load.flushes.issued if not (has_rollover and one.vmid is None)]
    if not issued:
        return None
    return (
        f"CPU {load.cpu} invalidates {'every VMID' if one.vmid is None else f'VMID {one.vmid:#x}'}"
        f"{' on every CPU' if one.everywhere else ''} for MMU {load.mmu}, which has {load.vmid:#x}"
        for one in issued
        if one.everywhere or one.vmid != load.vmid
    )


@contract("vcpu_put", source='kvm_arm_vmid_clear_active(): "set the active_vmids on vCPU schedule out"')
def a_cpu_that_put_its_vcpu_has_no_vmid_active(op: Transition) -> Iterator[str] | None:
    """Where VMIDs are allocated, a CPU whose vCPU is scheduled out has VMID 0 active, so that the next rollover keeps
    none for it."""
    if op.record.ret != 0 or op.record.outs[1] == 0:
        return None
    active = op.record.outs[1]
    is_none = not active & (1 << op.machine.vmid_bits) - 1
    return iter(() if is_none else (f"CPU {op.value('cpu')} has {active:#x} active",))
