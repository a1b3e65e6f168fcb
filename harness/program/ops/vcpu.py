"""vCPUs come to run on CPUs under an MMU of their VM, and leave them (kvm_arch_vcpu_load(), kvm_arch_vcpu_put()). The
same number is another vCPU in another VM.

The CPU that an op names runs what follows. From the first such op on, whose vCPU a TLB function finds there is what
these ops have made of it, and no longer what the knob `vcpu` says: a VHE kernel's finds the one that is loaded; without
VHE the host calls them while nothing runs. The host's own stage 2 (`kvm_mode = pkvm_host`) has no vCPUs: -EOPNOTSUPP.
A CPU that the machine lacks is -EINVAL.

`vcpu_read` is what a guest does that makes trouble of this. vCPU n has a stage 1 of its own, under the one ASID that
all have: its virtual gigabyte n ^ g is the guest's gigabyte g, of 8 (`harness/program/guest.py`). The op is -ENOENT
where the CPU that runs has no vCPU under the MMU in use, -ENXIO beyond the 8 gigabytes, and else as `read` is.

Where `vmid_init` has run, the MMU gets its VMID from the allocator; else it keeps its own. docs/vcpu-load.md shows it.
"""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import CPU, MMU, VCPU
from harness.program.ops.common import AT_IPA, OUTCOME
from harness.program.results import Result, ResultType

_ON: Final = Arg("cpu", CPU)
_VCPU: Final = Arg("vcpu", VCPU)
_LOADED: Final = (
    Result("cpu"),
    Result("last", ResultType.SIGNED),
    Result("flushed"),
    Result("vmid"),
    Result("runs"),
    Result("id"),
    Result("active"),
    Result("meanwhile"),
)
"""The CPU; the vCPU that ran last under that MMU on that CPU, -1 if none did; whether the CPU's context was flushed;
the VMID, as the CPU has bits for it; whether TLB functions find the vCPU running; and of the allocator of VMIDs, where
there is one, what `vmid_update` yields."""
_FUNCTIONS: Final = {"__kvm_flush_cpu_context": ("void (struct kvm_s2_mmu *)",)}
_REFUSED: Final = "; -EBUSY where either is taken, -ENOENT without a table"

OPS: Final = (
    OpDef(
        90,
        "vcpu_load",
        (_ON, _VCPU, Arg("mmu", MMU)),
        f"the CPU is about to run that vCPU under that MMU{_REFUSED}",
        weight=2,
        results=(*_LOADED, Result("mmu", ResultType.HANDLE, MMU)),
        functions=_FUNCTIONS,
        scenario="change_regime",
    ),
    OpDef(
        91,
        "vcpu_load_first",
        (_ON, _VCPU),
        f"the same under the first MMU of the VM in use{_REFUSED}",
        weight=2,
        results=_LOADED,
        functions=_FUNCTIONS,
        scenario="take_turns",
    ),
    OpDef(
        92,
        "vcpu_put",
        (_ON,),
        "the CPU's vCPU is scheduled out; -ENOENT where none is loaded",
        weight=1,
        results=(Result("cpu"), Result("active")),
        functions=_FUNCTIONS,
        scenario="take_turns",
    ),
    OpDef(
        93,
        "vcpu_read",
        (AT_IPA,),
        "the CPU's vCPU reads the word of data at ipa's piece, through a stage 1 of its own (`read` has none)",
        weight=1,
        results=OUTCOME,
        functions=_FUNCTIONS,
        scenario="read_in_turns",
    ),
)
