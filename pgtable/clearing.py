"""The visitor that maps memory and records owners in a Linux that clears entries (6.1).

It decides as `mapping.Mapper` does and acts otherwise: nothing is locked, an entry in the way is
cleared and invalidated, one that is free is simply written, and a reference is taken after the store.
"""

from pgtable import pte
from pgtable.errnos import EAGAIN, ENOMEM
from pgtable.geometry import ENTRY_SIZE, LAST_LEVEL
from pgtable.mapping import Mapper
from pgtable.walker import LEAF, TABLE_POST, Walk


class ClearingMapper(Mapper):
    """`Mapper` without locks; see there for the arguments."""

    __slots__ = ()

    def _install_table(self, walk: Walk) -> int:
        if self._cache is None:
            return -ENOMEM
        child = self._mm_ops.zalloc_page(self._cache)
        if child is None:
            return -ENOMEM
        if pte.is_counted(walk.old):
            self._clear(walk)
        self._write(walk, pte.table_pte(child))
        return 0

    def _merge(self, walk: Walk) -> int:
        """Replace a whole table by one block, where that fits: all of the VMID's translations go before it."""
        if not self._fits(walk):
            return 0
        child = pte.to_phys(walk.old)
        self._mm_ops.follow(child)
        self._entry.store(walk, 0, "plain")
        self._hooks.tlbi_vmid()
        self._mm_ops.follow(child)
        walk.explore(child, self._give_up, LEAF | TABLE_POST)
        self._make_leaf(walk)
        self._mm_ops.put_page(child)
        self._mm_ops.put_page(walk.pa)
        return 0

    def _give_up(self, walk: Walk, visit: int) -> int:
        """The visitor of a table taken out: references go from below to above."""
        if visit == TABLE_POST:
            child = pte.to_phys(walk.old)
            self._mm_ops.follow(child)
            self._mm_ops.put_page(child)
            self._mm_ops.put_page(walk.pa)
        elif pte.is_counted(walk.old):
            self._mm_ops.put_page(walk.pa)
        return 0

    def _replace(self, walk: Walk) -> int:
        if not self._changes_more_than_permissions(walk):
            return -EAGAIN
        self._clear(walk)
        self._make_leaf(walk)
        return 0

    def _fill(self, walk: Walk) -> int:
        # A run of empty entries, as in `Mapper`.
        stop = min(walk.stop, walk.index + (walk.end - walk.addr) // walk.size)
        while True:
            self._make_leaf(walk)
            if walk.index + 1 >= stop or walk.entries[walk.index + 1]:
                return 0
            walk.index += 1
            walk.pa += ENTRY_SIZE
            walk.addr += walk.size

    def _changes_more_than_permissions(self, walk: Walk) -> bool:
        new = self._leaf(walk)
        return not (pte.is_valid(walk.old) and pte.is_valid(new)) or (walk.old ^ new) & ~pte.PERMS != 0

    def _leaf(self, walk: Walk) -> int:
        phys = self._phys + walk.addr - walk.start
        if phys >= pte.PHYS_END:
            return self._owner
        return phys | (self._page if walk.level == LAST_LEVEL else self._block)

    def _make_leaf(self, walk: Walk) -> None:
        """Write the leaf into an entry that translates nothing."""
        new = self._leaf(walk)
        phys = pte.to_phys(new)
        # Also for an invalid entry, which looks executable: then it is about the first page of memory.
        for maintain in self._cache_maintenance if pte.is_valid(new) else (self._mm_ops.icache_inval_pou,):
            self._mm_ops.follow(phys)
            maintain(phys, walk.size)
        self._write(walk, new)

    def _write(self, walk: Walk, new: int) -> None:
        self._entry.store(walk, new, "release")
        if pte.is_counted(new):
            self._mm_ops.get_page(walk.pa)

    def _clear(self, walk: Walk) -> None:
        """Give an entry up: break it if it translates anything, and drop its reference."""
        if pte.is_valid(walk.old):
            self._entry.store(walk, 0, "plain")
            self._hooks.tlbi_vmid_ipa(walk.addr, walk.level)
        self._mm_ops.put_page(walk.pa)
