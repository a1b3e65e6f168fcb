"""The allocator of VMIDs in a program's run: whom it serves, who runs where, and who comes in between."""

from __future__ import annotations

from harness.model.boundary import Boundary
from harness.observation.events import FLUSH_VM_CONTEXT
from harness.program.kinds.small import VMID_OWNERS
from harness.program.machine import Machine
from pgtable.vmids import VmidAllocator, VmidOwner


class Vmids:
    """Of one run, from `vmid_init` on."""

    def __init__(self, machine: Machine, boundary: Boundary) -> None:
        self._boundary = boundary
        self.owners = [VmidOwner() for _ in range(VMID_OWNERS)]
        self.runs: list[int | None] = [None] * machine["cpus"]
        """Whom each CPU runs."""
        self.race = (0, 0, 0)
        """In which window from here on another CPU makes an update (0: in none), which CPU, and of whom."""
        self.meanwhile = 0
        """The id that came of the last such update."""
        self.ended = False
        self._cpu = 0
        """The CPU that runs."""
        self.allocator = VmidAllocator(machine.vmid_bits, machine["cpus"], self)

    def of_cpu(self, cpu: int) -> tuple[int, int]:
        """What the CPU has active and reserved."""
        return self.allocator.active[cpu], self.allocator.reserved[cpu]

    def update(self, cpu: int, owner: int) -> None:
        """The CPU gets to run the owner."""
        before, self._cpu = self._cpu, cpu
        self.allocator.update(cpu, self.owners[owner])
        self._cpu = before
        self.runs[cpu] = owner

    # What the allocator is given (`VmidHooks`).

    def flush(self) -> None:
        self._boundary.call(FLUSH_VM_CONTEXT, 0, 0)

    def window(self) -> None:
        nth, cpu, owner = self.race
        if not nth:
            return
        self.race = nth - 1, cpu, owner
        if nth == 1 and cpu != self._cpu:
            self.update(cpu, owner)
            self.meanwhile = self.owners[owner].id

    def warn(self, where: str) -> None:
        self._boundary.warn(where)
