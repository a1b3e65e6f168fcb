"""Changing one stage-2 entry: stores, break-before-make and the TLB invalidation it needs."""

from typing import Final

from pgtable import pte
from pgtable.features import Features
from pgtable.geometry import U64, Geometry
from pgtable.hooks import Hooks
from pgtable.memory import MmOps
from pgtable.versions import LinuxVersion
from pgtable.walker import SHARED, SKIP_BBM_TLBI, Walk

MAX_TLBI_RANGE_PAGES: Final = 32 << 16
"""The most pages one range invalidation takes (tlbflush.h): 8 GiB of 4K pages."""


class EntryWriter:
    """The acts that change the entry a walk stands on, told to the hooks as they happen."""

    __slots__ = ("_geometry", "_hooks", "_mm_ops", "_ranges")

    def __init__(
        self,
        mm_ops: MmOps,
        hooks: Hooks,
        features: Features,
        version: LinuxVersion,
        geometry: Geometry,
    ) -> None:
        self._mm_ops = mm_ops
        self._hooks = hooks
        self._ranges = features.tlb_range and version.range_tlbi
        self._geometry = geometry

    def store(self, walk: Walk, new: int, kind: str) -> None:
        """Write the entry, whatever it holds."""
        entries, index = walk.entries, walk.index
        self._hooks.pte_store(walk.pa, walk.level, entries[index], new, kind)
        entries[index] = new

    def try_set(self, walk: Walk, new: int) -> bool:
        """Write the entry; in a shared walk, only if it still holds what the walk read."""
        entries, index = walk.entries, walk.index
        shared = walk.flags & SHARED
        self._hooks.pte_store(walk.pa, walk.level, entries[index], new, "cmpxchg" if shared else "plain")
        if shared and entries[index] != walk.old:
            return False
        entries[index] = new
        return True

    def try_break(self, walk: Walk) -> bool:
        """Lock the entry, invalidate what it translated and give up its reference.

        The first half of break-before-make (Arm ARM, "TLB maintenance requirements"). False if
        somebody else holds the entry or, in a shared walk, was faster.
        """
        old = walk.old
        if not old:
            return self.try_set(walk, pte.LOCKED)
        if pte.is_locked(old):
            if not walk.flags & SHARED:
                self._hooks.warn("stage2_try_break_pte")
            return False
        if not self.try_set(walk, pte.LOCKED):
            return False
        if not walk.flags & SKIP_BBM_TLBI:
            if pte.is_table(old, walk.level):
                self.tlbi_range(walk.addr & -walk.size, walk.size)
            elif pte.is_valid(old):
                self._hooks.tlbi_vmid_ipa(walk.addr, walk.level)
        if pte.is_counted(old):
            self._mm_ops.put_page(walk.pa)
        return True

    def make(self, walk: Walk, new: int) -> None:
        """Put new into an entry that `try_break` locked, with a reference of its own."""
        entries, index, pa = walk.entries, walk.index, walk.pa
        if not pte.is_locked(entries[index]):
            self._hooks.warn("stage2_make_pte")
        if pte.is_counted(new):
            self._mm_ops.get_page(pa)
        self._hooks.pte_store(pa, walk.level, entries[index], new, "release")
        entries[index] = new

    def tlbi_range(self, addr: int, size: int) -> None:
        """Invalidate size bytes from addr, in as many pieces as that takes.

        A size near 2^64 takes about 2^31 pieces; the kernel does not mind either.
        """
        if not self._ranges:
            self._hooks.tlbi_vmid()
            return
        shift = self._geometry.page_shift
        whole, rest = divmod(size >> shift, MAX_TLBI_RANGE_PAGES)
        step = MAX_TLBI_RANGE_PAGES << shift
        for start in range(addr, addr + whole * step, step):
            self._hooks.tlbi_vmid_range(start & U64, MAX_TLBI_RANGE_PAGES)
        if rest:
            self._hooks.tlbi_vmid_range((addr + whole * step) & U64, rest)
