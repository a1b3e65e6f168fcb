"""A stage-2 page table and its operations."""

import enum
from collections.abc import Callable

from pgtable import pte
from pgtable.attributes import Ager, AttributeChanger, Flusher
from pgtable.clearing import ClearingMapper
from pgtable.entry import EntryWriter
from pgtable.errnos import EAGAIN, EINVAL, ENOMEM
from pgtable.features import ANY_CPU, Features
from pgtable.geometry import GRANULE_4K, U64, Geometry
from pgtable.hooks import NO_HOOKS, TLBI_TTL_UNKNOWN, Hooks
from pgtable.mapping import Mapper
from pgtable.memory import Memcache, MmOps, PagePool
from pgtable.objects import HOST, KernelObject
from pgtable.removal import Releaser, Unmapper
from pgtable.splitting import Splitter
from pgtable.table import PageTable
from pgtable.versions import LINUX_6_12, LinuxVersion
from pgtable.vtcr import ia_bits_of, phys_bits, start_level_of
from pgtable.walker import (
    HANDLE_FAULT,
    LEAF,
    SHARED,
    SKIP_BBM_TLBI,
    SKIP_CMO,
    TABLE_POST,
    TABLE_PRE,
)

_MAX_U8 = 0xFF

ForcePages = Callable[[int, int, int], bool]
"""Called with every map's addr, addr + size (as they came, reduced modulo 2^64) and prot, before anything is checked:
whether it must do without blocks. pKVM's host does for whatever a fault could not bring back by itself."""


class Stage2Flags(enum.IntFlag):
    """What one stage 2 does otherwise (enum kvm_pgtable_stage2_flags).

    NOFWB: memory types and cache maintenance as without FEAT_S2FWB. IDMAP: only mappings of an address to itself.
    """

    NOFWB = 1
    IDMAP = 2


_NOFWB, _IDMAP = int(Stage2Flags.NOFWB), int(Stage2Flags.IDMAP)


class Stage2(PageTable):
    """Translates guest addresses (IPA) to physical ones; kvm_pgtable.h documents the operations.

    Operations return 0 or a negative errno. ValueError for an operation or walk flag that the version lacks.

    vtcr: the table's shape, from `get_vtcr`, of the same features and geometry. mm_ops: where tables live, for
    example a `PagePool`. hooks hear of every store, barrier and TLB invalidation. flags and force_pages are what KVM
    hands over with init; kernel_object is who walks. Nothing is allocated before `init`.
    """

    _input = "ipa"
    __slots__ = (
        "_defer_tlbi",
        "_entry",
        "_force_pages",
        "_fwb",
        "_identity",
        "_lpa2",
        "_make_mapper",
        "_phys_end",
        "_prots",
        "_releaser",
        "_unmapper",
        "_vtcr",
    )

    _mapper_class = Mapper

    def __init__(
        self,
        vtcr: int,
        mm_ops: MmOps,
        hooks: Hooks = NO_HOOKS,
        features: Features = ANY_CPU,
        version: LinuxVersion = LINUX_6_12,
        geometry: Geometry = GRANULE_4K,
        *,
        flags: int = 0,
        force_pages: ForcePages | None = None,
        kernel_object: KernelObject = HOST,
    ) -> None:
        address = pte.address_format(geometry.page_shift, features.lpa2)
        super().__init__(mm_ops, hooks, version, geometry, address, kernel_object)
        self._vtcr = vtcr
        # A plain int, for enum arithmetic in each `map` would tell.
        self._prots = int(version.prots)
        self._lpa2 = features.lpa2
        self._phys_end = 1 << phys_bits(features, geometry)
        flags = int(flags)
        self._identity = bool(flags & _IDMAP)
        self._force_pages = force_pages
        self._fwb = fwb = features.fwb and not flags & _NOFWB
        # Pointless if every page needs its cache cleaned anyway.
        self._defer_tlbi = features.tlb_range and version.range_tlbi and fwb
        self._entry = EntryWriter(mm_ops, hooks, features, version, geometry)
        self._unmapper = Unmapper(
            self._entry,
            mm_ops,
            hooks,
            address,
            fwb=fwb,
            defer_tlbi=self._defer_tlbi,
            table_tlbi_level=version.table_tlbi_level,
        )
        if not version.locks_entries and self._mapper_class is not Mapper:
            raise ValueError(f"Linux {version.name} is modelled with its own way to record owners only")
        self._make_mapper = self._mapper_class if version.locks_entries else ClearingMapper
        self._releaser = Releaser(mm_ops, address)
        if isinstance(mm_ops, PagePool):
            mm_ops.free_unlinked = self.free_unlinked

    def init(self) -> int:
        """Allocate an empty root. 0 or -ENOMEM.

        May be repeated; a table that is still there is then lost (after a failure, too).
        """
        ia_bits = ia_bits_of(self._vtcr)
        start_level = start_level_of(self._vtcr, self._geometry)
        root_pages = self._geometry.root_pages(ia_bits, start_level)
        self.root = self._mm_ops.zalloc_pages_exact(root_pages * self._geometry.page_size)
        if self.root is None:
            return -ENOMEM
        self.ia_bits = ia_bits
        self.start_level = self._version.level(start_level)
        self.root_pages = root_pages
        self._hooks.dsb("ishst")
        return 0

    def map(self, addr: int, size: int, phys: int, prot: int, cache: Memcache | None, flags: int = 0) -> int:
        """Map size bytes at addr to phys, in the largest blocks that fit.

        prot: `pte.Prot` bits. cache: where table pages come from. flags: further `WalkFlags`.
        phys beyond the physical addresses that the machine has (2^48 or 2^52: `vtcr.phys_bits`) is no page: the
        range is cleared instead.

        -EINVAL for an illegal prot, and with a warning where IDMAP wants addr and phys, to the byte,
        to be the same; -ENOMEM when a table is needed and cache is None or empty (what
        was done until then stays); -EAGAIN, with HANDLE_FAULT only, when an entry already maps the
        page, up to permissions.
        """
        self._check_flags(flags)
        force_pages = self._force_pages is not None and self._force_pages(addr & U64, addr + size & U64, int(prot))
        if self._identity and (addr ^ phys) & U64:
            self._hooks.warn("kvm_pgtable_stage2_map")
            return -EINVAL
        attrs = pte.leaf_attrs(int(prot) & self._prots, self._fwb, self._lpa2)
        if attrs < 0:
            return attrs
        mapper = self._mapper(cache, self._geometry.page_align_down(phys), attrs=attrs, force_pages=force_pages)
        ret = self._run(mapper.visit, flags | TABLE_PRE | LEAF, addr, size)
        self._hooks.dsb("ishst")
        return ret

    def unmap(self, addr: int, size: int) -> int:
        """Remove mappings and owners, and table pages left empty.

        With FWB and range TLBI, the invalidation that follows takes addr and size as they came, on
        errors too: a size near 2^64 means about 2^31 `tlbi_vmid_range`. Bound them by a hook.
        """
        ret = self._run(self._unmapper.visit, LEAF | TABLE_POST, addr, size, skip_empty=True)
        if self._defer_tlbi:
            self._entry.tlbi_range(addr & U64, size & U64)
        return ret

    def unmap_in_steps(self, start: int, end: int, step: int) -> None:
        """`unmap`, of ranges up to the next multiples of `step`, one after the other, whatever comes of each."""
        for at, until in self.steps(start, end, step, past_empty=not self._defer_tlbi):
            self.unmap(at, until - at)

    def set_owner(self, addr: int, size: int, cache: Memcache | None, owner_id: int) -> int:
        """Unmap the range page by page and record its owner there.

        Source: thread "KVM: arm64: Use page-table to track page ownership", 2021-03.

        owner_id: 0..255, else ValueError; -EINVAL beyond the version's highest. 0 is the owner of
        the table; unlike unmap it too allocates tables, and frees none. -ENOMEM as in `map`.
        """
        if not 0 <= owner_id <= _MAX_U8:
            raise ValueError(f"owner_id must be 0..{_MAX_U8}, not {owner_id}")
        if owner_id > self._version.max_owner_id:
            return -EINVAL
        return self._record_owner(addr, size, cache, owner_id)

    def _record_owner(self, addr: int, size: int, cache: Memcache | None, owner_id: int) -> int:
        mapper = self._mapper(cache, pte.PHYS_INVALID, owner_id=owner_id, force_pages=True)
        return self._run(mapper.visit, TABLE_PRE | LEAF, addr, size)

    def wrprotect(self, addr: int, size: int) -> int:
        """Take write permission from every leaf of the range, whole blocks included.

        The TLB is left alone: stale writes go on until the caller invalidates (`tlb_flush_range`).
        """
        changer = self._changer(clear_bits=pte.S2AP_W)
        # An invalid entry does not end the walk: it is 0, or an -EAGAIN that the walk forgets.
        return self._run(changer.visit, LEAF, addr, size, skip_empty=True)

    def wrprotect_in_steps(self, start: int, end: int, step: int) -> None:
        """`wrprotect`, of ranges up to the next multiples of `step`, one after the other, whatever comes of each."""
        for at, until in self.steps(start, end, step, past_empty=True):
            self.wrprotect(at, until - at)

    def mkyoung(self, addr: int) -> int:
        """Set the access flag of the leaf that translates addr. Returns the entry as it was, 0 if there is none.

        What ended the walk is not told. For fault handlers: the walk is shared, where walks can be.
        """
        changer = self._changer(set_bits=pte.AF)
        ret = self._run(changer.visit, LEAF | HANDLE_FAULT | SHARED, addr, 1)
        if not ret or self._version.mkyoung_always_syncs:
            self._hooks.dsb("ishst")
        return 0 if ret else changer.old

    def mkold(self, addr: int) -> int:
        """Clear the access flag of the leaf that translates addr. Returns the entry as it was, 0 if there is none.

        The TLB is left alone.
        """
        self._version.require("mkold")
        changer = self._changer(clear_bits=pte.AF)
        return 0 if self._run(changer.visit, LEAF, addr, 1) else changer.old

    def is_young(self, addr: int) -> bool:
        """Whether a leaf translates addr that has the access flag."""
        self._version.require("is_young")
        looker = self._changer()
        return not self._run(looker.visit, LEAF, addr, 1) and bool(looker.old & pte.AF)

    def test_clear_young(self, addr: int, size: int, make_old: bool) -> bool:
        """Whether any leaf of the range has the access flag; make_old clears it in all of them.

        The TLB is left alone. There is no way to fail: a walk that does, for its range or for want
        of a table, warns and counts as old.
        """
        self._version.require("test_clear_young")
        ager = Ager(self._entry, make_old=make_old)
        if self._run(ager.visit, LEAF, addr, size, skip_empty=True):
            self._hooks.warn("kvm_pgtable_stage2_test_clear_young")
        return ager.young

    def relax_perms(self, addr: int, prot: int) -> int:
        """Add the permissions in prot to the leaf that translates addr, and invalidate it.

        prot: `pte.Prot` bits; memory types are ignored. -EINVAL for software bits. Where it is done
        on this CPU only, an invalid entry is -EAGAIN, and invalidated too, at a level that nobody
        knows any more; elsewhere it is 0, and invalidated as one of level 0 (6.1).
        """
        if prot & pte.SW:
            return -EINVAL
        set_bits, clear_bits = pte.relaxing(int(prot))
        changer = self._changer(set_bits=set_bits, clear_bits=clear_bits)
        ret = self._run(changer.visit, LEAF | HANDLE_FAULT | SHARED, addr, 1)
        if not self._version.relaxes_locally:
            if not ret:
                self._hooks.tlbi_vmid_ipa(addr & U64, changer.level)
        elif ret in (0, -EAGAIN):
            self._hooks.tlbi_vmid_ipa_nsh(addr & U64, TLBI_TTL_UNKNOWN if ret else changer.level)
        return ret

    def flush(self, addr: int, size: int) -> int:
        """Clean and invalidate the data cache of the range's cacheable memory.

        With FWB there is nothing to do, and even an illegal range is 0.
        """
        if self._fwb:
            return 0
        return self._run(Flusher(self._mm_ops, self._address).visit, LEAF, addr, size, skip_empty=True)

    def tlb_flush_range(self, addr: int, size: int) -> None:
        """Invalidate the TLB for a range, taken as it is: it may lie beyond the limit, or wrap.

        Without range TLBI everything of the VMID goes, whatever the size. See `unmap` about sizes.
        """
        self._version.require("tlb_flush_vmid_range")
        self._entry.tlbi_range(addr & U64, size & U64)

    def destroy(self) -> None:
        """Free everything. No TLB is invalidated: the hardware must not use the table any more.

        Doing it twice warns and frees None.
        """
        ret = self._run(self._releaser.visit, LEAF | TABLE_POST, 0, 1 << self.ia_bits, skip_empty=True)
        if ret:
            self._hooks.warn("kvm_pgtable_stage2_destroy")
        self._mm_ops.free_pages_exact(self.root, self.root_pages * self._geometry.page_size)
        self.root = None

    def split(self, addr: int, size: int, cache: Memcache) -> int:
        """Split the blocks of the range into pages, with tables from cache alone (`splitting.Splitter`).

        Best effort: -ENOMEM when the cache runs out, even where that is on the first block.
        """
        self._version.require("split")
        splitter = Splitter(
            self._entry,
            self._geometry,
            self._address,
            cache,
            self.create_unlinked,
            self.free_unlinked,
            self._warn_once,
        )
        ret = self._run(splitter.visit, LEAF, addr, size, skip_empty=True)
        self._hooks.dsb("ishst")
        return ret

    def create_unlinked(self, phys: int, level: int, prot: int, cache: Memcache | None, force_pages: bool) -> int:
        """Make a full table for an entry of this level, 0..2, which no entry points to. Its address, or -errno.

        It maps what the entry would, from phys, in the largest blocks below that level that fit, or
        in pages. Nothing is invalidated or cleaned. `free_unlinked` frees it.

        cache: where pages come from; None takes the first from `MmOps`, and none for further tables.
        -EINVAL for a phys not aligned to level and for an illegal prot; -ENOMEM. At level 3 there
        is no table to make: a warning, and -EINVAL.
        """
        self._version.require("create_unlinked")
        size = self._geometry.level_size(level)
        if phys & (size - 1):
            return -EINVAL
        attrs = pte.leaf_attrs(int(prot) & self._prots, self._fwb, self._lpa2)
        if attrs < 0:
            return attrs
        table = self._mm_ops.zalloc_page(cache)
        if table is None:
            return -ENOMEM
        mapper = self._mapper(cache, phys & U64, attrs=attrs, force_pages=force_pages)
        walk = self._new_walk(mapper.visit, LEAF | SKIP_BBM_TLBI | SKIP_CMO, 0, size, skip_empty=False)
        ret = walk.descend(table, level + 1)
        if ret:
            self.free_unlinked(table, level)
            return ret
        return table

    def free_unlinked(self, pa: int, level: int) -> None:
        """Free the table at pa, which an entry of this level used to point to, and all below."""
        self._version.require("free_unlinked")
        size = self._geometry.level_size(level)
        walk = self._new_walk(self._releaser.visit, LEAF | TABLE_POST, 0, size, skip_empty=True)
        if walk.descend(pa, level + 1):
            self._hooks.warn("kvm_pgtable_stage2_free_unlinked")
        if self._mm_ops.page_count(pa) != 1:
            self._hooks.warn("kvm_pgtable_stage2_free_unlinked")
        self._mm_ops.put_page(pa)

    def _describe(self, entry: int, level: int) -> str:
        return pte.describe(entry, level, self._fwb, self._address)

    def _mapper(
        self, cache: Memcache | None, phys: int, *, attrs: int = 0, owner_id: int = 0, force_pages: bool = False
    ) -> Mapper:
        return self._make_mapper(
            self._entry,
            self._mm_ops,
            self._hooks,
            self._geometry,
            self._address,
            fwb=self._fwb,
            phys_end=self._phys_end,
            cache=cache,
            phys=phys,
            attrs=attrs,
            owner_id=owner_id,
            force_pages=force_pages,
        )

    def _changer(self, *, set_bits: int = 0, clear_bits: int = 0) -> AttributeChanger:
        absent = self._version.absent_leaf
        return AttributeChanger(
            self._entry, self._mm_ops, self._address, absent, set_bits=set_bits, clear_bits=clear_bits
        )
