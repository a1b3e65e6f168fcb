"""The allocator of VMIDs: which MMU has which, on several CPUs, and what happens when they run out.

A program has eight structures that a VMID is kept in (`struct kvm_vmid`), each an owner's, and as many logical CPUs as
its machine has. One CPU runs at a time: an op says which. Before `vmid_init`, or after `vmid_free`, the others are
-ENODEV, and for a CPU that the machine lacks -EINVAL, before any code under test runs.

A VMID is told with its generation: above the machine's `vmid_bits`, which are the VMID itself.
"""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import CPU, NTH, OWNER_OF_VMID
from harness.program.results import Result

_ON: Final = Arg("cpu", CPU)
_OWNER: Final = Arg("owner", OWNER_OF_VMID)
_OF_CPU: Final = (Result("active"), Result("reserved"))
"""What the CPU's active_vmids and reserved_vmids hold."""

OPS: Final = (
    OpDef(
        60,
        "vmid_init",
        (),
        "begin to allocate VMIDs, as KVM does when it starts; -EBUSY where that was done before",
        weight=1,
        results=(Result("bits"),),
        functions={"kvm_arm_vmid_alloc_init": ("int (void)", "int __init (void)")},
        scenario="allocate",
    ),
    OpDef(
        61,
        "vmid_update",
        (_ON, _OWNER),
        "let the CPU run a vCPU of the owner, whose VMID is made one of this generation",
        weight=2,
        results=(Result("id"), *_OF_CPU, Result("meanwhile")),
        functions={"kvm_arm_vmid_update": ("void (struct kvm_vmid *)",)},
        scenario="switch",
    ),
    OpDef(
        62,
        "vmid_clear_active",
        (_ON,),
        "the CPU's vCPU is scheduled out",
        weight=1,
        results=_OF_CPU,
        functions={"kvm_arm_vmid_clear_active": ("void (void)",)},
        scenario="switch",
    ),
    OpDef(
        63,
        "vmid_new",
        (_OWNER,),
        "the owner is gone, and another one has its place: it has no VMID yet; -EBUSY while a CPU runs it",
        weight=1,
        functions={"kvm_arm_vmid_update": ("void (struct kvm_vmid *)",)},
        scenario="use_up",
    ),
    OpDef(
        64,
        "vmid_race",
        (Arg("nth", NTH), _ON, _OWNER),
        "at the n-th window from here on (before the cmpxchg of active_vmids, before the lock is taken), another CPU "
        "does a vmid_update; 0 takes it back",
        weight=1,
        functions={"kvm_arm_vmid_update": ("void (struct kvm_vmid *)",)},
        scenario="roll_over_meanwhile",
    ),
    OpDef(
        65,
        "vmid_free",
        (),
        "give back what the allocator keeps, as when KVM does not start after all",
        weight=1,
        functions={"kvm_arm_vmid_alloc_free": ("void (void)", "void __init (void)")},
        scenario="allocate",
    ),
    OpDef(
        66,
        "vmid_look",
        (_ON, _OWNER),
        "what the owner and the CPU have, as it is",
        weight=1,
        results=(Result("id"), *_OF_CPU),
        functions={"kvm_arm_vmid_update": ("void (struct kvm_vmid *)",)},
        scenario="switch",
    ),
)
