"""A page table in a world that writes everything down; shared by the tests of pgtable."""

from collections.abc import Callable

import pytest

from pgtable import (
    GRANULE_4K,
    LINUX_6_12,
    AddressFormat,
    Features,
    Geometry,
    LinuxVersion,
    Memcache,
    PagePool,
    Stage2,
    get_vtcr,
)
from pgtable.pte import is_table

BASE = 0x4400_0000


class BudgetReached(Exception):
    pass


class World:
    """Hooks and MmOps around a PagePool: logs calls, and stops before call number `budget`."""

    BudgetReached = BudgetReached

    def __init__(
        self,
        ia_bits: int = 40,
        features: Features | None = None,
        pages: int = 64,
        geometry: Geometry = GRANULE_4K,
        base: int = BASE,
        version: LinuxVersion = LINUX_6_12,
    ) -> None:
        self.features = features or Features()
        self.geometry = geometry
        self.address = AddressFormat(geometry.page_shift, self.features.lpa2)
        self.complaints: list[tuple[str, int]] = []
        self.log: list[tuple] = []
        self.budget = 1 << 62
        self.readers = 0
        self.on_store: Callable[[int], None] | None = None
        self.pool = PagePool(base, pages, lambda what, pa: self.complaints.append((what, pa)), geometry.page_size)
        self.cache = Memcache()
        vtcr = get_vtcr(ia_bits, self.features, geometry)
        self.s2 = Stage2(vtcr, self, self, self.features, version, geometry)
        self.pool.free_unlinked = self.s2.free_unlinked

    @classmethod
    def ready(cls, *args, cached: int = 8, **kwargs) -> "World":
        world = cls(*args, **kwargs)
        assert world.s2.init() == 0
        assert world.cache.topup(world.pool, cached) == 0
        world.log.clear()
        return world

    def rcu_read_lock(self) -> None:
        """Not noted, nor its end: that it is an event, and of shared walks alone, the tests of events show."""
        self.readers += 1

    def rcu_read_unlock(self) -> None:
        self.readers -= 1
        assert self.readers >= 0

    def _note(self, *event) -> None:
        if len(self.log) >= self.budget:
            raise BudgetReached
        self.log.append(event)

    def kinds(self) -> list[str]:
        return [event[0] for event in self.log]

    def took(self) -> list[tuple]:
        """The log so far, which starts afresh."""
        log, self.log = self.log, []
        return log

    # Hooks
    def pte_store(self, pa, level, old, new, kind):
        self._note(kind, pa, level, old, new)
        if self.on_store:
            self.on_store(pa)

    def fill(self, run):
        return 0

    def tlbi_vmid(self):
        self._note("tlbi_vmid")

    def tlbi_vmid_ipa(self, ipa, level):
        self._note("tlbi_ipa", ipa, level)

    def tlbi_vmid_ipa_nsh(self, ipa, level):
        self._note("tlbi_ipa_nsh", ipa, level)

    def tlbi_vmid_range(self, ipa, pages):
        self._note("tlbi_range", ipa, pages)

    def dsb(self, domain):
        self._note("dsb", domain)

    def instruction(self, instruction):
        name, what, operand = instruction
        self._note(*{"dsb": (name, what), "isb": (name,), "tlbi": (name, what, operand)}[name])

    def warn(self, where):
        self._note("warn", where)

    # MmOps
    def zalloc_page(self, cache):
        self._note("zalloc_page")
        return self.pool.zalloc_page(cache)

    def zalloc_pages_exact(self, size):
        self._note("zalloc_pages_exact", size)
        return self.pool.zalloc_pages_exact(size)

    def free_pages_exact(self, pa, size):
        self._note("free_pages_exact", pa, size)
        self.pool.free_pages_exact(pa, size)

    def free_unlinked_table(self, pa, level):
        self._note("free_unlinked_table", pa, level)
        self.pool.free_unlinked_table(pa, level)

    def get_page(self, pa):
        self._note("get_page", pa)
        self.pool.get_page(pa)

    def put_page(self, pa):
        self._note("put_page", pa)
        self.pool.put_page(pa)

    def page_count(self, pa):
        self._note("page_count", pa)
        return self.pool.page_count(pa)

    def dcache_clean_inval_poc(self, pa, size):
        self._note("dcache", pa, size)

    def icache_inval_pou(self, pa, size):
        self._note("icache", pa, size)

    def follow(self, pa):
        """Not noted: that it is counted where the kernel does it, the budgets' tests show."""

    def table(self, pa):
        return self.pool.table(pa)

    # Checks
    def tables(self) -> list[tuple[int, int]]:
        """Every table page of the tree, root pages first: (pa, level)."""
        found = [(self.s2.root + i * self.geometry.page_size, self.s2.start_level) for i in range(self.s2.root_pages)]
        for pa, level in found:
            found += [(self.address.to_phys(e), level + 1) for e in self.table(pa) if is_table(e, level)]
        return found

    def check_refcounts(self) -> None:
        """One reference per table page, one more per entry in use; nothing leaked or damaged."""
        tables = self.tables()
        for pa, _ in tables:
            assert self.pool.page_count(pa) == 1 + sum(map(bool, self.table(pa))), hex(pa)
        assert self.pool.pages_in_use() == len(tables) + len(self.cache.pages)
        self.pool.check_poison()
        assert self.complaints == []


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    """World.ready(ia_bits=40, features=None, pages=64, geometry=GRANULE_4K, base=BASE, cached=8): initialised, with a
    memcache."""
    return World.ready


@pytest.fixture(scope="session")
def new_world() -> type[World]:
    """The class: World(ia_bits=40, features=None, pages=64), before init."""
    return World
