"""What a page table tells the world as it works."""

from typing import Final, Protocol

TLBI_TTL_UNKNOWN: Final = 0x7FFF_FFFF
"""The level in `tlbi_vmid_ipa` when the entry's level must not be hinted (tlbflush.h: INT_MAX)."""


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

    def tlbi_vmid(self) -> None:
        """Invalidate everything of this VMID."""

    def tlbi_vmid_ipa(self, ipa: int, level: int) -> None:
        """Invalidate one leaf, or table (TLBI_TTL_UNKNOWN); ipa is not aligned to its level."""

    def tlbi_vmid_ipa_nsh(self, ipa: int, level: int) -> None:
        """The same on this CPU only (non-shareable): enough where the others may fault once more."""

    def tlbi_vmid_range(self, ipa: int, pages: int) -> None:
        """Invalidate 1..MAX_TLBI_RANGE_PAGES pages from ipa, which may be unaligned."""

    def tlbi(self, op: str, operand: int) -> None:
        """A TLBI instruction that the code issues itself, for example "vae2is", and its register (`pgtable.tlbi`)."""

    def dsb(self, domain: str) -> None:
        """A data synchronisation barrier, for example "ishst"."""

    def isb(self) -> None:
        """An instruction synchronisation barrier."""

    def warn(self, where: str) -> None:
        """A WARN fires in the kernel function of that name."""


class NullHooks:
    """Hooks that do nothing, for use as a library."""

    __slots__ = ()

    def pte_store(self, pa: int, level: int, old: int, new: int, kind: str) -> None: ...

    def tlbi_vmid(self) -> None: ...

    def tlbi_vmid_ipa(self, ipa: int, level: int) -> None: ...

    def tlbi_vmid_ipa_nsh(self, ipa: int, level: int) -> None: ...

    def tlbi_vmid_range(self, ipa: int, pages: int) -> None: ...

    def tlbi(self, op: str, operand: int) -> None: ...

    def dsb(self, domain: str) -> None: ...

    def isb(self) -> None: ...

    def warn(self, where: str) -> None: ...
