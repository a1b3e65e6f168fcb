"""What a page table tells the world as it works."""

from array import array
from typing import Final, NamedTuple, Protocol

from pgtable.tlb import Instruction

TLBI_TTL_UNKNOWN: Final = 0x7FFF_FFFF
"""The level in `tlbi_vmid_ipa` when the entry's level must not be hinted (tlbflush.h: INT_MAX)."""


class LeafRun(NamedTuple):
    """Leaves for empty entries that follow one another in a table, and what comes with each of them.

    pa: physical address of the first entry; level: of all; lock: the kind of the store that locks
    each (`Hooks.pte_store`), None where nothing is locked; first: the value of the first leaf, each
    further one is `size` more; phys: what the first one maps, `size` bytes each; length: how many.
    dcache, icache: whether the memory of each is maintained so. counts_first: whether the reference
    of an entry is taken before it is stored.
    """

    pa: int
    level: int
    lock: str | None
    first: int
    phys: int
    size: int
    length: int
    dcache: bool
    icache: bool
    counts_first: bool

    def leaves(self, count: int) -> "array[int]":
        """The entries of the first `count` leaves."""
        return array("Q", range(self.first, self.first + count * self.size, self.size))


class Hooks(Protocol):
    """The visible acts other than memory management, each announced before it happens.

    Raising out of a hook stops the operation there and then: the act does not happen, everything
    before it has. The order and number of these calls together with those of `MmOps` are the
    kernel's own.
    """

    def pte_store(self, pa: int, level: int, old: int, new: int, kind: str) -> None:
        """The entry at physical address pa goes from old to new.

        kind is "plain" (WRITE_ONCE), "release" (smp_store_release) or "cmpxchg"; the last happens
        only if the entry still holds what its walk read.
        """

    def fill(self, run: LeafRun) -> int:
        """A chance to take many leaves in one go: how many of the run, from its first on, were announced and their
        references taken. The page table writes those, and goes on entry by entry; 0 is always right.

        For each leaf that is: a store of pte.LOCKED if lock names one, each maintenance, one get_page, and the release
        store; these two the other way round unless counts_first.
        """

    def tlbi_vmid(self) -> None:
        """Invalidate everything of this VMID."""

    def tlbi_vmid_ipa(self, ipa: int, level: int) -> None:
        """Invalidate one leaf, or table (TLBI_TTL_UNKNOWN); ipa is not aligned to its level."""

    def tlbi_vmid_ipa_nsh(self, ipa: int, level: int) -> None:
        """The same on this CPU only (non-shareable): enough where the others may fault once more."""

    def tlbi_vmid_range(self, ipa: int, pages: int) -> None:
        """Invalidate 1..MAX_TLBI_RANGE_PAGES pages from ipa, which may be unaligned."""

    def dsb(self, domain: str) -> None:
        """A data synchronisation barrier, for example "ishst"."""

    def instruction(self, instruction: Instruction) -> None:
        """Hyp itself issues an instruction, for the TLB of its own stage 1."""

    def rcu_read_lock(self) -> None:
        """RCU's read-side critical section begins: a walk does while others may change the tables."""

    def rcu_read_unlock(self) -> None:
        """It ends."""

    def warn(self, where: str) -> None:
        """A WARN fires in the kernel function of that name."""


class NullHooks:
    """Hooks that do nothing, for use as a library."""

    __slots__ = ()

    def pte_store(self, pa: int, level: int, old: int, new: int, kind: str) -> None: ...

    def fill(self, run: LeafRun) -> int:
        return 0

    def tlbi_vmid(self) -> None: ...

    def tlbi_vmid_ipa(self, ipa: int, level: int) -> None: ...

    def tlbi_vmid_ipa_nsh(self, ipa: int, level: int) -> None: ...

    def tlbi_vmid_range(self, ipa: int, pages: int) -> None: ...

    def dsb(self, domain: str) -> None: ...

    def instruction(self, instruction: Instruction) -> None: ...

    def rcu_read_lock(self) -> None: ...

    def rcu_read_unlock(self) -> None: ...

    def warn(self, where: str) -> None: ...


NO_HOOKS: Final = NullHooks()
"""What is taken where nobody wants to be told."""
