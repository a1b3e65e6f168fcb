"""The allocator of VMIDs, and the owners that it serves."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from harness.model.vmids import Vmids

if TYPE_CHECKING:
    from harness.model.run import ProgramRun


def vmid_init(run: ProgramRun) -> int:
    if run.vmids is not None or (run.cpus is not None and run.cpus.loaded):
        return -errno.EBUSY
    begun = Vmids(run.program.machine, run.boundary)
    fails = run.boundary.allocation_fails()
    run.outs.append(begun.allocator.bits)
    if fails:
        return -errno.ENOMEM
    run.vmids = begun
    return 0


def vmid_free(run: ProgramRun) -> int:
    if run.vmids is None or run.vmids.ended:
        return -errno.ENODEV
    run.boundary.spend()
    run.vmids.ended = True
    return 0


def vmid_update(run: ProgramRun, cpu: int, owner: int) -> int:
    problem, vmids = _on(run, cpu)
    if vmids is None:
        return problem
    vmids.meanwhile = 0
    vmids.update(cpu, owner)
    run.outs += (vmids.owners[owner].id, *vmids.of_cpu(cpu), vmids.meanwhile)
    return 0


def vmid_look(run: ProgramRun, cpu: int, owner: int) -> int:
    problem, vmids = _on(run, cpu)
    if vmids is None:
        return problem
    run.outs += (vmids.owners[owner].id, *vmids.of_cpu(cpu))
    return 0


def vmid_race(run: ProgramRun, nth: int, cpu: int, owner: int) -> int:
    problem, vmids = _on(run, cpu)
    if vmids is None:
        return problem
    vmids.race = nth, cpu, owner
    return 0


def vmid_new(run: ProgramRun, owner: int) -> int:
    problem, vmids = _on(run, 0)
    if vmids is None:
        return problem
    if owner in vmids.runs:
        return -errno.EBUSY
    vmids.owners[owner].id = 0
    return 0


def vmid_clear_active(run: ProgramRun, cpu: int) -> int:
    problem, vmids = _on(run, cpu)
    if vmids is None:
        return problem
    vmids.schedule_out(cpu)
    run.outs += vmids.of_cpu(cpu)
    return 0


def _on(run: ProgramRun, cpu: int) -> tuple[int, Vmids | None]:
    """The allocator, if it serves that CPU; else why not."""
    vmids = run.vmids
    if vmids is None or vmids.ended:
        return -errno.ENODEV, None
    return (0, vmids) if cpu < len(vmids.runs) else (-errno.EINVAL, None)
