"""The visitor that maps memory and records owners in a Linux that clears entries (6.1).

It decides as `mapping.Mapper` does and acts otherwise: nothing is locked, an entry in the way is
cleared and invalidated, one that is free is simply written, and a reference is taken after the store.
"""

from pgtable import pte
from pgtable.errnos import EAGAIN, ENOMEM
from pgtable.mapping import Mapper
from pgtable.walker import LEAF, TABLE_POST, Walk


class ClearingMapper(Mapper):
    """`Mapper` without locks; see there for the arguments."""

    locks = False
    __slots__ = ()

    def _install_table(self, walk: Walk) -> int:
        if self._cache is None:
            return -ENOMEM
        child = self._mm_ops.zalloc_page(self._cache)
        if child is None:
            return -ENOMEM
        if pte.is_counted(walk.old):
            self._clear(walk)
        self._write(walk, pte.table_pte(self._format.to_pte(child)))
        return 0

    def _merge(self, walk: Walk) -> int:
        """Replace a whole table by one block, where that fits: all of the VMID's translations go before it."""
        if not self._fits(walk):
            return 0
        child = self._format.to_phys(walk.old)
        self._mm_ops.follow(child)
        self._entry.store(walk, 0, "plain")
        self._hooks.tlbi_vmid()
        self._mm_ops.follow(child)
        walk.explore(child, self._give_up, LEAF | TABLE_POST)
        walk.old = 0
        self._replace(walk)
        self._mm_ops.put_page(child)
        self._mm_ops.put_page(walk.pa)
        return 0

    def _give_up(self, walk: Walk, visit: int) -> int:
        """The visitor of a table taken out: references go from below to above."""
        if visit == TABLE_POST:
            child = self._format.to_phys(walk.old)
            self._mm_ops.follow(child)
            self._mm_ops.put_page(child)
            self._mm_ops.put_page(walk.pa)
        elif pte.is_counted(walk.old):
            self._mm_ops.put_page(walk.pa)
        return 0

    def _put(self, walk: Walk, new: int, phys: int | None) -> int:
        old = walk.old
        if pte.is_counted(old):
            if pte.is_valid(old) and pte.is_valid(new) and not (old ^ new) & ~pte.PERMS:
                return -EAGAIN
            self._clear(walk)
        # An invalid entry looks executable: the first page of memory is maintained for it.
        invalidate = self._mm_ops.icache_inval_pou
        for maintain in self._cache_maintenance if phys is not None else (invalidate,) if invalidate else ():
            self._mm_ops.follow(phys or 0)
            maintain(phys or 0, walk.size)
        self._write(walk, new)
        return 0

    def _write(self, walk: Walk, new: int) -> None:
        """Fill an entry that translates nothing."""
        self._entry.store(walk, new, "release")
        if pte.is_counted(new):
            self._mm_ops.get_page(walk.pa)

    def _clear(self, walk: Walk) -> None:
        """Give an entry up: break it if it translates anything, and drop its reference."""
        if pte.is_valid(walk.old):
            self._entry.store(walk, 0, "plain")
            self._hooks.tlbi_vmid_ipa(walk.addr, walk.level)
        self._mm_ops.put_page(walk.pa)
