"""TLBs are invalidated for other reasons than a changed entry."""

from __future__ import annotations

from random import Random

from fuzz.generate.place import Place
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.ops import op_of


@step(weight=5, uses=("tlb_flush_vmid_range",))
def flush_range(at: Place, choice: Random) -> list[Op]:
    """The host has changed several entries, and invalidates them at once."""
    return [op_of("tlb_flush_vmid_range", ipa=at.ipa, size=choice.choice((4 * at.page, at.block, 2 * at.block)))]


@step(weight=5, uses=("flush_cpu_context", "flush_vm_context"))
def reschedule(_at: Place, choice: Random) -> list[Op]:
    """A CPU runs another vCPU of the VM; or VMIDs run out."""
    return [op_of("flush_cpu_context" if choice.random() < 0.5 else "flush_vm_context")]
