"""vCPUs that CPUs load under an MMU, and put."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from harness.model.guest import read_through_stage1
from harness.model.ops.vm import MadeMmu
from harness.program.machine import KNOBS_BY_NAME
from harness.program.space import U64_MAX
from pgtable import Cpus, S2Mmu

if TYPE_CHECKING:
    from harness.model.run import ProgramRun
    from harness.model.vmids import Vmids

_MODES: Final = KNOBS_BY_NAME["kvm_mode"].names
_HOSTS: Final = _MODES.index("pkvm_host")
_VHE: Final = _MODES.index("vhe")


class _Hooks:
    def __init__(self, run: ProgramRun) -> None:
        self._run = run

    def update_vmid(self, cpu: int, mmu: S2Mmu) -> None:
        vmids = _allocator(self._run)
        # Nothing runs on this CPU while its next vCPU is loaded.
        self._run.schedule(None, False)
        if vmids is not None:
            mmu.vmid = self._run.several_mmus().effective(vmids.update_mmu(cpu, mmu.number))
            self._run.schedule(None, False)

    def flush_cpu_context(self, mmu: S2Mmu) -> None:
        self._run.flush_cpu_context(mmu)


def _allocator(run: ProgramRun) -> Vmids | None:
    """What allocates VMIDs, where any are allocated."""
    return None if run.vmids is None or run.vmids.ended else run.vmids


def _cpus(run: ProgramRun) -> Cpus:
    if run.cpus is None:
        run.cpus = Cpus(run.program.machine["cpus"], _Hooks(run))
    return run.cpus


def vcpu_load(run: ProgramRun, cpu: int, vcpu: int, mmu: MadeMmu) -> int:
    ret = _load(run, cpu, vcpu, mmu.mmu)
    if ret == 0:
        run.outs.append(mmu.number)
    return ret


def vcpu_load_first(run: ProgramRun, cpu: int, vcpu: int) -> int:
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    return _load(run, cpu, vcpu, run.several_mmus().first)


def _load(run: ProgramRun, cpu: int, vcpu: int, mmu: S2Mmu) -> int:
    vmids = _allocator(run)
    if vmids is not None:
        vmids.meanwhile = 0
    ret, load = _cpus(run).load(cpu, vcpu, mmu)
    if load is None:
        return ret
    runs = run.program.machine["kvm_mode"] == _VHE and run.version.tlb_asks_who_runs
    run.schedule(mmu, runs)
    run.outs += (cpu, load.last & U64_MAX, load.flushed, run.several_mmus().effective(mmu.vmid), runs)
    run.outs += (0, 0, 0) if vmids is None else (vmids.id_of_mmu(mmu.number), vmids.of_cpu(cpu)[0], vmids.meanwhile)
    return 0


def vcpu_put(run: ProgramRun, cpu: int) -> int:
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    ret, vmids = _cpus(run).put(cpu), _allocator(run)
    if ret:
        return ret
    if vmids is not None:
        vmids.schedule_out(cpu)
    run.schedule(None, False)
    run.outs += (cpu, 0 if vmids is None else vmids.of_cpu(cpu)[0])
    return 0


def vcpu_read(run: ProgramRun, ipa: int) -> int:
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    running = None if run.cpus is None else run.cpus.loaded.get(run.cpus.current)
    if running is None or running.mmu is not run.several_mmus().in_use:
        return -errno.ENOENT
    return read_through_stage1(run, ipa)
