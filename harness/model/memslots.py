"""A VM's memory slots and their logs: what virt/kvm/kvm_main.c has of them, and what mmu.c of arch/arm64/kvm does for
them in the VM's tables.

Every MMU is reached: in its first table that is a range of addresses; of the others, whose addresses are not the
slot's, all goes, or all is write-protected, as in kvm_nested_s2_unmap() and kvm_nested_s2_wp(). MMUs that share a table
are reached once.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.observation.events import LOG_CLEARED, LOG_TOLD
from harness.program.kinds import BACKING, LOGGING
from harness.program.kinds.small import MOST_LOGGED, MOST_SLOT_PAGES, MOST_STEPS
from harness.program.space import U64_MAX
from pgtable.pte import AF, is_valid

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.model.run import ProgramRun
    from pgtable import S2Mmu, Stage2

_AT_ONCE, _, _INITIALLY_SET = range(len(LOGGING.words))
_PAGE, _BLOCK, _GIGABYTE = (BACKING.words.index(name) for name in ("page", "block", "gigabyte"))
_WORD: Final = 64
"""Pages of a log that are cleared together."""


class Region(NamedTuple):
    """Where a slot's memory is, in bytes, and how: what user space says."""

    ipa: int
    size: int
    phys: int
    backing: int
    is_logged: bool
    is_readonly: bool


class Slot:
    """A slot that is there. `dirty` are the pages in its log, by their place in the slot (None: it has no log), `told`
    those that user space was told of last."""

    __slots__ = ("dirty", "region", "told")

    def __init__(self, region: Region) -> None:
        self.region = region
        self.dirty: set[int] | None = None
        self.told: set[int] = set()

    @property
    def is_logging(self) -> bool:
        """Whether what the guest writes is logged."""
        return self.dirty is not None and not self.region.is_readonly


class Memslots:
    """Of one VM, while that is in use. Operations return 0 or a negative errno, as the ioctls do."""

    def __init__(self, run: ProgramRun, vm: int) -> None:
        self._run = run
        self._vm = vm
        self._slots: dict[int, Slot] = {}
        self._page = run.fixed.geometry.page_size
        self._logging = _AT_ONCE
        self._chunk = 0
        """How much of a block is split at a time; 0: none is."""

    def get(self, number: int) -> Slot | None:
        return self._slots.get(number)

    def at(self, ipa: int) -> Slot | None:
        """The slot of an address."""
        for one in self._slots.values():
            if one.region.ipa <= ipa < one.region.ipa + one.region.size:
                return one
        return None

    def set_mode(self, logging: int, splits: bool) -> int:
        """KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE, of a block, which stays once there are slots, and
        KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2."""
        if splits and (self._slots or "split" in self._run.version.lacks):
            return -errno.EINVAL
        if not self._slots:
            self._chunk = self._run.fixed.geometry.level_size(2) if splits else 0
        self._logging = logging
        return 0

    # KVM_SET_USER_MEMORY_REGION

    def change(self, number: int, new: Region) -> int:
        """Make a slot, change it or, by a size of 0, remove it."""
        page, old = self._page, self._slots.get(number)
        if (new.size | new.ipa | new.phys) % page or new.size // page > MOST_SLOT_PAGES:
            return -errno.EINVAL
        if max(new.ipa, new.phys) + new.size > U64_MAX:
            return -errno.EINVAL
        if not new.size:
            return -errno.EINVAL if old is None else self._remove(number, old)
        moves = False
        if old is not None:
            was = old.region
            if (new.phys, new.size, new.is_readonly) != (was.phys, was.size, was.is_readonly):
                return -errno.EINVAL
            moves = new.ipa != was.ipa
            if not moves and new.is_logged == was.is_logged:
                return 0
        if (old is None or moves) and self._overlaps(number, new):
            return -errno.EEXIST
        if moves and old is not None:
            self._unmap_slot(old)
        changed = Slot(new)
        if new.is_logged:
            ret = self._keep_log(changed, old)
            if ret:
                return ret
        if new.ipa + new.size > 1 << self._first().table.ia_bits:
            return -errno.EFAULT
        self._slots[number] = changed
        self._committed(changed)
        return 0

    def _overlaps(self, number: int, new: Region) -> bool:
        return any(
            number != other and one.region.ipa < new.ipa + new.size and new.ipa < one.region.ipa + one.region.size
            for other, one in self._slots.items()
        )

    def _keep_log(self, new: Slot, old: Slot | None) -> int:
        """The log of a slot, which may go on."""
        if old is not None and old.dirty is not None:
            new.dirty, new.told = old.dirty, old.told
            return 0
        pages = new.region.size // self._page
        if pages > MOST_LOGGED:
            return -errno.ENOMEM
        new.dirty = set(range(pages)) if self._logging == _INITIALLY_SET else set()
        return 0

    def _remove(self, number: int, old: Slot) -> int:
        self._unmap_slot(old)
        del self._slots[number]
        self._drain()
        return 0

    def _committed(self, slot: Slot) -> None:
        """kvm_arch_commit_memory_region()"""
        region = slot.region
        if slot.dirty is None:
            self._drain()
        elif self._logging != _INITIALLY_SET:
            start, end = region.ipa, region.ipa + region.size
            self._protect_range(self._first(), start, end)
            if self._run.version.reaches_nested_mmus:
                self._protect_others()
            self._flush_first(region)
            self._split(start, end)
            if not self._run.version.reaches_nested_mmus:
                self._protect_others()
                self._flush_others()

    def _drain(self) -> None:
        """Where blocks are split at all, no tables are set aside for a slot that is not logged."""
        if "split" not in self._run.version.lacks:
            self._first().split_cache.drain(self._run.pool)

    # The log

    def read(self, number: int) -> tuple[int, int]:
        """KVM_GET_DIRTY_LOG. The result, and how many pages are in it."""
        slot = self._slots.get(number)
        if slot is None or slot.dirty is None:
            return -errno.ENOENT, 0
        slot.told = set(slot.dirty)
        if self._logging == _AT_ONCE:
            self._clear(slot, slot.told)
        for page in sorted(slot.told):
            self._tell(LOG_TOLD, slot, page)
        return 0, len(slot.told)

    def clear(self, number: int, first: int, count: int) -> tuple[int, int]:
        """KVM_CLEAR_DIRTY_LOG of `count` pages (0: all) from `first` on. The result, and how many were dirty."""
        slot = self._slots.get(number)
        if first % _WORD:
            return -errno.EINVAL, 0
        if slot is None or slot.dirty is None:
            return -errno.ENOENT, 0
        left = slot.region.size // self._page - first
        if left < 0:
            return -errno.EINVAL, 0
        count = count or left
        if count > left or (count < left and count % _WORD):
            return -errno.EINVAL, 0
        end = -(-(first + count) // _WORD) * _WORD
        pages = {page for page in slot.told & slot.dirty if first <= page < end}
        self._clear(slot, pages)
        return 0, len(pages)

    def mark(self, slot: Slot, ipa: int) -> bool:
        """A page was given to the guest to be written. Whether that is logged."""
        if slot.dirty is None:
            return False
        slot.dirty.add((ipa - slot.region.ipa) // self._page)
        return True

    def _clear(self, slot: Slot, pages: set[int]) -> None:
        """Take pages out of the log and have them write-protected, word by word: from the first to the last of each."""
        assert slot.dirty is not None
        for word in sorted({page // _WORD for page in pages}):
            several = sorted(page for page in pages if page // _WORD == word)
            slot.dirty.difference_update(several)
            for page in several:
                self._tell(LOG_CLEARED, slot, page)
            start = slot.region.ipa + several[0] * self._page
            end = slot.region.ipa + (several[-1] + 1) * self._page
            self._protect(start, end, splits=self._logging == _INITIALLY_SET)
        if pages:
            self._flush(slot.region)

    # The host's MMU notifier

    def take_away(self, ipa: int, size: int) -> int:
        """The host takes memory from the guest: no table keeps any of it."""
        if not self._is_range(ipa, size):
            return -errno.EINVAL
        for start, end in self._shares(ipa, size):
            self._unmap(start, end)
        return 0

    def age(self, ipa: int, size: int, flushes: bool) -> tuple[int, bool]:
        """Clear access flags, and invalidate where any was set, if so asked. The result, and whether any was."""
        if not self._is_range(ipa, size):
            return -errno.EINVAL, False
        young = self._ask(ipa, size, self._age)
        if young and flushes:
            self._run.work_on(self._first())
            self._run.boundary.tlbi_vmid()
            self._run.work_on(None)
        return 0, young

    def test_age(self, ipa: int, size: int) -> tuple[int, bool]:
        """The result, and whether any access flag is set."""
        if not self._is_range(ipa, size):
            return -errno.EINVAL, False
        return 0, self._ask(ipa, size, self._is_young)

    @staticmethod
    def _is_range(ipa: int, size: int) -> bool:
        """Whether there is anything in it, and it does not wrap."""
        return size > 0 and ipa + size <= U64_MAX

    def _shares(self, ipa: int, size: int) -> list[tuple[int, int]]:
        """What slots have of a range, in whole pages, by their numbers."""
        found = []
        first, last = ipa & -self._page, ipa + size + self._page - 1 & -self._page
        for _, slot in sorted(self._slots.items()):
            start, end = max(first, slot.region.ipa), min(last, slot.region.ipa + slot.region.size)
            if start < end:
                found.append((start, end))
        return found

    def _ask(self, ipa: int, size: int, asked: Callable[[Stage2, int, int], bool]) -> bool:
        """Whether it is so of any slot's share, in the table of the first MMU. Linux leaves others alone."""
        young = False
        self._run.work_on(self._first())
        for start, end in self._shares(ipa, size):
            young |= asked(self._first().table, start, end - start)
        self._run.work_on(None)
        return young

    def _age(self, table: Stage2, start: int, size: int) -> bool:
        """kvm_age_gfn(). Where it takes a range for a page or a block, it looks at the first entry alone."""
        if not self._ages_one_leaf:
            return table.test_clear_young(start, size, make_old=True)
        geometry = self._run.fixed.geometry
        if size not in (self._page, geometry.level_size(2), geometry.level_size(1)):
            self._run.boundary.warn("kvm_age_gfn")
        was = table.mkold(start)
        return is_valid(was) and bool(was & AF)

    def _is_young(self, table: Stage2, start: int, size: int) -> bool:
        """kvm_test_age_gfn()"""
        return table.is_young(start) if self._ages_one_leaf else table.test_clear_young(start, size, make_old=False)

    @property
    def _ages_one_leaf(self) -> bool:
        return "test_clear_young" in self._run.version.lacks

    def _tell(self, kind: int, slot: Slot, page: int) -> None:
        boundary = self._run.boundary
        boundary.spend()
        boundary.events.extend((kind, slot.region.ipa + page * self._page, 0))

    # In the tables

    def _first(self) -> S2Mmu:
        return self._run.several_mmus().first

    def _others(self) -> list[S2Mmu]:
        """Those with a table that is not the first's: of each table one."""
        found: list[S2Mmu] = []
        for mmu in self._run.several_mmus().of(self._vm):
            known = any(mmu.table is one.table for one in found)
            if mmu.table is not self._first().table and not known and mmu.table.root is not None:
                found.append(mmu)
        return found

    def flush_shadow(self, slot: Slot) -> None:
        """kvm_arch_flush_shadow_memslot()"""
        self._unmap_slot(slot)

    @property
    def takes_too_long(self) -> bool:
        """Whether all of another table is more than anybody would go through step by step."""
        if not self._run.version.reaches_nested_mmus:
            return False
        return any(1 << mmu.table.ia_bits > MOST_STEPS * self._step_in(mmu) for mmu in self._others())

    def _unmap_slot(self, slot: Slot) -> None:
        self._unmap(slot.region.ipa, slot.region.ipa + slot.region.size)

    def _unmap(self, start: int, end: int) -> None:
        self._unmap_range(self._first(), start, end)
        for mmu in self._others():
            self._unmap_range(mmu, 0, 1 << mmu.table.ia_bits)

    def _unmap_range(self, mmu: S2Mmu, start: int, end: int) -> None:
        self._run.work_on(mmu)
        mmu.table.unmap_in_steps(start, end, self._step_in(mmu))
        self._run.work_on(None)

    def _protect(self, start: int, end: int, splits: bool = False) -> None:
        """Write-protect a range, of the first table split its blocks as well, and write-protect the other tables."""
        self._protect_range(self._first(), start, end)
        if splits:
            self._split(start, end)
        self._protect_others()

    def _protect_others(self) -> None:
        for mmu in self._others():
            self._protect_range(mmu, 0, 1 << mmu.table.ia_bits)

    def _protect_range(self, mmu: S2Mmu, start: int, end: int) -> None:
        self._run.work_on(mmu)
        mmu.table.wrprotect_in_steps(start, end, self._step_in(mmu))
        self._run.work_on(None)

    def _split(self, start: int, end: int) -> None:
        """kvm_mmu_split_huge_pages(): as far as there is memory for tables."""
        if not self._chunk:
            return
        first = self._first()
        needed = 2 if self._run.fixed.geometry.min_block_level == 1 else 1
        self._run.work_on(first)
        for at, until in first.table.steps(start, end, self._chunk):
            if len(first.split_cache.pages) < needed and first.split_cache.topup(self._run.pool, needed):
                break
            if first.table.split(at, until - at, first.split_cache):
                break
        self._run.work_on(None)

    def _flush(self, region: Region) -> None:
        """What was write-protected is invalidated: by Linux under the first MMU's VMID, as it was; where others are our
        design, under theirs too."""
        self._flush_first(region)
        if not self._run.version.reaches_nested_mmus:
            self._flush_others()

    def _flush_first(self, region: Region) -> None:
        """kvm_flush_remote_tlbs_memslot()"""
        self._run.work_on(self._first())
        if "tlb_flush_vmid_range" in self._run.version.lacks:
            self._run.boundary.tlbi_vmid()
        else:
            self._first().table.tlb_flush_range(region.ipa, region.size)
        self._run.work_on(None)

    def _flush_others(self) -> None:
        for mmu in self._others():
            self._run.work_on(mmu)
            self._run.boundary.tlbi_vmid()
            self._run.work_on(None)

    def _step_in(self, mmu: S2Mmu) -> int:
        """How much of a table is gone through at a time: of others than the first where they are our design, all."""
        if mmu is not self._first() and not self._run.version.reaches_nested_mmus:
            return 1 << mmu.table.ia_bits
        geometry = self._run.fixed.geometry
        return geometry.level_size(geometry.min_block_level)

    # Aborts

    def backing_of(self, slot: Slot, ipa: int) -> int:
        """The largest backing of which a block around an address lies in the slot."""
        geometry, backing = self._run.fixed.geometry, slot.region.backing
        if backing == _GIGABYTE and geometry.min_block_level == 1 and self._fits(slot, ipa, geometry.level_size(1)):
            return _GIGABYTE
        if backing >= _BLOCK and self._fits(slot, ipa, geometry.level_size(2)):
            return _BLOCK
        return _PAGE

    @staticmethod
    def _fits(slot: Slot, ipa: int, size: int) -> bool:
        start, region = ipa & -size, slot.region
        return start >= region.ipa and start + size <= region.ipa + region.size
