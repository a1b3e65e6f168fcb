"""VMs and their stage-2 MMUs (struct kvm_s2_mmu): made, chosen, shared, freed and ended.

A program has a VM from the start, with a first MMU that has the VMID of the machine's knob `vmid`; all other MMUs are
handles. A VM that is made is named by its first MMU. All other ops work on the MMU that was chosen last, at first the
very first one, and on the VM that this is of. Where the knob `vcpu` says that one of this stage 2's
vCPUs runs, it goes along, and forgets the abort that it kept.

The host's own stage 2 (`kvm_mode = pkvm_host`) is no VM's: there, no MMU is made. No VMID is
given twice. docs/vm.md says what of this is Linux's.
"""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import IA_BITS, MMU, VMID
from harness.program.results import Result, ResultType

_TABLE: Final = (
    Result("vtcr"),
    Result("ia_bits"),
    Result("start_level", ResultType.LEVEL),
    Result("root_pages"),
)
"""As those of `init`."""
_MADE: Final = (Result("mmu", ResultType.HANDLE, MMU), Result("vmid"))
"""The MMU, and the VMID as the CPU has bits for it."""
_CHOSEN: Final = (Result("mmu", ResultType.HANDLE, MMU),)

OPS: Final = (
    OpDef(
        44,
        "mmu_init",
        (Arg("vmid", VMID), Arg("ia_bits", IA_BITS, default=0)),
        "make another MMU of the VM in use, with an empty table of its own (ia_bits 0: as many as the VM has)",
        weight=2,
        results=(*_TABLE, *_MADE),
        makes=MMU,
        needs=("destroy",),
        scenario="nest",
    ),
    OpDef(
        45,
        "mmu_use",
        (Arg("mmu", MMU),),
        "what follows works on that MMU and its table, and on its VM",
        weight=2,
        results=_CHOSEN,
        scenario="nest",
    ),
    OpDef(
        46,
        "mmu_first",
        (),
        "what follows works on the first MMU of the VM in use again",
        weight=1,
        scenario="nest",
    ),
    OpDef(
        47,
        "mmu_again",
        (),
        "initialise the MMU in use once more: it gets a table if it has none",
        weight=1,
        results=_TABLE,
        scenario="start_again",
    ),
    OpDef(
        48,
        "mmu_free",
        (Arg("mmu", MMU),),
        "free an MMU, and its table unless another MMU shares it; if it was in use, its VM's first MMU is; "
        "-EBUSY while a vCPU is loaded under it, -EINVAL of the first MMU of a VM, which goes with that",
        weight=1,
        results=_CHOSEN,
        ends=True,
        needs=("destroy",),
        scenario="nest",
    ),
    OpDef(
        49,
        "mmu_share",
        (Arg("vmid", VMID),),
        "make another MMU of the VM that shares the table of the one in use",
        weight=1,
        results=_MADE,
        makes=MMU,
        needs=("destroy",),
        scenario="share_root",
    ),
    OpDef(
        95,
        "vm_create",
        (Arg("vmid", VMID), Arg("ia_bits", IA_BITS, default=0)),
        "make another VM: its first MMU, with an empty table (ia_bits 0: as many as the program's first VM has)",
        weight=2,
        results=(*_TABLE, *_MADE),
        makes=MMU,
        needs=("destroy",),
        scenario="two_vms",
    ),
    OpDef(
        96,
        "vm_end",
        (Arg("mmu", MMU),),
        "end the VM that an MMU is of, with all of its MMUs, tables, memory slots and logs; if it was in use, the "
        "program's first VM is; -EBUSY of that one, and while a CPU has a vCPU of it loaded",
        weight=1,
        results=_CHOSEN,
        ends=True,
        needs=("destroy",),
        scenario="two_vms",
    ),
)
