"""The visitor that maps memory and records owners: the two differ only in what a leaf becomes."""

from pgtable import pte
from pgtable.entry import EntryWriter
from pgtable.errnos import E2BIG, EAGAIN, EINVAL, ENOMEM
from pgtable.geometry import LAST_LEVEL, U64, Geometry
from pgtable.hooks import Hooks
from pgtable.memory import Memcache, MmOps
from pgtable.walker import LEAF, SHARED, SKIP_CMO, TABLE_PRE, Walk


class Mapper:
    """Gives every entry of a range its leaf.

    phys: physical address of the range's start. At or beyond 2^48 it is no address: leaves become
    invalid entries that record owner_id. A range that only grows into such addresses changes over
    on the way.
    attrs: of the leaves (`pte.leaf_attrs`). cache: where table pages come from.
    force_pages: no blocks, not even where they would fit.
    """

    __slots__ = (
        "_attrs",
        "_cache",
        "_entry",
        "_force_pages",
        "_fwb",
        "_geometry",
        "_hooks",
        "_mm_ops",
        "_owner_id",
        "_phys",
    )

    def __init__(
        self,
        entry: EntryWriter,
        mm_ops: MmOps,
        hooks: Hooks,
        geometry: Geometry,
        *,
        fwb: bool,
        cache: Memcache | None,
        phys: int,
        attrs: int = 0,
        owner_id: int = 0,
        force_pages: bool = False,
    ) -> None:
        self._entry = entry
        self._mm_ops = mm_ops
        self._hooks = hooks
        self._geometry = geometry
        self._fwb = fwb
        self._cache = cache
        self._phys = phys
        self._attrs = attrs
        self._owner_id = owner_id
        self._force_pages = force_pages

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF and TABLE_PRE; anything else is -EINVAL."""
        if visit == LEAF:
            return self._leaf(walk)
        if visit == TABLE_PRE:
            return self._merge(walk)
        return -EINVAL

    def _leaf(self, walk: Walk) -> int:
        """Install the leaf here or, where it does not fit, a table for it to go into."""
        ret = self._try_leaf(walk)
        if ret != -E2BIG:
            return ret
        if walk.level == LAST_LEVEL:
            self._hooks.warn("stage2_map_walk_leaf")
            return -EINVAL
        if self._cache is None:
            return -ENOMEM
        child = self._mm_ops.zalloc_page(self._cache)
        if child is None:
            return -ENOMEM
        # A block that was here is not carried over: the rest of its range faults back later.
        if not self._entry.try_break(walk):
            self._mm_ops.put_page(child)
            return -EAGAIN
        self._entry.make(walk, pte.table_pte(child))
        return 0

    def _merge(self, walk: Walk) -> int:
        """Replace a whole table by one block, where that fits."""
        child = pte.to_phys(walk.old)
        self._mm_ops.follow(child)
        ret = self._try_leaf(walk)
        if ret == 0:
            # Not before the block is in place: until then the hardware may walk the old table.
            self._mm_ops.free_unlinked_table(child, walk.level)
        return 0 if ret == -E2BIG else ret

    def _try_leaf(self, walk: Walk) -> int:
        """Make the entry a leaf. -E2BIG if it does not fit here, -EAGAIN if it had better wait."""
        phys = self._phys
        if pte.phys_is_valid(phys):
            phys = (phys + walk.addr - walk.start) & U64
        if not self._fits(walk, phys):
            return -E2BIG

        old = walk.old
        if pte.phys_is_valid(phys):
            new = pte.leaf_pte(phys, self._attrs, walk.level)
            # The same page with at most other permissions: the guest faults again if it must, and
            # that fault relaxes them without break-before-make.
            if pte.is_valid(old) and not (old ^ new) & ~pte.PERMS:
                return -EAGAIN
        else:
            new = pte.owner_pte(self._owner_id)

        if not walk.flags & SHARED and not (old ^ new) & ~pte.SW:
            self._store_software_bits(walk, new)
            return 0
        if not self._entry.try_break(walk):
            return -EAGAIN
        if not walk.flags & SKIP_CMO:
            self._maintain_caches(walk, new)
        self._entry.make(walk, new)
        return 0

    def _fits(self, walk: Walk, phys: int) -> bool:
        """Whether a leaf of this level lies within the range and is aligned on both sides."""
        level = walk.level
        if self._force_pages and level < LAST_LEVEL:
            return False
        if not self._geometry.supports_block(level):
            return False
        size = self._geometry.level_size(level)
        if size > walk.end - walk.addr or walk.addr & (size - 1):
            return False
        return not (pte.phys_is_valid(phys) and phys & (size - 1))

    def _store_software_bits(self, walk: Walk, new: int) -> None:
        """Change bits the hardware ignores (or none at all), which needs no break-before-make."""
        counted = pte.is_counted(walk.old)
        if counted and not pte.is_counted(new):
            self._mm_ops.put_page(walk.pa)
        elif not counted and pte.is_counted(new):
            self._mm_ops.get_page(walk.pa)
        self._entry.try_set(walk, new)

    def _maintain_caches(self, walk: Walk, new: int) -> None:
        """Make memory and instruction fetches agree before the guest can reach the page."""
        size = self._geometry.level_size(walk.level)
        pa = pte.to_phys(new)
        if pte.is_cacheable(new, self._fwb):
            self._mm_ops.follow(pa)
            self._mm_ops.dcache_clean_inval_poc(pa, size)
        if pte.is_executable(new):
            self._mm_ops.follow(pa)
            self._mm_ops.icache_inval_pou(pa, size)
