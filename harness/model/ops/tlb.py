"""TLB functions that are called by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.observation.events import FLUSH_CPU_CONTEXT, FLUSH_VM_CONTEXT

if TYPE_CHECKING:
    from harness.model.run import ProgramRun


def tlb_flush_vmid_range(run: ProgramRun, ipa: int, size: int) -> int:
    run.stage2.tlb_flush_range(ipa, size)
    return 0


def flush_cpu_context(run: ProgramRun) -> int:
    run.boundary.call(FLUSH_CPU_CONTEXT, 0, 0)
    return 0


def flush_vm_context(run: ProgramRun) -> int:
    run.boundary.call(FLUSH_VM_CONTEXT, 0, 0)
    return 0


def tlb_flush_vmid(run: ProgramRun) -> int:
    run.boundary.tlbi_vmid()
    return 0
