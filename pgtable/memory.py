"""The memory that tables live in: what a page table needs of it, and a pool that provides it."""

from array import array
from collections.abc import Callable
from typing import Final, Protocol, TypeAlias

from pgtable.errnos import ENOMEM
from pgtable.geometry import ENTRY_SIZE

POISON: Final = 0x5B
"""Every byte of a free page. Read as an entry it points to a table far outside any pool."""

_MADE_TOGETHER: Final = 32
"""Pages that a pool makes at once, where the next one is needed."""

NO_PAGE: Final = (1 << 64) - 1
"""What `put_page` is given for C's NULL."""

Complain = Callable[[str, int], None]


CacheMaintenance = Callable[[int, int], None]
"""Called with a physical address and a size in bytes."""


class WildAccess(Exception):
    """A pointer led outside the pool. `pa` is where to."""

    def __init__(self, pa: int) -> None:
        super().__init__(f"access to {pa:#x}, outside the page pool")
        self.pa = pa


Entries: TypeAlias = "memoryview[int]"
"""The entries of one table page, each a u64. A slice is a view of them, not a copy."""


class MmOps(Protocol):
    """Memory management as the page table asks for it (struct kvm_pgtable_mm_ops).

    Addresses are physical, sizes in bytes. Allocations come zeroed and with one reference; None
    means there is no memory. get_page, put_page and page_count take any address in the page.
    `table` is not an act, only the way to read and write entries.
    """

    def zalloc_page(self, cache: "Memcache | None") -> int | None:
        """A page for one table: from the cache, or without one from wherever pages come from."""

    def zalloc_pages_exact(self, size: int) -> int | None:
        """Contiguous pages for the root, aligned to their size, with a reference each."""

    def free_pages_exact(self, pa: int | None, size: int) -> None:
        """Give the root's pages back. None stands for C's NULL, which `Stage2.destroy` passes when done twice."""

    def free_unlinked_table(self, pa: int, level: int) -> None:
        """Free a table that an entry of this level pointed to, and all below it: by `Stage2.free_unlinked`, perhaps
        later, when nobody can be walking it any more."""

    def get_page(self, pa: int) -> None:
        """Take a reference."""

    def put_page(self, pa: int) -> None:
        """Drop a reference; the last one frees the page."""

    def page_count(self, pa: int) -> int:
        """The references to a page."""

    @property
    def dcache_clean_inval_poc(self) -> "CacheMaintenance | None":
        """Clean and invalidate the data cache to the Point of Coherency; None where there is no need to."""

    @property
    def icache_inval_pou(self) -> "CacheMaintenance | None":
        """Invalidate the instruction cache to the Point of Unification; None where there is no need to."""

    def follow(self, pa: int) -> None:
        """The kernel converts the address in an entry (phys_to_virt). Nothing happens, but it is announced: a walk
        over tables without events would otherwise be work that nobody can bound."""

    def table(self, pa: int) -> Entries:
        """The entries of the table page that contains pa, in place. May raise `WildAccess`."""


class PagePool:
    """A run of reference-counted pages, implementing `MmOps`.

    A page is free while its count is 0. Which page an allocation gets is fixed, so that two
    implementations agree on addresses: one page, the lowest free; several, the lowest free run
    aligned (from the pool's base) to its length rounded up to a power of two.

    Misuse never raises: complain(what, pa) is called, what being "poison" (somebody wrote to a free
    page), "bad-get", "bad-put", "bad-count" or "bad-free", and the call has no other effect.

    base: physical address of the first page, page-aligned; pages: how many.
    Raises ValueError for anything else.
    """

    __slots__ = (
        "_fill",
        "_hint",
        "_page_size",
        "_pages",
        "_poison",
        "_shift",
        "_strays",
        "_views",
        "_zeros",
        "allocs",
        "base",
        "complain",
        "free_unlinked",
        "frees",
        "high_water",
        "owner",
        "owners",
        "refcounts",
    )

    def __init__(self, base: int, pages: int, complain: Complain | None = None, page_size: int = 4096) -> None:
        if page_size < ENTRY_SIZE or page_size & (page_size - 1):
            raise ValueError(f"page_size must be a power of two, not {page_size}")
        if base < 0 or base % page_size or pages < 1:
            raise ValueError(f"no pool of {pages} pages at {base:#x}")
        self.base = base
        self.free_unlinked: Callable[[int, int], None] | None = None
        """What `free_unlinked_table` calls; a Stage2 on this pool sets it to its own."""
        self.allocs = 0
        """Pages allocated since the last reset; frees likewise."""
        self.frees = 0
        self.refcounts = [0] * pages
        self.owner = 0
        """What pages are allocated for from now on: any number, as that of a table."""
        self.owners = [0] * pages
        """What each page was allocated for last."""
        self.high_water = 0
        """One more than the highest page index ever allocated."""
        self.complain = complain
        """What misuse is reported to."""
        self._pages = pages
        self._page_size = page_size
        self._shift = page_size.bit_length() - 1
        self._fill = bytes([POISON]) * page_size
        self._poison = memoryview(array("Q", self._fill))
        self._zeros = memoryview(array("Q", bytes(page_size)))
        # Of the pages that were reached so far, and some beyond: a pool may be much larger than what is used of it.
        self._views: list[Entries] = []
        # Every page below the hint is in use.
        self._hint = 0
        # Free pages that somebody reached through a garbage pointer, and may have written to.
        self._strays: set[int] = set()

    def zalloc_page(self, cache: "Memcache | None") -> int | None:
        """The page on top of the cache; without a cache, the lowest free page of the pool."""
        if cache is not None:
            return cache.pages.pop() if cache.pages else None
        try:
            index = self.refcounts.index(0, self._hint)
        except ValueError:
            return None
        self._hint = index + 1
        self._take(index)
        return self.base + (index << self._shift)

    def zalloc_pages_exact(self, size: int) -> int | None:
        """Contiguous pages, each with a reference of its own; size is rounded up to pages."""
        count = self._pages_in(size)
        if count < 1:
            return None
        align = 1 << (count - 1).bit_length()
        for start in range(self._hint & -align, self._pages - count + 1, align):
            if not any(self.refcounts[start : start + count]):
                for index in range(start, start + count):
                    self._take(index)
                return self.base + (start << self._shift)
        return None

    def free_pages_exact(self, pa: int | None, size: int) -> None:
        """Drop one reference of each page of the range. None stands for C's NULL."""
        if pa is None:
            self._report("bad-free", 0)
            return
        for page_pa in range(pa & -self._page_size, pa + size, self._page_size):
            self._drop(page_pa, "bad-free")

    def free_unlinked_table(self, pa: int, level: int) -> None:
        """Give up a table that an entry of this level used to point to, and all below it.

        Raises ValueError if nobody has set `free_unlinked`.
        """
        if self.free_unlinked is None:
            raise ValueError("free_unlinked is not set: no page table uses this pool")
        self.free_unlinked(pa, level)

    def get_page(self, pa: int, times: int = 1) -> None:
        """Take a reference, or several."""
        index = (pa - self.base) >> self._shift
        if 0 <= index < self._pages and self.refcounts[index]:
            self.refcounts[index] += times
        else:
            self._report("bad-get", pa)

    def put_page(self, pa: int) -> None:
        """Drop a reference; the last one frees the page."""
        self._drop(pa, "bad-put")

    def page_count(self, pa: int) -> int:
        """The references to a page; 0 for a free one."""
        index = (pa - self.base) >> self._shift
        if 0 <= index < self._pages:
            return self.refcounts[index]
        self._report("bad-count", pa)
        return 0

    def follow(self, pa: int) -> None:
        """Nothing: addresses are physical throughout."""

    def dcache_clean_inval_poc(self, pa: int, size: int) -> None:
        """Nothing: this memory has no caches."""

    def icache_inval_pou(self, pa: int, size: int) -> None:
        """Nothing: this memory has no caches."""

    def table(self, pa: int) -> Entries:
        """The entries (u64) of the page that contains pa, in place.

        Raises WildAccess outside the pool. Free pages are served: following a stale pointer is
        something callers must be able to do.
        """
        index = (pa - self.base) >> self._shift
        if not 0 <= index < self._pages:
            raise WildAccess(pa)
        if not self.refcounts[index]:
            self._strays.add(index)
            if index >= len(self._views):
                self._make(index)
        return self._views[index]

    def pages_in_use(self) -> int:
        """Pages with at least one reference."""
        return self.allocs - self.frees

    def check_poison(self) -> None:
        """Complain about every free page whose filling is damaged, ascending, and mend it."""
        # Nobody can write to a page that has neither been allocated nor been reached since the last reset.
        for index in sorted(self._strays.union(range(self.high_water))):
            if not self.refcounts[index] and not self._is_filled(index):
                self._report("poison", self.base + (index << self._shift))
                self._views[index][:] = self._poison

    def reset(self) -> None:
        """Back to the initial state, at the cost of the pages that were in use, not of the pool."""
        self._strays.update(range(self.high_water))
        for index in self._strays:
            self._views[index][:] = self._poison
        self._strays.clear()
        self.refcounts[: self.high_water] = [0] * self.high_water
        self.allocs = self.frees = self.owner = self.high_water = self._hint = 0

    def _make(self, index: int) -> None:
        """Make the pages up to that one, and some more."""
        made, words = len(self._views), self._page_size // ENTRY_SIZE
        more = min(max(index + 1 - made, _MADE_TOGETHER), self._pages - made)
        memory = memoryview(array("Q", self._fill * more))
        self._views += [memory[i * words : (i + 1) * words] for i in range(more)]

    def _take(self, index: int) -> None:
        if index >= len(self._views):
            self._make(index)
        if not self._is_filled(index):
            self._report("poison", self.base + (index << self._shift))
        self._views[index][:] = self._zeros
        self.refcounts[index] = 1
        self.owners[index] = self.owner
        self.allocs += 1
        if index >= self.high_water:
            self.high_water = index + 1

    def _drop(self, pa: int, complaint: str) -> None:
        index = (pa - self.base) >> self._shift
        if not (0 <= index < self._pages and self.refcounts[index]):
            self._report(complaint, pa)
            return
        self.refcounts[index] -= 1
        if not self.refcounts[index]:
            self._views[index][:] = self._poison
            self.frees += 1
            self._hint = min(self._hint, index)

    def _is_filled(self, index: int) -> bool:
        # Comparing bytes is one memcmp; comparing views goes entry by entry.
        return self._views[index].tobytes() == self._fill

    def _pages_in(self, size: int) -> int:
        return (size + self._page_size - 1) >> self._shift

    def _report(self, what: str, pa: int) -> None:
        if self.complain is not None:
            self.complain(what, pa)


class Memcache:
    """Pages set aside for one operation, so that it need not allocate under its lock.

    struct kvm_mmu_memory_cache in miniature. When it must be filled is discussed in the thread
    "KVM: arm64: Distinguish cases of memcache allocations completely", 2021-03.
    """

    __slots__ = ("capacity", "pages")

    CAPACITY: Final = 40

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        """Pages it holds at most."""
        self.pages: list[int] = []
        """Physical addresses; the last is the next to go."""

    def topup(self, pool: PagePool, n: int) -> int:
        """Take pages from the pool until the cache holds at least n, 0..capacity.

        0, or -ENOMEM when the pool ran out; what was taken until then stays. Raises ValueError for
        an n out of range.
        """
        if not 0 <= n <= self.capacity:
            raise ValueError(f"a memcache holds 0..{self.capacity} pages, not {n}")
        while len(self.pages) < n:
            pa = pool.zalloc_page(None)
            if pa is None:
                return -ENOMEM
            self.pages.append(pa)
        return 0

    def drain(self, pool: PagePool) -> None:
        """Give all its pages back, the last first."""
        while self.pages:
            pool.put_page(self.pages.pop())
