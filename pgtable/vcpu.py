"""Which vCPU runs on which CPU, and whom it must not meet in the TLB there.

A guest may give an ASID another meaning on each of its vCPUs, unless it opted in to sharing (CnP, "common not
private"). On one CPU, under one VMID, nothing else tells their TLB entries apart: without care they would be common
after all ("de-facto CnP"; seed 003). So each MMU knows which vCPU ran last under it on each CPU, and where another one
comes, what the CPU has of the VMID's stage 1 goes, with the instruction cache.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from pgtable.errnos import EBUSY, EINVAL, ENOENT
from pgtable.vm import NO_VCPU, S2Mmu


class LoadHooks(Protocol):
    """What a load asks of its surroundings, in Linux 6.12's order."""

    def update_vmid(self, cpu: int, mmu: S2Mmu) -> None:
        """The MMU is about to be run by that CPU, and must have a VMID that is good."""

    def flush_cpu_context(self, mmu: S2Mmu) -> None:
        """What this CPU has of the MMU's stage 1, and its instruction cache, are invalidated."""


class Loaded(NamedTuple):
    """What a CPU is about to run: a vCPU, under an MMU."""

    vcpu: int
    mmu: S2Mmu


class Load(NamedTuple):
    """What a load came to: who had run there last (NO_VCPU: nobody), and whether there was a flush."""

    last: int
    flushed: bool


class Cpus:
    """The CPUs, `count` of them, and whom they run. Operations return 0 or a negative errno."""

    def __init__(self, count: int, hooks: LoadHooks) -> None:
        self._count: Final = count
        self._hooks = hooks
        self.loaded: dict[int, Loaded] = {}
        self.current = 0
        """The CPU that runs what follows: the one that was the last to load or put."""

    def runs(self, mmu: S2Mmu) -> bool:
        """Whether a CPU has a vCPU loaded under that MMU."""
        return any(one.mmu is mmu for one in self.loaded.values())

    def run_of(self, vm: int) -> bool:
        """Whether a CPU has a vCPU of that VM loaded."""
        return any(one.mmu.vm == vm for one in self.loaded.values())

    def load(self, cpu: int, vcpu: int, mmu: S2Mmu) -> tuple[int, Load | None]:
        """-EINVAL where there is no such CPU; -EBUSY where it has a vCPU, or another CPU has that one of the MMU's
        VM; -ENOENT where the MMU has no table."""
        if cpu >= self._count:
            return -EINVAL, None
        if cpu in self.loaded or any(one.vcpu == vcpu and one.mmu.vm == mmu.vm for one in self.loaded.values()):
            return -EBUSY, None
        if mmu.table.root is None:
            return -ENOENT, None
        self.current = cpu
        self._hooks.update_vmid(cpu, mmu)
        last = mmu.last_vcpu_ran.get(cpu, NO_VCPU)
        if last != vcpu:
            self._hooks.flush_cpu_context(mmu)
            mmu.last_vcpu_ran[cpu] = vcpu
        self.loaded[cpu] = Loaded(vcpu, mmu)
        return 0, Load(last, last != vcpu)

    def put(self, cpu: int) -> int:
        """-EINVAL where there is no such CPU, -ENOENT where it has no vCPU."""
        if cpu >= self._count:
            return -EINVAL
        if self.loaded.pop(cpu, None) is None:
            return -ENOENT
        self.current = cpu
        return 0
