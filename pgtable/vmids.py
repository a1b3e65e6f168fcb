"""The allocator of VMIDs: MMUs come and go, VMIDs are few, and TLB entries outlive whoever left them.

A VMID is handed out once in a generation. When there is none left a new generation begins: all CPUs' TLBs are flushed,
and every VMID is free again but for those that CPUs were running with, which stay their owners'. An owner's `id` has
the generation above the VMID's bits, so that one comparison tells whether it is still good.
"""

from __future__ import annotations

from typing import Final, Protocol


class VmidHooks(Protocol):
    """What the allocator's surroundings do, in the kernel's order."""

    def flush(self) -> None:
        """All VMIDs are invalidated on all CPUs."""

    def window(self) -> None:
        """Another CPU may come in between here."""

    def warn(self, where: str) -> None:
        """A WARN in the function `where`."""


class VmidOwner:
    """Whom a VMID is for: an MMU. `id` is 0 until it gets one."""

    __slots__ = ("id",)

    def __init__(self) -> None:
        self.id = 0


class VmidAllocator:
    """Allocates VMIDs of `bits` bits for owners on `cpus` CPUs. VMID 0 is nobody's.

    `active` has the id that each CPU runs with. 0 says that a new generation has begun since; VMID 0 of the first
    generation, that nothing runs. `reserved` has the id that each CPU keeps from the generation before.
    """

    def __init__(self, bits: int, cpus: int, hooks: VmidHooks) -> None:
        self.bits: Final = bits
        self.active = [0] * cpus
        self.reserved = [0] * cpus
        self.generation = 1 << bits
        """As it stands in an id."""
        self._hooks = hooks
        self._count = 1 << bits
        self._taken: set[int] = set()
        self._last = 1
        """The VMID that was free last, where the search for another one begins."""
        if self._count - 1 <= cpus:
            hooks.warn("kvm_arm_vmid_alloc_init")

    def schedule_out(self, cpu: int) -> None:
        """Nothing runs on the CPU any more, so that the next generation need not keep a VMID for it."""
        self.active[cpu] = self._count

    def update(self, cpu: int, owner: VmidOwner) -> None:
        """The CPU is about to run with the owner's VMID, which is made good for this generation."""
        current, before = owner.id, self.active[cpu]
        if before and self._is_good(current):
            self._hooks.window()
            if self.active[cpu] == before:
                self.active[cpu] = current
                return
            # A new generation has begun meanwhile, which took away what was active.
        self._hooks.window()
        if not self._is_good(owner.id):
            owner.id = self._allocate(owner.id)
        self.active[cpu] = owner.id

    def _is_good(self, vmid: int) -> bool:
        return vmid >> self.bits == self.generation >> self.bits

    def _allocate(self, old: int) -> int:
        number = old % self._count
        if old:
            wanted = self.generation | number
            if old in self.reserved:
                self.reserved = [wanted if kept == old else kept for kept in self.reserved]
                return wanted
            if number not in self._taken:
                self._taken.add(number)
                return wanted
        free = self._free_from(self._last)
        if free == self._count:
            self._begin_generation()
            free = self._free_from(1)
        self._taken.add(free)
        self._last = free
        # Where even now none is free, as WARNed of, the VMID that there is not comes out as 0.
        return self.generation | free % self._count

    def _free_from(self, first: int) -> int:
        return next((number for number in range(first, self._count) if number not in self._taken), self._count)

    def _begin_generation(self) -> None:
        self.generation += self._count
        self.reserved = [ran or kept for ran, kept in zip(self.active, self.reserved, strict=True)]
        self.active = [0] * len(self.active)
        self._taken = {kept % self._count for kept in self.reserved}
        self._hooks.flush()
