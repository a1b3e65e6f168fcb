"""The visitor that maps memory and records owners: the two differ only in what a leaf becomes."""

from typing import ClassVar, Final

from pgtable import pte
from pgtable.entry import EntryWriter
from pgtable.errnos import EAGAIN, EINVAL, ENOMEM
from pgtable.geometry import LAST_LEVEL, Geometry
from pgtable.hooks import Hooks, LeafRun
from pgtable.memory import Memcache, MmOps
from pgtable.walker import LEAF, SHARED, SKIP_CMO, TABLE_PRE, Walk, next_used

_LONG_RUN: Final = 16
"""Leaves from which on it pays to do them all at once."""


class Mapper:
    """Gives every entry of a range its leaf.

    phys: physical address of the range's start. At or beyond phys_end it is no address: leaves become
    invalid entries that record owner_id. A range that only grows into such addresses changes over
    on the way.
    attrs: of the leaves (`pte.leaf_attrs`). cache: where table pages come from.
    force_pages: no blocks, not even where they would fit.
    """

    locks: ClassVar = True
    """Whether an entry is locked before it becomes a leaf."""
    __slots__ = (
        "_block",
        "_cache",
        "_cache_maintenance",
        "_cleans",
        "_entry",
        "_first_level",
        "_format",
        "_hooks",
        "_invalidates",
        "_mm_ops",
        "_owner",
        "_page",
        "_phys",
        "_phys_end",
        "_plain_end",
    )

    def __init__(
        self,
        entry: EntryWriter,
        mm_ops: MmOps,
        hooks: Hooks,
        geometry: Geometry,
        address: pte.AddressFormat,
        *,
        fwb: bool,
        phys_end: int,
        cache: Memcache | None,
        phys: int,
        attrs: int = 0,
        owner_id: int = 0,
        force_pages: bool = False,
    ) -> None:
        self._entry = entry
        self._mm_ops = mm_ops
        self._hooks = hooks
        self._cache = cache
        self._format = address
        self._phys = phys
        self._phys_end = phys_end
        # Up to there an address is its own encoding.
        self._plain_end = min(phys_end, 1 << address.in_place.bit_length())
        self._owner = pte.owner_pte(owner_id)
        self._first_level = LAST_LEVEL if force_pages else geometry.min_block_level
        # The leaves of one range differ only in their addresses, so the rest is worked out once. So
        # is what makes memory and instruction fetches agree before the guest can reach a page.
        self._page = page = pte.leaf_pte(0, attrs, LAST_LEVEL)
        self._block = pte.leaf_pte(0, attrs, geometry.min_block_level)
        clean = mm_ops.dcache_clean_inval_poc if pte.is_cacheable(page, fwb) else None
        invalidate = mm_ops.icache_inval_pou if pte.is_executable(page) else None
        self._cleans, self._invalidates = clean is not None, invalidate is not None
        self._cache_maintenance = [act for act in (clean, invalidate) if act is not None]

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF and TABLE_PRE; anything else is -EINVAL."""
        if visit == LEAF:
            if not self._fits(walk):
                return self._install_table(walk)
            return 0 if not walk.old and self._fill(walk) else self._replace(walk)
        if visit == TABLE_PRE:
            return self._merge(walk)
        return -EINVAL

    def _install_table(self, walk: Walk) -> int:
        """Put a table here for the leaves to go into."""
        if self._cache is None:
            return -ENOMEM
        child = self._mm_ops.zalloc_page(self._cache)
        if child is None:
            return -ENOMEM
        # A block that was here is not carried over: the rest of its range faults back later.
        if not self._entry.try_break(walk):
            self._mm_ops.put_page(child)
            return -EAGAIN
        self._entry.make(walk, pte.table_pte(self._format.to_pte(child)))
        return 0

    def _merge(self, walk: Walk) -> int:
        """Replace a whole table by one block, where that fits."""
        child = self._format.to_phys(walk.old)
        self._mm_ops.follow(child)
        if not self._fits(walk):
            return 0
        ret = self._replace(walk)
        if ret == 0:
            # Not before the block is in place: until then the hardware may walk the old table.
            self._mm_ops.free_unlinked_table(child, walk.level)
        return ret

    def _fits(self, walk: Walk) -> bool:
        return walk.admits_leaf(self._phys + walk.addr - walk.start, self._first_level, self._phys_end)

    def _replace(self, walk: Walk) -> int:
        """Make the entry a leaf, whatever it was. -EAGAIN if it had better wait."""
        phys = self._phys + walk.addr - walk.start
        if phys < self._phys_end:
            attrs = self._page if walk.level == LAST_LEVEL else self._block
            return self._put(walk, self._format.to_pte(phys) | attrs, phys)
        return self._put(walk, self._owner, None)

    def _put(self, walk: Walk, new: int, phys: int | None) -> int:
        """Give the entry a new leaf, for memory at phys or for none."""
        old = walk.old
        # The same page with at most other permissions: the guest faults again if it must, and that
        # fault relaxes them without break-before-make.
        if pte.is_valid(old) and not (old ^ new) & ~pte.PERMS:
            return -EAGAIN
        if not (old ^ new) & pte.HARDWARE and not walk.flags & SHARED:
            self._store_software_bits(walk, new)
            return 0
        if not self._entry.try_break(walk):
            return -EAGAIN
        if phys is not None and not walk.flags & SKIP_CMO:
            for maintain in self._cache_maintenance:
                self._mm_ops.follow(phys)
                maintain(phys, walk.size)
        self._entry.make(walk, new)
        return 0

    def _fill(self, walk: Walk) -> bool:
        """Whether the hooks took a long run of empty entries all at once, as most leaves come. They are written.

        What happens to each entry, and in which order, is the same as in `_replace`.
        """
        leaf = self._page if walk.level == LAST_LEVEL else self._block
        lock = ("cmpxchg" if walk.flags & SHARED else "plain") if self.locks else None
        maintain = not walk.flags & SKIP_CMO
        clean, invalidate = maintain and self._cleans, maintain and self._invalidates
        phys = self._phys + walk.addr - walk.start
        counts_first = self.locks
        return fill(self._hooks, walk, phys, self._plain_end, leaf, lock, clean, invalidate, counts_first)

    def _store_software_bits(self, walk: Walk, new: int) -> None:
        """Change bits the hardware ignores (or none at all), which needs no break-before-make."""
        counted = pte.is_counted(walk.old)
        if counted and not pte.is_counted(new):
            self._mm_ops.put_page(walk.pa)
        elif not counted and pte.is_counted(new):
            self._mm_ops.get_page(walk.pa)
        self._entry.try_set(walk, new)


def fill(
    hooks: Hooks,
    walk: Walk,
    phys: int,
    plain_end: int,
    leaf: int,
    lock: str | None = None,
    clean: bool = False,
    invalidate: bool = False,
    counts_first: bool = True,
) -> bool:
    """Whether the hooks took a long run of empty entries, from the one visited on, all at once; they are written then.

    phys: where the first of them maps to; addresses below plain_end are their own encoding; leaf: the entries without
    their addresses; the rest as in `LeafRun`.
    """
    index, stop, size = walk.index, walk.stop, walk.size
    count = min(stop - index, (walk.end - walk.addr) // size, (plain_end - phys) // size)
    if count < _LONG_RUN:
        return False
    count = min(count, next_used(walk.entries, index, stop) - index)
    run = LeafRun(walk.pa, walk.level, lock, phys | leaf, phys, size, count, clean, invalidate, counts_first)
    done = hooks.fill(run)
    if not done:
        return False
    walk.entries[index : index + done] = run.leaves(done)
    walk.index = index + done - 1
    return True
