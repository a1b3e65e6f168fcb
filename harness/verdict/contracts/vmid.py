"""VMIDs: what the allocator owes those whom it gives them to.

Sources are the comments of arch/arm64/kvm/vmid.c that say what is meant, the commit that brought it (Linux 5.17, "KVM:
arm64: Introduce a new VMID allocator for KVM", 2021-11-22), and the architecture, for which a VMID is what tells one
VM's TLB entries from another's. `harness.verdict.vmids` follows who has which.

Nothing is asked of a machine on which KVM itself expects allocation to fail, having as many CPUs as VMIDs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.vmids import Turn

_ALLOCATOR: Final = 'Linux 5.17, "KVM: arm64: Introduce a new VMID allocator for KVM", 2021-11-22'
_TAGS: Final = "Arm ARM, D8.14: TLB entries of one VMID are not told apart"


@contract("vmid_update", source=f"{_TAGS}; {_ALLOCATOR}")
def no_vmid_has_two_owners_of_a_generation(op: Transition) -> Iterator[str] | None:
    """A VMID that an owner got in a generation is no other owner's in that generation, not even when the first is
    gone."""
    turns = _turns(op)
    if not turns:
        return None
    return (f"{_got(one)} which is {one.twin}'s" for one in turns if one.twin is not None)


@contract("vmid_update", source=f"{_TAGS}; flush_context(): TLBs are flushed by broadcast on rollover")
def a_vmid_is_flushed_before_it_is_another_s(op: Transition) -> Iterator[str] | None:
    """Between the last time that an owner runs with a VMID and another owner's getting it, all VMIDs are invalidated on
    all CPUs."""
    turns = _turns(op)
    if not turns:
        return None
    return (
        f"{_got(one)} of which TLBs may still hold what {one.left_by} left" for one in turns if one.left_by is not None
    )


@contract("vmid_update", source='flush_context(): "Preserve reserved VMID"; check_update_reserved_vmid()')
def what_runs_keeps_its_vmid(op: Transition) -> Iterator[str] | None:
    """An owner that has been running on some CPU keeps its VMID, whatever generations begin meanwhile."""
    turns = [one for one in _turns(op) if one.ran]
    if not turns:
        return None
    return (
        f"{_got(one)} though a CPU has been running it with {one.before & (1 << one.bits) - 1:#x}"
        for one in turns
        if one.before & (1 << one.bits) - 1 != one.number
    )


@contract(
    "vmid_update",
    source='kvm_arm_vmid_update(): "Check that our VMID belongs to the current generation", which it makes',
)
def a_cpu_runs_with_a_vmid_of_the_newest_generation(op: Transition) -> Iterator[str] | None:
    """Whoever a CPU gets to run has a VMID of the newest generation, also where that began a moment before, and the CPU
    has it active."""
    turns = _turns(op)
    if not turns:
        return None
    return (
        f"{_got(one)} the newest generation is {one.generation:#x}, and active is {one.active or one.id:#x}"
        for one in turns
        if one.id >> one.bits != one.generation or one.active not in (None, one.id)
    )


@contract("vmid_update", source='vmid.c: "vmid #0 is always reserved, we will never allocate one"')
def vmid_0_is_nobody_s(op: Transition) -> Iterator[str] | None:
    """No owner gets VMID 0."""
    turns = _turns(op)
    return (_got(one) for one in turns if not one.number) if turns else None


@contract("vmid_clear_active", source='kvm_arm_vmid_clear_active(): "set the active_vmids on vCPU schedule out"')
def a_cpu_that_runs_nothing_has_no_vmid_active(op: Transition) -> Iterator[str] | None:
    """A CPU whose vCPU is scheduled out has VMID 0 active, so that the next rollover keeps none for it."""
    if op.record.ret != 0:
        return None
    active = op.record.outs[0]
    is_none = active and not active & (1 << op.machine.vmid_bits) - 1
    return iter(() if is_none else (f"CPU {op.value('cpu')} has {active:#x} active",))


def _turns(op: Transition) -> Sequence[Turn]:
    machine = op.machine
    return () if (1 << machine.vmid_bits) - 1 <= machine["cpus"] else op.judged.turns.get(op.number, ())


def _got(one: Turn) -> str:
    return f"on CPU {one.cpu}, {one.owner} got VMID {one.number:#x} of generation {one.id >> one.bits:#x},"
