"""A VM's MMUs: made, chosen, shared and freed."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from harness.model.handles import Made
from harness.model.ops.table import init
from harness.program.kinds import MMU
from harness.program.kinds.small import SPLIT_CACHE_CAPACITY
from harness.program.machine import KNOBS_BY_NAME
from pgtable import Memcache, S2Mmu, get_vtcr

if TYPE_CHECKING:
    from harness.model.run import ProgramRun

_HOSTS: Final = KNOBS_BY_NAME["kvm_mode"].names.index("pkvm_host")


class MadeMmu(Made):
    """An MMU beside the VM's first one."""

    def __init__(self, mmu: S2Mmu) -> None:
        self.mmu = mmu

    def end(self) -> None:
        """A program that is over leaves it as it is: a budget may have cut an op that was changing its table."""


def mmu_init(run: ProgramRun, vmid: int, ia_bits: int) -> int:
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    vm, features, geometry = run.several_mmus(), run.fixed.features, run.fixed.geometry
    ret, mmu = vm.add(
        run.handles.begun(MMU),
        vmid,
        ia_bits,
        lambda bits: get_vtcr(bits, features, geometry),
        run.make_stage2,
        Memcache(SPLIT_CACHE_CAPACITY),
    )
    if mmu is None:
        return ret
    before = vm.in_use
    run.use(mmu)
    ret = init(run)
    run.use(before)
    if ret:
        vm.free(mmu, run.pool)
        return ret
    return _made(run, mmu)


def _made(run: ProgramRun, mmu: S2Mmu) -> int:
    run.outs += (run.handles.keep(MMU, MadeMmu(mmu)), run.several_mmus().effective(mmu.vmid))
    return 0


def _use(run: ProgramRun, mmu: S2Mmu) -> None:
    run.abort = None
    run.use(mmu)


def mmu_use(run: ProgramRun, mmu: MadeMmu) -> int:
    _use(run, mmu.mmu)
    run.outs.append(mmu.number)
    return 0


def mmu_first(run: ProgramRun) -> int:
    _use(run, next(iter(run.several_mmus())))
    return 0


def mmu_again(run: ProgramRun) -> int:
    ret = run.several_mmus().is_again()
    if ret is not None:
        return ret
    run.boundary.tlbi_vmid()
    return init(run)


def mmu_free(run: ProgramRun, mmu: MadeMmu) -> int:
    vm = run.several_mmus()
    if vm.in_use is mmu.mmu:
        run.abort = None
    run.handles.end(mmu)
    vm.free(mmu.mmu, run.pool)
    run.use(vm.in_use)
    run.outs.append(mmu.number)
    return 0


def mmu_share(run: ProgramRun, vmid: int) -> int:
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    vm = run.several_mmus()
    ret, mmu = vm.share(run.handles.begun(MMU), vmid, Memcache(SPLIT_CACHE_CAPACITY))
    if mmu is None:
        return ret
    run.use(vm.in_use)
    return _made(run, mmu)
