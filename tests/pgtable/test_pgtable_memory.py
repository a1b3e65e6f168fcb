"""The pool's rules, which another implementation must be able to follow to the letter."""

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgtable import Memcache, PagePool, WildAccess

BASE, PAGE = 0x4400_0000, 4096
POISON = 0x5B5B_5B5B_5B5B_5B5B


def make(pages=8):
    complaints = []
    return PagePool(BASE, pages, lambda what, pa: complaints.append((what, pa))), complaints


def page(index):
    return BASE + index * PAGE


def test_single_pages_come_lowest_first():
    pool, _ = make(4)
    assert [pool.zalloc_page(None) for _ in range(5)] == [page(0), page(1), page(2), page(3), None]
    pool.put_page(page(2))
    pool.put_page(page(1))
    assert [pool.zalloc_page(None), pool.zalloc_page(None)] == [page(1), page(2)]
    assert (pool.allocs, pool.frees, pool.pages_in_use(), pool.high_water) == (6, 2, 4, 4)


def test_exact_allocations_are_aligned_to_the_next_power_of_two():
    pool, _ = make(16)
    assert pool.zalloc_page(None) == page(0)
    assert pool.zalloc_pages_exact(2 * PAGE + 1) == page(4)
    assert pool.refcounts[:8] == [1, 0, 0, 0, 1, 1, 1, 0]
    assert pool.zalloc_pages_exact(2 * PAGE) == page(2)
    # A run of five is aligned to eight, and may end before the next eight do.
    assert pool.zalloc_pages_exact(5 * PAGE) == page(8)
    assert pool.zalloc_pages_exact(3 * PAGE) is None
    assert pool.zalloc_pages_exact(1) == page(1)
    assert pool.zalloc_pages_exact(0) is None
    assert pool.high_water == 13


def test_exact_allocation_at_the_end_of_the_pool():
    pool, _ = make(7)
    assert pool.zalloc_pages_exact(4 * PAGE) == page(0)
    assert pool.zalloc_pages_exact(4 * PAGE) is None
    assert pool.zalloc_pages_exact(3 * PAGE) == page(4)


def test_pages_are_zeroed_and_poisoned():
    pool, complaints = make()
    view = pool.table(page(0))
    assert view.format == "Q"
    assert list(view) == [POISON] * 512
    assert pool.zalloc_page(None) == page(0)
    assert pool.table(page(0) + 8) is view
    assert zlib.crc32(view) == zlib.crc32(bytes(PAGE))
    view[7] = 42
    pool.put_page(page(0) + 56)
    assert list(view) == [POISON] * 512
    assert complaints == []


def test_a_write_to_a_free_page_is_noticed():
    pool, complaints = make()
    pool.zalloc_pages_exact(3 * PAGE)
    pool.free_pages_exact(page(0), 3 * PAGE)
    pool.table(page(2))[511] = 0
    pool.table(page(1))[0] ^= 1
    pool.table(page(5))[0] = 0
    pool.check_poison()
    assert complaints == [("poison", page(1)), ("poison", page(2)), ("poison", page(5))]
    complaints.clear()
    pool.check_poison()
    assert complaints == [], "what was found is mended"
    pool.table(page(1))[0] ^= 1
    assert [pool.zalloc_page(None), pool.zalloc_page(None)] == [page(0), page(1)]
    assert complaints == [("poison", page(1))]
    assert not any(pool.table(page(1)))


def test_references():
    pool, complaints = make()
    pa = pool.zalloc_page(None)
    pool.get_page(pa + 0x800)
    assert pool.page_count(pa + 0xFFF) == 2
    pool.put_page(pa)
    assert (pool.page_count(pa), pool.frees) == (1, 0)
    pool.put_page(pa)
    assert (pool.page_count(pa), pool.frees) == (0, 1)
    assert complaints == []


def test_misuse_is_reported_and_has_no_effect():
    pool, complaints = make(4)
    pa = pool.zalloc_page(None)
    outside = page(4)
    pool.get_page(page(1) + 8)
    pool.get_page(outside)
    pool.put_page(page(1) + 16)
    pool.put_page(BASE - 8)
    assert (pool.page_count(outside), pool.page_count(page(1))) == (0, 0)
    assert complaints == [
        ("bad-get", page(1) + 8),
        ("bad-get", outside),
        ("bad-put", page(1) + 16),
        ("bad-put", BASE - 8),
        ("bad-count", outside),
    ]
    assert pool.refcounts == [1, 0, 0, 0]
    complaints.clear()
    pool.free_pages_exact(None, 2 * PAGE)
    pool.get_page(pa)
    pool.zalloc_pages_exact(2 * PAGE)
    pool.free_pages_exact(pa, 5 * PAGE - 1)
    assert complaints == [("bad-free", 0), ("bad-free", page(1)), ("bad-free", page(4))]
    assert pool.refcounts == [1, 0, 0, 0]


def test_a_pool_at_address_0():
    pool = PagePool(0, 4)
    assert pool.zalloc_pages_exact(2 * PAGE) == 0
    pool.free_pages_exact(0, PAGE)
    assert pool.refcounts == [0, 1, 0, 0]
    assert pool.zalloc_page(None) == 0
    cache = Memcache()
    assert cache.topup(pool, 2) == 0
    assert pool.zalloc_page(cache) == 3 * PAGE


def test_wild_access():
    pool, _ = make(4)
    for pa in (BASE - 1, page(4), 0x5B5B_5B5B_5000):
        with pytest.raises(WildAccess) as caught:
            pool.table(pa)
        assert caught.value.pa == pa


def test_reset_brings_back_the_initial_state():
    pool, complaints = make()
    pool.zalloc_pages_exact(4 * PAGE)
    pool.table(page(1))[0] = 1
    pool.free_pages_exact(page(2), PAGE)
    pool.table(page(2))[0] = 1
    pool.table(page(6))[3] = 1  # above everything ever allocated
    pool.reset()
    fresh, _ = make()
    assert all(pool.table(page(i)) == fresh.table(page(i)) for i in range(8))
    assert (pool.refcounts, pool.allocs, pool.frees, pool.high_water) == ([0] * 8, 0, 0, 0)
    assert [pool.zalloc_page(None) for _ in range(8)] == [page(i) for i in range(8)]
    assert complaints == []


def test_memcache():
    pool, _ = make(4)
    cache = Memcache()
    assert pool.zalloc_page(cache) is None
    assert cache.topup(pool, 3) == 0
    assert cache.pages == [page(0), page(1), page(2)]
    assert cache.topup(pool, 2) == 0
    assert pool.zalloc_page(cache) == page(2)
    assert pool.refcounts == [1, 1, 1, 0]
    # What could be taken stays.
    assert cache.topup(pool, 5) == -12
    assert cache.pages == [page(0), page(1), page(3)]
    for n in (-1, 41):
        with pytest.raises(ValueError, match="memcache"):
            cache.topup(pool, n)


@pytest.mark.parametrize("args", [(-PAGE, 4), (BASE + 8, 4), (BASE, 0), (BASE, 4, None, 4095)])
def test_impossible_pools(args):
    with pytest.raises(ValueError, match=r"page_size|no pool"):
        PagePool(*args)


def test_unlinked_tables_need_an_owner():
    with pytest.raises(ValueError, match="free_unlinked"):
        make()[0].free_unlinked_table(BASE, 2)


@given(st.lists(st.tuples(st.sampled_from("sep"), st.integers(1, 9)), max_size=60))
def test_pool_against_the_rule_written_naively(steps):
    pool, complaints = make(24)
    used = [False] * 24
    for what, n in steps:
        if what == "p":
            held = [i for i in range(24) if used[i]]
            if held:
                index = held[n % len(held)]
                used[index] = False
                pool.put_page(page(index))
            continue
        count = n if what == "e" else 1
        align = next(a for a in (1, 2, 4, 8, 16) if a >= count)
        starts = [s for s in range(0, 25 - count, align) if not any(used[s : s + count])]
        got = pool.zalloc_pages_exact(n * PAGE) if what == "e" else pool.zalloc_page(None)
        assert got == (page(starts[0]) if starts else None)
        if starts:
            used[starts[0] : starts[0] + count] = [True] * count
    assert pool.refcounts == [int(u) for u in used]
    assert pool.pages_in_use() == sum(used)
    assert complaints == []


def test_pages_are_made_when_they_are_needed():
    pool, complaints = make(600)
    first = pool.zalloc_page(None)
    assert len(pool._views) < 100
    pool.table(page(599))[0] = 1
    pool.table(page(1))[0] = 1
    assert len(pool._views) == 600
    pool.check_poison()
    assert complaints == [("poison", page(1)), ("poison", page(599))]
    assert not any(pool.table(first))
    pool.reset()
    assert [pool.zalloc_page(None) for _ in range(601)] == [*map(page, range(600)), None]
    assert len(complaints) == 2


def test_a_memcache_of_another_capacity():
    pool, _ = make(600)
    cache = Memcache(513)
    assert cache.topup(pool, 513) == 0
    assert len(cache.pages) == 513
    with pytest.raises(ValueError, match=r"holds 0\.\.513 pages, not 514"):
        cache.topup(pool, 514)


def test_pages_know_what_they_were_allocated_for():
    pool, _ = make()
    pool.zalloc_page(None)
    pool.owner = 3
    pool.zalloc_pages_exact(2 * PAGE)
    pool.owner = 1
    pool.put_page(page(0))
    pool.zalloc_page(None)
    assert pool.owners[:5] == [1, 0, 3, 3, 0]
    pool.reset()
    pool.zalloc_page(None)
    assert pool.owners[0] == pool.owner == 0
