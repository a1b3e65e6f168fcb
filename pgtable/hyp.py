"""Hyp's stage-1 page table: what the code at EL2 translates its own addresses with."""

from pgtable import pte
from pgtable.errnos import EINVAL, ENOMEM
from pgtable.features import ANY_CPU, Features
from pgtable.geometry import FIRST_LEVEL, GRANULE_4K, LAST_LEVEL, U64, Geometry
from pgtable.hooks import NO_HOOKS, Hooks
from pgtable.mapping import fill
from pgtable.memory import NO_PAGE, MmOps
from pgtable.objects import HYP, KernelObject
from pgtable.removal import Releaser
from pgtable.table import PageTable
from pgtable.tlb import ISB, flush_hyp_va
from pgtable.versions import LINUX_6_12, LinuxVersion
from pgtable.vtcr import phys_bits
from pgtable.walker import LEAF, TABLE_POST, Walk


class HypStage1(PageTable):
    """Translates hyp's virtual addresses to physical ones; kvm_pgtable.h documents the operations.

    There are neither memcaches nor cache maintenance, no merging of tables into blocks, and no break-before-make:
    callers map what is not mapped, and what they unmap is whole. va_bits is checked by `init`.
    counts_pages: whether mm_ops has a page_count, which Linux leaves out of the table that hyp boots with.
    Bits with which C would shift by more than 63 are the caller's to avoid: more than 58 with pages of 16K, 55 of 64K.
    """

    _input = "va"
    __slots__ = ("_counts_pages", "_features", "_phys_end", "_va_bits")

    def __init__(
        self,
        va_bits: int,
        mm_ops: MmOps,
        hooks: Hooks = NO_HOOKS,
        features: Features = ANY_CPU,
        geometry: Geometry = GRANULE_4K,
        version: LinuxVersion = LINUX_6_12,
        kernel_object: KernelObject = HYP,
        counts_pages: bool = True,
    ) -> None:
        address = pte.address_format(geometry.page_shift, features.lpa2)
        super().__init__(mm_ops, hooks, version, geometry, address, kernel_object)
        self._va_bits = va_bits
        self._counts_pages = counts_pages
        self._features = features
        self._phys_end = 1 << phys_bits(features, geometry)

    def init(self) -> int:
        """Allocate an empty root of one page. 0, -ENOMEM, or -EINVAL for va_bits that take no or too many levels (6.1
        takes them, and every walk then fails).

        May be repeated; a table that is still there is then lost. Nothing makes hardware see the root.
        """
        start_level = LAST_LEVEL + 1 - self._geometry.levels(self._va_bits)
        if self._version.lpa2 and not FIRST_LEVEL <= start_level <= LAST_LEVEL:
            return -EINVAL
        self.root = self._mm_ops.zalloc_page(None)
        if self.root is None:
            return -ENOMEM
        self.ia_bits = self._va_bits
        self.start_level = self._version.level(start_level)
        self.root_pages = 1
        return 0

    def map(self, addr: int, size: int, phys: int, prot: int) -> int:
        """Map size bytes at addr to phys, in the largest blocks that fit.

        prot: `pte.Prot` bits. -EINVAL for an illegal one, before anything else; -ENOMEM when a table is needed and
        there is no page. Software bits of what is mapped may change; for anything else there is a warning, and then
        -EINVAL at a page, while a block gives way to a table, unmapped and without invalidation.
        """
        features = self._features
        bti = features.bti and self._version.hyp_modes
        attrs = pte.hyp_leaf_attrs(int(prot), hvhe=features.hvhe, bti=bti, lpa2=features.lpa2)
        if attrs < 0:
            return attrs
        geometry, phys = self._geometry, self._geometry.page_align_down(phys)
        make = _Mapper if self._version.locks_entries else _UncheckedMapper
        mapper = make(self._mm_ops, self._hooks, geometry, self._address, self._phys_end, phys, attrs)
        ret = self._run(mapper.visit, LEAF, addr, size)
        self._hooks.dsb("ishst")
        self._hooks.instruction(ISB)
        return ret

    def unmap(self, addr: int, size: int) -> int:
        """Remove mappings, and table pages left empty; bytes unmapped.

        Ends early, without saying so, at an entry that maps nothing and at a block that reaches beyond the range.
        One that begins before it goes whole. Where no references are counted, nothing is unmapped: 0.
        """
        if not self._counts_pages:
            return 0
        unmapper = _Unmapper(self._mm_ops, self._hooks, self._geometry, self._address, self._features)
        self._run(unmapper.visit, LEAF | TABLE_POST, addr, size)
        return unmapper.unmapped

    def destroy(self) -> None:
        """Free everything. No TLB is invalidated: the hardware must not use the table any more.

        Doing it twice warns, and puts a page that is not there.
        """
        releaser = Releaser(self._mm_ops, self._address, pte.is_valid)
        if self._run(releaser.visit, LEAF | TABLE_POST, 0, 1 << self.ia_bits, skip_empty=True):
            self._hooks.warn("kvm_pgtable_hyp_destroy")
        self._mm_ops.put_page(NO_PAGE if self.root is None else self.root)
        self.root = None

    def _describe(self, entry: int, level: int) -> str:
        return pte.describe_hyp(entry, level, self._features.hvhe, self._address)


class _Mapper:
    """Gives every entry of a range its leaf. phys: of the range's start; attrs: `pte.hyp_leaf_attrs`."""

    __slots__ = ("_address", "_attrs", "_first_level", "_hooks", "_mm_ops", "_phys", "_phys_end", "_plain_end")

    def __init__(
        self,
        mm_ops: MmOps,
        hooks: Hooks,
        geometry: Geometry,
        address: pte.AddressFormat,
        phys_end: int,
        phys: int,
        attrs: int,
    ) -> None:
        self._mm_ops = mm_ops
        self._hooks = hooks
        self._first_level = geometry.min_block_level
        self._address = address
        self._phys_end = phys_end
        # Up to there an address is its own encoding.
        self._plain_end = min(phys_end, 1 << address.in_place.bit_length())
        self._phys = phys
        self._attrs = attrs

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF."""
        phys = self._phys + walk.addr - walk.start & U64
        if walk.admits_leaf(phys, self._first_level, self._phys_end):
            leaf = pte.leaf_pte(0, self._attrs, walk.level)
            if not walk.old and fill(self._hooks, walk, phys, self._plain_end, leaf):
                return 0
            if self._set_leaf(walk, phys):
                return 0
        if walk.level == LAST_LEVEL:
            self._hooks.warn("hyp_map_walker")
            return -EINVAL
        child = self._mm_ops.zalloc_page(None)
        if child is None:
            return -ENOMEM
        # Nothing should be here; a block that is keeps its reference for ever.
        self._install(walk, pte.table_pte(self._address.to_pte(child)))
        return 0

    def _install(self, walk: Walk, table: int) -> None:
        self._mm_ops.get_page(walk.pa)
        self._store(walk, table)

    def _set_leaf(self, walk: Walk, phys: int) -> bool:
        """Whether the entry is the leaf now. Hyp may change no more than software bits of what is mapped."""
        old, new = walk.old, pte.leaf_pte(self._address.to_pte(phys), self._attrs, walk.level)
        if old == new:
            return True
        if not pte.is_valid(old):
            self._mm_ops.get_page(walk.pa)
        elif (old ^ new) & pte.HARDWARE:
            self._hooks.warn("hyp_map_walker_try_leaf")
            return False
        self._store(walk, new)
        return True

    def _store(self, walk: Walk, new: int) -> None:
        self._hooks.pte_store(walk.pa, walk.level, walk.old, new, "release")
        walk.entries[walk.index] = new


class _UncheckedMapper(_Mapper):
    """The same where an entry's reference follows the table that it points to, which warns of what it replaces (6.1).

    A leaf that was refused counts as mapped: what comes below it is a block's size further on in memory.
    """

    __slots__ = ()

    def _set_leaf(self, walk: Walk, phys: int) -> bool:
        done = super()._set_leaf(walk, phys)
        if not done:
            self._phys += walk.size
        return done

    def _install(self, walk: Walk, table: int) -> None:
        if pte.is_valid(walk.old):
            self._hooks.warn("kvm_set_table_pte")
        self._store(walk, table)
        self._mm_ops.get_page(walk.pa)


class _Unmapper:
    """Clears leaves (LEAF), then tables left without entries (TABLE_POST), each with its own invalidation."""

    __slots__ = ("_address", "_features", "_geometry", "_hooks", "_mm_ops", "unmapped")

    def __init__(
        self, mm_ops: MmOps, hooks: Hooks, geometry: Geometry, address: pte.AddressFormat, features: Features
    ) -> None:
        self._mm_ops = mm_ops
        self._hooks = hooks
        self._geometry = geometry
        self._address = address
        self._features = features
        self.unmapped = 0
        """Bytes, of the leaves cleared."""

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor. -EINVAL where there is nothing to unmap, or only in part."""
        old = walk.old
        if not pte.is_valid(old):
            return -EINVAL
        if pte.is_table(old, walk.level):
            child = self._address.to_phys(old)
            self._mm_ops.follow(child)
            # One reference is the table's own, each further one an entry in use.
            if self._mm_ops.page_count(child) == 1:
                self._clear(walk, None)
                self._mm_ops.put_page(child)
            return 0
        if walk.end - walk.addr < walk.size:
            return -EINVAL
        self._clear(walk, walk.level)
        self.unmapped += walk.size
        return 0

    def _clear(self, walk: Walk, level: int | None) -> None:
        hooks = self._hooks
        hooks.pte_store(walk.pa, walk.level, walk.old, 0, "plain")
        walk.entries[walk.index] = 0
        for instruction in flush_hyp_va(walk.addr, level, self._geometry, self._features):
            hooks.instruction(instruction)
        self._mm_ops.put_page(walk.pa)
