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
        self._of_mmus: dict[int, VmidOwner] = {}
        """Owners of their own: the VM's MMUs, by number."""
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

    def update_mmu(self, cpu: int, mmu: int) -> int:
        """The CPU gets to run a vCPU under that MMU of the VM, whose id it returns."""
        owner = self._of_mmus.setdefault(mmu, VmidOwner())
        before, self._cpu = self._cpu, cpu
        self.allocator.update(cpu, owner)
        self._cpu = before
        self.runs[cpu] = None
        return owner.id

    def id_of_mmu(self, mmu: int) -> int:
        """The id that an MMU got."""
        return self._of_mmus[mmu].id

    def schedule_out(self, cpu: int) -> None:
        """The CPU runs nobody any more."""
        self.allocator.schedule_out(cpu)
        self.runs[cpu] = None

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
