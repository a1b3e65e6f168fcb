"""Who calls the TLB functions: how KVM runs on the CPU, and which VMID its registers hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.observation.calls import Whose
from harness.observation.events import FLUSH_VM_CONTEXT
from harness.program.machine import KNOBS_BY_NAME, Machine

HCR_TGE: Final = 1 << 27


@dataclass(frozen=True, slots=True)
class Caller:
    """The CPU that calls: how KVM runs there (`mode`), which vCPU runs, and the VMID of the MMU that is called for.
    `at_home` is the VMID in VTTBR_EL2 where the function is called from, and is to be put back; None if nobody cares: a
    VHE host without a vCPU."""

    mode: str
    vcpu: str
    vmid: int
    at_home: int | None

    @classmethod
    def on(cls, machine: Machine, whose: Whose | None = None) -> Caller:
        """As the machine's knobs say, for no op changes it; and, in a VM with several MMUs, for which is called."""
        mode, vcpu = (KNOBS_BY_NAME[knob].names[machine[knob]] for knob in ("kvm_mode", "vcpu"))
        vmids = (1 << machine.vmid_bits) - 1
        vmid, in_use = whose or (machine["vmid"] & vmids,) * 2
        if vcpu == "own" or (vcpu == "none" and mode == "pkvm_host"):
            at_home: int | None = in_use
        elif vcpu == "foreign":
            at_home = machine["vmid"] + 1 & vmids
        else:
            at_home = None if mode == "vhe" else 0
        return cls(mode, vcpu, vmid, at_home)

    def may_call(self, kind: int) -> bool:
        """Whether it has a right to call a function of that kind: nVHE hyp warns where the vCPU that runs is of another
        MMU than is called for."""
        if self.mode not in ("nvhe", "pkvm_guest") or kind == FLUSH_VM_CONTEXT:
            return True
        return self.vcpu == "none" or (self.vcpu == "own" and self.vmid == self.at_home)
