"""The boundary around the page table in the model: what goes over it is counted, recorded and carried out.

What the budget counts (`harness.observation.events.COUNTED`) is counted before it is carried out, as in
reference/kernel/boundary.c: by `spend` or, where there are so many that the call would tell, in line.
"""

from __future__ import annotations

import errno
import zlib
from array import array
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Final, NamedTuple, NoReturn

from harness.model.machine_features import MachineFeatures
from harness.model.tlb_calls import NO_FLUSHES, CpuState, Flushes, Several, Shown, TlbCalls, event_of
from harness.observation.calls import Whose
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    COUNTED,
    DCACHE,
    DSB,
    DSB_DOMAINS,
    FOR_MMU,
    FREE_EXACT,
    FREE_UNLINKED,
    GET,
    ICACHE,
    IN_CALL,
    MOST_UNCOUNTED,
    PLANTED,
    PUT,
    READ_LOCK,
    READ_UNLOCK,
    STORES,
    TLBI_KINDS,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
    WARNED,
)
from harness.observation.execution import Shape
from harness.observation.layout import (
    EVENT_WORDS,
    FIRST_MMU,
    LOCKING,
    LOCKING_REPORTS,
    MAX_COMPLAINTS,
    NO_PAGE,
    POOL_MISUSE,
    POOL_MISUSES,
    WARN,
    Note,
)
from harness.program.machine import KNOBS_BY_NAME, Machine
from harness.program.space import U64_MAX
from pgtable import LeafRun, Memcache, PagePool
from pgtable.geometry import ENTRY_SIZE, LAST_LEVEL
from pgtable.memory import CacheMaintenance, Entries
from pgtable.pte import LOCKED, address_format, is_counted, is_table, is_valid
from pgtable.tlb import Instruction

_NONE: Final = (NO_PAGE, 0)
"""Nothing was broken yet: address and former value of the entry above level 3 that was last."""
_WITH_DCACHE, _WITH_ICACHE = (
    tuple(KNOBS_BY_NAME["cmos"].names.index(name) for name in ("both", one)) for one in ("dcache", "icache")
)
"""Values of the knob `cmos`."""
_MISUSE_CODES: Final = {name: code for code, name in POOL_MISUSES.items()}
_LOCKING_CODES: Final = {name: code for code, name in LOCKING_REPORTS.items()}


class BudgetSpent(Exception):
    """The program has caused as many boundary events as it may."""


class Endless(Exception):
    """What the budget does not count has happened more often than any program makes it happen."""


class Sharer(NamedTuple):
    """One of several MMUs that share the table in use, and what TLB functions do when they are called for it."""

    number: int
    is_in_use: bool
    flushes: Flushes


class Boundary:
    """Around what one program runs: `MmOps` and `Hooks` to its page table.

    It is one object for both, for the budget and the events are the same. `fixed` follows from the machine; `calls` is
    None where TLB functions are known by their calls alone.
    """

    def __init__(
        self, machine: Machine, fixed: MachineFeatures, cpu: CpuState, pool: PagePool, calls: TlbCalls | None
    ) -> None:
        pool.reset()
        pool.complain = self._misuse
        self.pool = pool
        self.table: Callable[[int], Entries] = pool.table
        self.address = address_format(fixed.geometry.page_shift, fixed.features.lpa2)
        self.free_table: Callable[[int, int], None] | None = None
        """Frees a table, by the address and the level of the entry that pointed to it: the page table's own."""
        self.left, self._uncounted_left = machine["budget"], MOST_UNCOUNTED
        self.record = 0
        """The record that the op under way makes; of the state, one more than the last op's."""
        self.events: list[int] = []
        """This op's, after those in `event_pieces`: runs of many come as arrays."""
        self.event_pieces: list[array[int]] = []
        self.piece_kinds: set[int] = set()
        """Of the events in them."""
        self.complaints: list[int] = []
        """This op's."""
        self.levels = 0
        """Those that this op wrote entries at: bit n + 1 for level n."""
        self.notes: list[Note] = []
        self.shape = Shape()
        self.race = (0, 0)
        """The compare-and-exchange before which an entry changes, counted as that, and what the entry becomes."""
        self.allocs_to_failure = 0
        """The allocation that fails, counted from the next one; 0 for none."""
        self.allocates_when_empty = False
        """Whether a memcache that is found empty is a WARN and a page of the pool's, as in a host's fault handler. Else
        it is no page."""
        self.allocated_when_empty = 0
        """How many pages that were."""
        self.holds_lock = False
        """The MMU's lock, which forbids to sleep."""
        self.fresh_calls: list[tuple[int, Sequence[int], Whose | None]] = []
        """Record and events of each call of which nothing like it was told in its context, and whose it is."""
        self._machine, self._fixed, self._cpu = machine, fixed, cpu
        self._cmos = machine["cmos"]
        self._broken = _NONE
        self._calls = calls
        self._flushes = NO_FLUSHES
        self._sharing: tuple[Sharer, ...] = ()
        """The MMUs that share the table in use, if there are several: what changes it must be told to each."""
        self._in_use = FIRST_MMU
        self._running: Shown | None = None
        """In a VM with several MMUs, which is in use, and whose vCPU runs where one of this stage 2 does."""

    def begin_op(self) -> None:
        """What was recorded of the op before is over."""
        self.events.clear()
        self.event_pieces.clear()
        self.complaints.clear()
        self.levels = 0
        self._broken = _NONE

    def renew(self) -> None:
        """The budget is fresh, for what comes after the program. Nobody looks: notes go elsewhere, TLB functions do
        nothing."""
        self.left, self._uncounted_left = self._machine["budget"], MOST_UNCOUNTED
        self.notes = []
        self._calls = None

    def load(self, root: int) -> None:
        """TLB functions find this root and what the CPU's state is now: the table that init made last, even after it
        was destroyed."""
        if self._calls is not None:
            self._flushes = self._calls.of(self._machine, self._fixed, self._cpu, root)

    def load_several(self, in_use: int, sharing: Sequence[Shown], running: Shown) -> None:
        """The same of a VM with several MMUs: of those that share a table, mostly the one in use among them, and of the
        one whose vCPU runs where one of this stage 2 does."""
        self._in_use, self._running = in_use, running
        found = [self._sharer(shown) for shown in sharing]
        for one in found:
            if one.is_in_use:
                self._flushes = one.flushes
        self._sharing = () if [one.number for one in found] == [in_use] else tuple(found)

    def _sharer(self, shown: Shown) -> Sharer:
        running, flushes = self._running, NO_FLUSHES
        assert running is not None
        if self._calls is not None:
            several = Several(shown, running)
            flushes = self._calls.of(self._machine, self._fixed, self._cpu, shown.root, several)
        return Sharer(shown.number, shown.number == self._in_use, flushes)

    def call_for(self, shown: Shown, kind: int) -> None:
        """A TLB function that takes no address is called for that MMU alone, in a VM with several."""
        in_use = self._flushes
        try:
            self._call_sharer(self._sharer(shown), kind, 0, 0)
        finally:
            self._flushes = in_use

    def _call_sharer(self, one: Sharer, kind: int, a: int, b: int) -> None:
        if not one.is_in_use:
            self.events.extend((FOR_MMU, one.number, 0))
        self._flushes = one.flushes
        self.call(kind, a, b)

    def spend(self) -> None:
        """Count one event, which is not recorded when the budget is spent."""
        if not self.left:
            raise BudgetSpent
        self.left -= 1

    # What others do to the table.

    def plant(self, pa: int, level: int, new: int) -> int:
        """Write the entry at `pa`. A table must have no address: it gets a fresh page's, for any other could make the
        kernel read what is no table. -EFAULT, -ENOMEM."""
        if is_table(new, level):
            if self.address.to_phys(new):
                return -errno.EFAULT
            self.spend()
            child = self.pool.zalloc_page(None)
            self.events.extend((ALLOC, NO_PAGE if child is None else child, 0))
            if child is None:
                return -errno.ENOMEM
            new |= self.address.to_pte(child)
        self.write(pa, new)
        return 0

    def write(self, pa: int, new: int) -> None:
        """Write the entry at `pa`, and keep the references of its page by the rule for counted entries."""
        self.spend()
        self.events.extend((PLANTED, pa, new))
        entries = self.pool.table(pa)
        index = pa // ENTRY_SIZE % len(entries)
        counted = is_counted(entries[index])
        if counted and not is_counted(new):
            self.pool.put_page(pa)
        elif not counted and is_counted(new):
            self.pool.get_page(pa)
        entries[index] = new

    def _lose_race(self, pa: int, level: int) -> None:
        """A compare-and-exchange of the entry is about to be: in the n-th, somebody else is faster."""
        nth, pte = self.race
        if nth > 1:
            self.race = nth - 1, pte
            return
        self.race = 0, 0
        self.plant(pa, level, pte)

    # Complaints.

    def warn(self, where: str) -> None:
        self._complain(WARN, zlib.crc32(where.encode()), 0, f"WARN at {where}")

    def _misuse(self, what: str, pa: int) -> None:
        self._complain(POOL_MISUSE, _MISUSE_CODES[what], pa, f"pool {what}")

    def might_sleep(self) -> None:
        """Something may sleep here."""
        if self.holds_lock:
            self._break_rule("sleeps-in-atomic")

    def end_op(self) -> None:
        """The op returns, and should hold no lock."""
        if self.holds_lock:
            self._break_rule("left-held")
            self.holds_lock = False

    def _break_rule(self, rule: str) -> None:
        self._complain(LOCKING, _LOCKING_CODES[rule], 0, f"locking: {rule}")

    def _complain(self, kind: int, code: int, value: int, what: str) -> None:
        if len(self.complaints) < 3 * MAX_COMPLAINTS:
            self.complaints += (kind, code, value)
            if kind == WARN:
                self.events.extend((WARNED, code, 0))
        self.notes.append(Note(self.record, what))

    # Memory.

    def zalloc_page(self, cache: Memcache | None) -> int | None:
        self.spend()
        pa = None
        if not self._fails():
            pa = self.pool.zalloc_page(cache)
            if pa is None and self.allocates_when_empty and cache is not None:
                self.warn("kvm_mmu_memory_cache_alloc")
                pa = self.pool.zalloc_page(None)
                self.allocated_when_empty += pa is not None
        self.events.extend((ALLOC, NO_PAGE if pa is None else pa, 0))
        return pa

    def zalloc_pages_exact(self, size: int) -> int | None:
        self.spend()
        pa = None if self._fails() else self.pool.zalloc_pages_exact(size)
        self.events.extend((ALLOC_EXACT, NO_PAGE if pa is None else pa, size))
        return pa

    def allocation_fails(self) -> bool:
        """Whether memory that is not of the pool cannot be had."""
        self.spend()
        return self._fails()

    def _fails(self) -> bool:
        """Whether this allocation is the one that the program lets fail."""
        if not self.allocs_to_failure:
            return False
        self.allocs_to_failure -= 1
        return not self.allocs_to_failure

    def free_pages_exact(self, pa: int | None, size: int) -> None:
        self.spend()
        self.events.extend((FREE_EXACT, NO_PAGE if pa is None else pa, size))
        self.pool.free_pages_exact(pa, size)

    def free_unlinked_table(self, pa: int, level: int) -> None:
        self.spend()
        self.events.extend((FREE_UNLINKED, pa, level & U64_MAX))
        assert self.free_table is not None, "only a page table asks for it"
        self.free_table(pa, level)

    def get_page(self, pa: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self.events.extend((GET, pa, 0))
        self.pool.get_page(pa)

    def put_page(self, pa: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self.events.extend((PUT, pa, 0))
        self.pool.put_page(pa)

    def page_count(self, pa: int) -> int:
        self.follow(pa)
        return self.pool.page_count(pa)

    def follow(self, pa: int) -> None:
        if not self._uncounted_left:
            raise Endless
        self._uncounted_left -= 1

    @property
    def dcache_clean_inval_poc(self) -> CacheMaintenance | None:
        return self._dcache if self._cmos in _WITH_DCACHE else None

    @property
    def icache_inval_pou(self) -> CacheMaintenance | None:
        return self._icache if self._cmos in _WITH_ICACHE else None

    def _dcache(self, pa: int, size: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self.events.extend((DCACHE, pa, size))

    def _icache(self, pa: int, size: int) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self.events.extend((ICACHE, pa, size))

    # Stores.

    def pte_store(self, pa: int, level: int, old: int, new: int, kind: str) -> None:
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self.events.extend((STORES[kind], pa, new))
        self.levels |= 1 << level + 1
        if level < 3:
            if kind == "release":
                self._count_shape(pa, level, old, new)
            else:
                self._broken = pa, old
        if self.race[0] and kind == "cmpxchg":
            self._lose_race(pa, level)

    def fill(self, run: LeafRun) -> int:
        """As many of the run as the budget allows for, with the events of each. A fresh page may hold hundreds. None
        while a race may come in between."""
        lock = [] if run.lock is None else [STORES[run.lock], 0, LOCKED]
        maintenance = [kind for kind, wanted in ((DCACHE, run.dcache), (ICACHE, run.icache)) if wanted]
        spent_each = 2 + bool(lock) + len(maintenance)
        count = min(run.length, self.left // spent_each)
        if not count or (self.race[0] and run.lock == "cmpxchg") or not self.pool.page_count(run.pa):
            return 0
        self.left -= count * spent_each
        self.pool.get_page(run.pa, count)
        leaf = lock.copy()
        for kind in maintenance:
            leaf += (kind, 0, run.size)
        leaf += (GET, 0, 0, STORES["release"], 0, 0) if run.counts_first else (STORES["release"], 0, 0, GET, 0, 0)
        events = array("Q", leaf) * count
        where = array("Q", range(run.pa, run.pa + count * ENTRY_SIZE, ENTRY_SIZE))
        stride = len(leaf)
        if lock:
            events[1::stride] = where
        events[stride - 5 :: stride] = events[stride - 2 :: stride] = where
        events[stride - (1 if run.counts_first else 4) :: stride] = run.leaves(count)
        for index in range(len(maintenance)):
            at = len(lock) + EVENT_WORDS * index + 1
            events[at::stride] = array("Q", range(run.phys, run.phys + count * run.size, run.size))
        self.event_pieces += (array("Q", self.events), events)
        self.piece_kinds.update(self.events[::EVENT_WORDS], leaf[::EVENT_WORDS])
        self.events.clear()
        self.levels |= 1 << run.level + 1
        if run.level < LAST_LEVEL:
            self.shape.blocks += count
        return count

    def _count_shape(self, pa: int, level: int, old: int, new: int) -> None:
        broken_at, broken = self._broken
        replaced = broken if broken_at == pa else old
        if is_table(new, level):
            self.shape.tables[level + 1] += 1
            self.shape.splits += is_valid(replaced) and not is_table(replaced, level)
        elif is_valid(new):
            self.shape.blocks += 1
            self.shape.merges += is_table(replaced, level)

    # The TLB.

    def tlbi_vmid(self) -> None:
        self.call(TLBI_VMID, 0, 0)

    def tlbi_vmid_ipa(self, ipa: int, level: int) -> None:
        self.call(TLBI_VMID_IPA, ipa, level)

    def tlbi_vmid_ipa_nsh(self, ipa: int, level: int) -> None:
        self.call(TLBI_VMID_IPA_NSH, ipa, level)

    def tlbi_vmid_range(self, ipa: int, pages: int) -> None:
        self.call(TLBI_VMID_RANGE, ipa, pages)

    def call(self, kind: int, a: int, b: int) -> None:
        """The TLB function whose calls are events of `kind` is called, and does what it does: for each MMU that shares
        the table, where the table has changed."""
        if self._sharing and kind in TLBI_KINDS:
            self._call_for_each(kind, a, b)
            return
        if not self.left:
            raise BudgetSpent
        self.left -= 1
        self.events.extend((kind, a, b & U64_MAX))
        if self._calls is None:
            return
        flushes = self._flushes
        pieces = flushes.kept.get((kind, a, b))
        if pieces is None:
            pieces = flushes.keep(kind, a, b)
            if (kind, b) not in flushes.told:
                flushes.told.add((kind, b))
                events = [kind, a, b & U64_MAX, *chain.from_iterable(piece.words for piece in pieces)]
                self.fresh_calls.append((self.record, events, flushes.whose))
        for words, counted, where in pieces:
            if counted > self.left:
                self._cut(words)
            self.left -= counted
            self.events.extend(words)
            if where is not None:
                self.warn(where)

    def _call_for_each(self, kind: int, a: int, b: int) -> None:
        """The same for each MMU that shares the table, by number."""
        sharing, in_use = self._sharing, self._flushes
        self._sharing = ()
        try:
            for one in sharing:
                self._call_sharer(one, kind, a, b)
        finally:
            self._sharing, self._flushes = sharing, in_use

    def _cut(self, words: Sequence[int]) -> NoReturn:
        """What of these events there is when the budget is spent among them."""
        for at in range(0, len(words), EVENT_WORDS):
            if words[at] & ~IN_CALL in COUNTED:
                self.spend()
            self.events.extend(words[at : at + EVENT_WORDS])
        raise AssertionError("the budget sufficed")

    def dsb(self, domain: str) -> None:
        self.spend()
        self.events.extend((DSB, DSB_DOMAINS[domain], 0))

    def rcu_read_lock(self) -> None:
        self.events.extend((READ_LOCK, 0, 0))

    def rcu_read_unlock(self) -> None:
        self.events.extend((READ_UNLOCK, 0, 0))

    def instruction(self, instruction: Instruction) -> None:
        event = event_of(instruction)
        assert event[0] in COUNTED, "hyp's own invalidations write no register"
        self.spend()
        self.events.extend(event)
