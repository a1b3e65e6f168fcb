"""VMs and their MMUs: made, chosen, shared, freed and ended."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from harness.model.handles import Made
from harness.model.ops.table import init
from harness.observation.layout import FIRST_MMU
from harness.program.kinds import MMU
from harness.program.kinds.small import SPLIT_CACHE_CAPACITY
from harness.program.machine import KNOBS_BY_NAME
from pgtable import Memcache, S2Mmu, Vms, get_vtcr, ipa_limit

if TYPE_CHECKING:
    from harness.model.run import ProgramRun

_HOSTS: Final = KNOBS_BY_NAME["kvm_mode"].names.index("pkvm_host")


class MadeMmu(Made):
    """An MMU beside the very first one."""

    def __init__(self, mmu: S2Mmu) -> None:
        self.mmu = mmu

    def end(self) -> None:
        """A program that is over leaves it as it is: a budget may have cut an op that was changing its table."""


def mmu_init(run: ProgramRun, vmid: int, ia_bits: int) -> int:
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    vms, features, geometry = run.several_mmus(), run.fixed.features, run.fixed.geometry
    ret, mmu = vms.add(
        run.handles.begun(MMU),
        vmid,
        ia_bits,
        lambda bits: get_vtcr(bits, features, geometry),
        run.make_stage2,
        Memcache(SPLIT_CACHE_CAPACITY),
    )
    return ret if mmu is None else _initialised(run, vms, mmu)


def vm_create(run: ProgramRun, vmid: int, ia_bits: int) -> int:
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    vms, features, geometry = run.several_mmus(), run.fixed.features, run.fixed.geometry
    ret, mmu = vms.create(
        run.handles.begun(MMU),
        vmid,
        ia_bits,
        ipa_limit(features, geometry),
        lambda bits: get_vtcr(bits, features, geometry),
        run.make_stage2,
        Memcache(SPLIT_CACHE_CAPACITY),
    )
    return ret if mmu is None else _initialised(run, vms, mmu)


def _initialised(run: ProgramRun, vms: Vms, mmu: S2Mmu) -> int:
    """The new MMU gets its table; the one in use stays."""
    before = vms.in_use
    run.use(mmu)
    ret = init(run)
    run.use(before)
    if ret:
        vms.free(mmu, run.pool)
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
    _use(run, run.several_mmus().first)
    return 0


def mmu_again(run: ProgramRun) -> int:
    ret = run.several_mmus().is_again()
    if ret is not None:
        return ret
    run.boundary.tlbi_vmid()
    return init(run)


def mmu_free(run: ProgramRun, mmu: MadeMmu) -> int:
    if mmu.mmu.vm == mmu.mmu.number:
        return -errno.EINVAL
    if run.cpus is not None and run.cpus.runs(mmu.mmu):
        return -errno.EBUSY
    vm = run.several_mmus()
    if vm.in_use is mmu.mmu:
        run.abort = None
    run.handles.end(mmu)
    vm.free(mmu.mmu, run.pool)
    run.use(vm.in_use)
    run.outs.append(mmu.number)
    return 0


def vm_end(run: ProgramRun, mmu: MadeMmu) -> int:
    vms, vm = run.several_mmus(), mmu.mmu.vm
    if vm == FIRST_MMU or (run.cpus is not None and run.cpus.run_of(vm)):
        return -errno.EBUSY
    if vms.in_use.vm == vm:
        run.abort = None
    for made in [one for one in run.handles.live() if isinstance(one, MadeMmu) and one.mmu.vm == vm]:
        run.handles.end(made)
    vms.end(vm, run.pool)
    run.forget_memslots(vm)
    run.use(vms.in_use)
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
