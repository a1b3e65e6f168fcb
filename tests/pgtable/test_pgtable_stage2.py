"""What the stage-2 operations do to entries, references and the log of acts."""

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pgtable
from pgtable import (
    TLBI_TTL_UNKNOWN,
    VERSIONS,
    Features,
    PagePool,
    Prot,
    WalkFlags,
)
from pgtable.errnos import EAGAIN
from pgtable.pte import FORMAT_4K, LOCKED, leaf_attrs, leaf_pte, table_pte

PAGE, BLOCK, GIB = 1 << 12, 1 << 21, 1 << 30
PA = 0x8000_0000
RW = Prot.R | Prot.W
RWX = RW | Prot.X
NO_FWB = Features(fwb=False)
NO_RANGES = Features(tlb_range=False)
TOP = 1 << 64


def test_the_example_of_the_package_works():
    result = doctest.testmod(pgtable)
    assert (result.attempted > 3, result.failed) == (True, 0)


def test_init(new_world):
    world = new_world(40)
    assert world.s2.init() == 0
    assert world.log == [("zalloc_pages_exact", 2 * PAGE), ("dsb", "ishst")]
    assert (world.s2.ia_bits, world.s2.start_level, world.s2.root_pages) == (40, 1, 2)
    first = world.s2.root
    # A second init forgets the first root.
    assert world.s2.init() == 0
    assert world.s2.root == first + 2 * PAGE
    assert world.pool.pages_in_use() == 4


def test_init_without_memory(new_world):
    world = new_world(43, pages=15)
    assert world.s2.init() == -12
    assert world.s2.root is None
    assert world.kinds() == ["zalloc_pages_exact"]


def test_map_one_page(make_world):
    world = make_world(39)
    root = world.s2.root
    t3, t2 = world.cache.pages[-2:]
    assert world.s2.map(PAGE + 5, 1, PA + 0x123, RWX, world.cache) == 0
    leaf = leaf_pte(PA, leaf_attrs(RWX, True), 3)
    assert world.s2.get_leaf(PAGE) == (0, leaf, 3)
    assert leaf == PA | 0x7DB
    assert world.log == [
        ("zalloc_page",),
        ("plain", root, 1, 0, LOCKED),
        ("get_page", root),
        ("release", root, 1, LOCKED, table_pte(t2)),
        ("zalloc_page",),
        ("plain", t2, 2, 0, LOCKED),
        ("get_page", t2),
        ("release", t2, 2, LOCKED, table_pte(t3)),
        ("plain", t3 + 8, 3, 0, LOCKED),
        ("dcache", PA, PAGE),
        ("icache", PA, PAGE),
        ("get_page", t3 + 8),
        ("release", t3 + 8, 3, LOCKED, leaf),
        ("dsb", "ishst"),
    ]
    world.check_refcounts()


@pytest.mark.parametrize(
    ("prot", "flags", "expected"),
    [
        (RWX, 0, ["dcache", "icache"]),
        (RW, 0, ["dcache"]),
        (RW | Prot.DEVICE, 0, []),
        (RW | Prot.NORMAL_NC, 0, []),
        (RWX, WalkFlags.SKIP_CMO, []),
    ],
)
@pytest.mark.parametrize("features", [Features(), NO_FWB])
def test_cache_maintenance_before_mapping(make_world, prot, flags, expected, features):
    world = make_world(39, features)
    assert world.s2.map(0, BLOCK, PA, prot, world.cache, flags) == 0
    assert [kind for kind in world.kinds() if kind in ("dcache", "icache")] == expected


def test_the_largest_blocks_that_fit(make_world):
    world = make_world(39)
    size = GIB + BLOCK + PAGE
    assert world.s2.map(GIB - PAGE, PAGE + size, PA - PAGE, RWX, world.cache) == 0
    levels = [world.s2.get_leaf(at)[2] for at in (GIB - PAGE, GIB, 2 * GIB, 2 * GIB + BLOCK)]
    assert levels == [3, 1, 2, 3]
    assert FORMAT_4K.to_phys(world.s2.get_leaf(2 * GIB + BLOCK)[1]) == PA + GIB + BLOCK
    world.check_refcounts()


@pytest.mark.parametrize(
    ("addr", "size", "phys"),
    [(PAGE, BLOCK, PA), (0, BLOCK - PAGE, PA), (0, BLOCK, PA + PAGE)],
)
def test_no_block_unless_range_and_both_addresses_allow(make_world, addr, size, phys):
    world = make_world(39)
    assert world.s2.map(addr, size, phys, RWX, world.cache) == 0
    assert world.s2.get_leaf(addr)[2] == 3
    world.check_refcounts()


def test_no_block_at_level_0(make_world):
    world = make_world(48)
    assert world.s2.map(0, 1 << 39, 0, RWX, world.cache) == 0
    assert world.s2.get_leaf(0)[2] == 1


@pytest.mark.parametrize("prot", [Prot.DEVICE | Prot.NORMAL_NC, Prot.DEVICE | Prot.X, Prot.NORMAL_NC | Prot.X])
def test_illegal_prot_is_refused_before_anything_happens(make_world, prot):
    world = make_world(39)
    assert world.s2.map(1 << 60, PAGE, PA, prot, world.cache) == -22
    assert world.log == []


def test_out_of_range_still_ends_in_a_barrier(make_world):
    world = make_world(39)
    assert world.s2.map(1 << 39, PAGE, PA, RWX, world.cache) == -34
    assert world.log == [("dsb", "ishst")]


def test_split_and_merge(make_world):
    world = make_world(39)
    world.s2.map(0, BLOCK, PA, RWX, world.cache)
    world.took()
    # Other memory for one page splits the block; the rest of it is lost.
    assert world.s2.map(3 * PAGE, PAGE, PA, RWX, world.cache) == 0
    assert world.log[:3] == [
        ("zalloc_page",),
        ("plain", world.tables()[1][0], 2, PA | 0x7D9, LOCKED),
        ("tlbi_ipa", 3 * PAGE, 2),
    ]
    assert world.s2.get_leaf(3 * PAGE)[2] == 3
    assert world.s2.get_leaf(0) == (0, 0, 3)
    world.check_refcounts()

    table = world.tables()[-1][0]
    world.took()
    assert world.s2.map(0, BLOCK, PA, RWX, world.cache) == 0
    kinds = world.kinds()
    assert ("tlbi_range", 0, 512) in world.log
    # The table goes when the block is in place, and its pages' references with it.
    assert kinds.index("free_unlinked_table") > kinds.index("release")
    assert world.log[-5:] == [
        ("free_unlinked_table", table, 2),
        ("put_page", table + 3 * 8),
        ("page_count", table),
        ("put_page", table),
        ("dsb", "ishst"),
    ]
    assert world.s2.get_leaf(3 * PAGE) == (0, PA | 0x7D9, 2)
    world.check_refcounts()


def test_merging_frees_the_whole_subtree(make_world):
    world = make_world(39, NO_RANGES)
    world.s2.map(GIB, 3 * PAGE, PA, RWX, world.cache)
    world.s2.map(GIB + 5 * BLOCK, PAGE, PA, RWX, world.cache)
    assert len(world.tables()) == 4
    world.took()
    assert world.s2.map(GIB, GIB, 1 << 32, RWX, world.cache) == 0
    assert world.kinds().count("tlbi_vmid") == 1
    assert "tlbi_range" not in world.kinds()
    assert len(world.tables()) == 1
    world.check_refcounts()


@pytest.mark.parametrize("old", [RWX, RW, Prot.R])
@pytest.mark.parametrize("new", [RWX, RW, 0])
def test_permissions_alone_change_nothing(make_world, old, new):
    world = make_world(39)
    world.s2.map(0, PAGE, PA, old, world.cache)
    before = world.s2.get_leaf(0)
    world.took()
    assert world.s2.map(0, PAGE, PA, new, world.cache) == 0
    fault = WalkFlags.HANDLE_FAULT
    assert world.s2.map(0, 2 * PAGE, PA, new, world.cache, fault) == -11
    assert world.log == [("dsb", "ishst")] * 2
    assert world.s2.get_leaf(0) == before
    # That the fault handler stopped at the first page:
    assert world.s2.get_leaf(PAGE)[1] == 0


def test_software_bits_need_no_break(make_world):
    world = make_world(39)
    world.s2.map(0, PAGE, PA, RW, world.cache)
    _, old, _ = world.s2.get_leaf(0)
    world.took()
    assert world.s2.map(0, PAGE, PA, RW | Prot.SW1, world.cache) == 0
    pa = world.log[0][1]
    assert world.log == [("plain", pa, 3, old, old | 1 << 56), ("dsb", "ishst")]
    # With permissions as well, it is a change like any other.
    world.took()
    assert world.s2.map(0, PAGE, PA, Prot.R | Prot.SW1, world.cache) == 0
    assert world.log == [("dsb", "ishst")]
    assert world.s2.map(0, PAGE, PA, Prot.R, world.cache) == 0
    assert "tlbi_ipa" in world.kinds()
    world.check_refcounts()


def test_software_bits_in_a_shared_walk_take_the_long_way(make_world):
    world = make_world(39)
    world.s2.map(0, PAGE, PA, RW, world.cache)
    world.took()
    assert world.s2.map(0, PAGE, PA, RW | Prot.SW1, world.cache, WalkFlags.SHARED) == 0
    expected = ["cmpxchg", "tlbi_ipa", "put_page", "dcache", "get_page", "release", "dsb"]
    assert world.kinds() == expected
    world.check_refcounts()


def test_other_memory_is_broken_before_made(make_world):
    world = make_world(39)
    world.s2.map(0, PAGE, PA, RW, world.cache)
    world.took()
    assert world.s2.map(0, PAGE, PA + PAGE, RW, world.cache) == 0
    expected = ["plain", "tlbi_ipa", "put_page", "dcache", "get_page", "release", "dsb"]
    assert world.kinds() == expected
    world.took()
    skip = WalkFlags.SKIP_BBM_TLBI
    assert world.s2.map(0, PAGE, PA, RW, world.cache, skip) == 0
    assert "tlbi_ipa" not in world.kinds()
    world.check_refcounts()


@pytest.mark.parametrize("phys", [1 << 48, (1 << 63) + PA, TOP - 1])
def test_mapping_no_memory_clears_the_range(make_world, phys):
    world = make_world(39)
    world.s2.map(0, BLOCK, PA, RW, world.cache)
    world.took()
    assert world.s2.map(0, BLOCK, phys, RW, world.cache) == 0
    assert world.kinds() == ["plain", "tlbi_ipa", "put_page", "release", "dsb"]
    assert world.s2.get_leaf(0) == (0, 0, 2)
    # Empty already: stored all the same, as a change of (no) software bits.
    world.took()
    assert world.s2.map(0, BLOCK, phys, RW, world.cache) == 0
    assert world.kinds() == ["plain", "dsb"]
    world.check_refcounts()


def test_a_range_that_grows_out_of_the_physical_addresses(make_world):
    world = make_world(39)
    assert world.s2.map(0, 2 * PAGE, (1 << 48) - PAGE, RW, world.cache) == 0
    assert FORMAT_4K.to_phys(world.s2.get_leaf(0)[1]) == (1 << 48) - PAGE
    assert world.s2.get_leaf(PAGE) == (0, 0, 3)
    world.check_refcounts()


@pytest.mark.parametrize("flags", [0, WalkFlags.SKIP_CMO, WalkFlags.HANDLE_FAULT])
@pytest.mark.parametrize("features", [Features(), NO_FWB])
@pytest.mark.parametrize("size", [PAGE, BLOCK])
def test_a_run_of_leaves_is_mapped_as_if_one_by_one(make_world, size, features, flags):
    def prepared(phys):
        world = make_world(39, features)
        assert world.s2.map(3 * size, size, phys + 7 * size, RW, world.cache) == 0
        assert world.s2.set_owner(5 * size, PAGE, world.cache, 1) == 0
        world.log.clear()
        return world

    # The second has addresses for the first six leaves only.
    for phys in (PA, (1 << 48) - 6 * size, 1 << 48):
        single, run = prepared(phys), prepared(phys)
        for leaf in range(8):
            assert single.s2.map(leaf * size, size, phys + leaf * size, RWX, None, flags) == 0
        assert run.s2.map(0, 8 * size, phys, RWX, None, flags) == 0
        acts = [event for event in single.took() if event[0] != "dsb"]
        assert [event for event in run.took() if event[0] != "dsb"] == acts
        assert len(acts) > 8
        for world in (single, run):
            world.check_refcounts()


@pytest.mark.parametrize("cached", [0, 1, 2, 3])
def test_memcache_exhaustion(make_world, cached):
    world = make_world(39, cached=cached)
    ret = world.s2.map(0, PAGE, PA, RW, world.cache)
    assert ret == (0 if cached >= 2 else -12)
    assert world.kinds()[-1] == "dsb"
    # Tables that were installed before it ran out stay, empty.
    assert len(world.tables()) == 1 + min(cached, 2)
    world.check_refcounts()


def test_no_memcache_is_fine_where_no_table_is_needed(make_world):
    # Thread "KVM: arm64: Distinguish cases of memcache allocations completely", 2021-03:
    # the entry is there already, or a table gives way to a block.
    world = make_world(39)
    assert world.s2.map(0, GIB, 0, RW, None) == 0
    assert world.s2.map(GIB, PAGE, PA, RW, None) == -12
    assert "zalloc_page" not in world.kinds()
    assert world.s2.map(GIB, PAGE, PA, RW, world.cache) == 0
    assert world.s2.map(GIB + PAGE, PAGE, PA, RW, None) == 0
    assert world.s2.map(GIB, BLOCK, PA, RW, None) == 0
    world.check_refcounts()


def test_table_post_is_nothing_a_map_expects(make_world):
    world = make_world(39)
    post = WalkFlags.TABLE_POST
    assert world.s2.map(0, PAGE, PA, RW, world.cache, post) == -22
    assert world.s2.get_leaf(0)[2] == 3


def test_ownership_handed_over_and_back(make_world):
    world = make_world(39)
    world.s2.map(0, 2 * PAGE, PA, RWX, world.cache)
    world.took()
    assert world.s2.set_owner(PAGE, PAGE, world.cache, 1) == 0
    assert world.s2.get_leaf(PAGE) == (0, 1 << 2, 3)
    # No barrier at the end, unlike map.
    assert world.kinds() == ["plain", "tlbi_ipa", "put_page", "get_page", "release"]
    world.check_refcounts()
    # Again: nothing to break.
    world.took()
    assert world.s2.set_owner(PAGE, PAGE, world.cache, 1) == 0
    assert world.kinds() == ["plain"]
    # Back: to nobody's mapping, then mapped.
    world.took()
    assert world.s2.set_owner(PAGE, PAGE, world.cache, 0) == 0
    assert world.kinds() == ["plain", "put_page", "release"]
    assert world.s2.get_leaf(PAGE) == (0, 0, 3)
    world.check_refcounts()
    world.s2.set_owner(PAGE, PAGE, world.cache, 1)
    assert world.s2.map(PAGE, PAGE, PA + PAGE, RWX, world.cache) == 0
    assert world.s2.get_leaf(PAGE)[1] == PA + PAGE | 0x7DB
    world.check_refcounts()


def test_owners_are_recorded_page_by_page(make_world):
    world = make_world(39)
    world.s2.map(0, BLOCK, PA, RWX, world.cache)
    assert world.s2.set_owner(0, BLOCK, world.cache, 1) == 0
    assert {world.s2.get_leaf(at) for at in range(0, BLOCK, PAGE)} == {(0, 4, 3)}
    table = world.tables()[-1][0]
    assert world.pool.page_count(table) == 513
    world.check_refcounts()


def test_owner_0_is_not_unmap(make_world):
    # Thread "KVM: arm64: Use page-table to track page ownership", 2021-03, weighs one against the other.
    # set_owner allocates where unmap would find nothing to do.
    world = make_world(39)
    assert world.s2.set_owner(0, PAGE, world.cache, 0) == 0
    assert len(world.tables()) == 3
    assert world.s2.set_owner(GIB, PAGE, None, 0) == -12
    world.check_refcounts()


def test_owner_ids(make_world):
    world = make_world(39)
    assert VERSIONS["6.12"].max_owner_id == 1
    for owner_id in (2, 255):
        assert world.s2.set_owner(0, PAGE, world.cache, owner_id) == -22
    assert world.log == []
    for owner_id in (-1, 256):
        with pytest.raises(ValueError, match="owner_id"):
            world.s2.set_owner(0, PAGE, world.cache, owner_id)


def test_unmap_forgets_owners_quietly(make_world):
    world = make_world(39, NO_RANGES)
    world.s2.set_owner(0, PAGE, world.cache, 1)
    world.took()
    assert world.s2.unmap(0, PAGE) == 0
    assert world.kinds()[:2] == ["plain", "put_page"]
    assert world.log[0][3:] == (4, 0)
    assert len(world.tables()) == 1
    world.check_refcounts()


def test_unmap_frees_tables_from_the_bottom(make_world):
    world = make_world(39)
    world.s2.map(5 * PAGE, PAGE, PA, RW, world.cache)
    (root, _), (t2, _), (t3, _) = world.tables()
    leaf = world.s2.get_leaf(5 * PAGE)[1]
    world.took()
    assert world.s2.unmap(5 * PAGE, PAGE) == 0
    assert world.log == [
        ("plain", t3 + 40, 3, leaf, 0),
        ("put_page", t3 + 40),
        ("page_count", t3),
        ("plain", t2, 2, table_pte(t3), 0),
        ("tlbi_ipa", 5 * PAGE, TLBI_TTL_UNKNOWN),
        ("put_page", t2),
        ("put_page", t3),
        ("page_count", t2),
        ("plain", root, 1, table_pte(t2), 0),
        ("tlbi_ipa", 5 * PAGE, TLBI_TTL_UNKNOWN),
        ("put_page", root),
        ("put_page", t2),
        ("tlbi_range", 5 * PAGE, 1),
    ]
    world.check_refcounts()


def test_unmap_keeps_tables_in_use(make_world):
    world = make_world(39)
    world.s2.map(0, 3 * PAGE, PA, RW, world.cache)
    assert world.s2.unmap(PAGE, PAGE) == 0
    assert [world.s2.get_leaf(at)[1] != 0 for at in (0, PAGE, 2 * PAGE)] == [True, False, True]
    assert len(world.tables()) == 3
    world.check_refcounts()


def test_unmap_of_part_of_a_block_takes_all_of_it(make_world):
    world = make_world(39)
    world.s2.map(0, BLOCK, PA, RW, world.cache)
    assert world.s2.unmap(7 * PAGE, PAGE) == 0
    assert world.s2.get_leaf(0)[1] == 0
    world.check_refcounts()


@pytest.mark.parametrize(
    ("features", "prot", "expected"),
    [
        (Features(), RW, []),
        (NO_RANGES, RW, [("tlbi_ipa", 0, 3)]),
        (NO_FWB, RW, [("tlbi_ipa", 0, 3), ("dcache", PA, PAGE)]),
        (NO_FWB, RW | Prot.DEVICE, [("tlbi_ipa", 0, 3)]),
        (NO_FWB, RW | Prot.NORMAL_NC, [("tlbi_ipa", 0, 3)]),
    ],
)
def test_unmap_maintenance_of_leaves(make_world, features, prot, expected):
    world = make_world(39, features)
    world.s2.map(0, PAGE, PA, prot, world.cache)
    world.s2.map(PAGE, PAGE, PA, prot, world.cache)
    world.took()
    assert world.s2.unmap(0, PAGE) == 0
    deferred = [("tlbi_range", 0, 1)] if features == Features() else []
    maintenance = [event for event in world.log if event[0] in ("tlbi_ipa", "dcache", "tlbi_range")]
    assert maintenance == expected + deferred
    world.check_refcounts()


def test_deferred_invalidation_takes_the_arguments_as_they_are(make_world):
    world = make_world(39)
    assert world.s2.unmap(0x1234, 0x1FFF) == 0
    assert world.s2.unmap(1 << 39, PAGE) == -34
    assert world.log == [("tlbi_range", 0x1234, 1), ("tlbi_range", 1 << 39, 1)]


def test_deferred_invalidation_in_chunks(make_world):
    world = make_world(40)
    assert world.s2.unmap(PAGE, (17 << 30) + 1) == 0
    assert world.log == [
        ("tlbi_range", PAGE, 1 << 21),
        ("tlbi_range", PAGE + (8 << 30), 1 << 21),
        ("tlbi_range", PAGE + (16 << 30), 1 << 18),
    ]


def test_a_budget_ends_an_endless_invalidation(make_world):
    world = make_world(40)
    world.budget = 100
    with pytest.raises(world.BudgetReached):
        world.s2.unmap(TOP - PAGE, TOP - 1)
    assert len(world.log) == 100
    assert world.log[1] == ("tlbi_range", (8 << 30) - PAGE, 1 << 21)


def contents(world):
    return [bytes(world.table(world.pool.base + i * PAGE)) for i in range(24)], list(world.pool.refcounts)


def split(world):
    world.s2.map(0, BLOCK, PA, RW, world.cache)
    world.took()


def test_budgets_leave_the_state_of_that_instant(make_world):
    complete = make_world(39)
    split(complete)
    complete.s2.map(PAGE, PAGE, PA, RW, complete.cache)
    block = PA | leaf_attrs(RW, True) | 1
    assert complete.kinds()[:5] == ["zalloc_page", "plain", "tlbi_ipa", "put_page", "get_page"]

    states = []
    for budget in range(len(complete.log)):
        world = make_world(39)
        split(world)
        world.budget = budget
        with pytest.raises(world.BudgetReached):
            world.s2.map(PAGE, PAGE, PA, RW, world.cache)
        assert world.log == complete.log[:budget]
        states.append((world.table(world.tables()[1][0])[0], world.pool.refcounts.copy()))
    entries = [entry for entry, _ in states]
    # The store is announced second: not done at budget 1, done at budget 2.
    assert entries[:6] == [block, block, LOCKED, LOCKED, LOCKED, LOCKED]
    t2 = (complete.tables()[1][0] - complete.pool.base) // PAGE
    assert [counts[t2] for _, counts in states[:6]] == [2, 2, 2, 2, 1, 2]
    # Without its last call, the barrier, the operation is as good as done.
    assert contents(world) == contents(complete)


def test_a_lock_left_behind_is_respected_and_reported(make_world):
    world = make_world(39)
    world.s2.map(0, PAGE, PA, RW, world.cache)
    leaf = world.tables()[-1][0] + 8
    world.budget = 1
    world.took()
    with pytest.raises(world.BudgetReached):
        world.s2.map(PAGE, PAGE, PA, RW, world.cache)
    assert world.s2.get_leaf(PAGE)[1] == LOCKED
    world.budget = 1 << 62
    world.took()
    assert world.s2.map(PAGE, PAGE, PA, RW, world.cache, WalkFlags.HANDLE_FAULT) == -11
    assert world.s2.map(PAGE, PAGE, PA, RW, world.cache) == 0
    warning = ("warn", "stage2_try_break_pte")
    assert world.took() == [warning, ("dsb", "ishst"), warning, ("dsb", "ishst")]
    # In a shared walk, somebody else may well be at it.
    shared = WalkFlags.SHARED | WalkFlags.HANDLE_FAULT
    assert world.s2.map(PAGE, PAGE, PA, RW, world.cache, shared) == -11
    assert world.took() == [("dsb", "ishst")]
    # unmap counts a lock as an entry in use, which this one never became.
    world.pool.get_page(leaf)
    assert world.s2.unmap(PAGE, PAGE) == 0
    world.check_refcounts()


def test_a_page_meant_for_a_table_is_given_back_when_the_entry_is_locked(make_world):
    world = make_world(39)
    world.table(world.s2.root)[0] = LOCKED
    in_use = world.pool.pages_in_use()
    assert world.s2.map(0, PAGE, PA, RW, world.cache, WalkFlags.HANDLE_FAULT) == -11
    assert world.kinds() == ["zalloc_page", "warn", "put_page", "dsb"]
    assert world.pool.pages_in_use() == in_use - 1


def test_shared_walks_compare_and_exchange(make_world):
    world = make_world(39)
    shared = WalkFlags.SHARED | WalkFlags.HANDLE_FAULT
    assert world.s2.map(0, BLOCK, PA, RW, world.cache, shared) == 0
    stores = [kind for kind in world.kinds() if kind in ("plain", "release", "cmpxchg")]
    assert stores == ["cmpxchg", "release"] * 2
    world.check_refcounts()
    before = world.s2.get_leaf(0)

    def interfere(pa):
        world.on_store = None
        world.table(pa)[0] ^= 1 << 55

    # Somebody changes the entry between the walk's reading it and its exchange.
    world.on_store = interfere
    world.took()
    assert world.s2.map(0, BLOCK, PA + BLOCK, RW, world.cache, shared) == -11
    assert world.kinds() == ["cmpxchg", "dsb"]
    assert world.s2.get_leaf(0) == (0, before[1] ^ 1 << 55, 2)


def test_make_warns_when_the_lock_is_gone(make_world):
    world = make_world(39)
    world.s2.map(0, BLOCK, PA, RW, world.cache)
    world.took()
    world.dcache_clean_inval_poc = lambda pa, size: world.table(world.tables()[1][0]).__setitem__(0, 0)
    assert world.s2.map(0, BLOCK, PA + BLOCK, RW, world.cache) == 0
    assert ("warn", "stage2_make_pte") in world.log


@pytest.mark.parametrize("ia_bits", [32, 34, 39, 40, 43, 48])
def test_destroy_gives_everything_back(make_world, ia_bits):
    world = make_world(ia_bits, cached=0)
    last = (1 << ia_bits) - PAGE
    for addr, size in ((0, PAGE), (BLOCK, BLOCK), (last, PAGE)):
        world.cache.topup(world.pool, 4)
        assert world.s2.map(addr, size, PA, RW, world.cache) == 0
    world.s2.set_owner(PAGE, PAGE, world.cache, 1)
    for page in world.cache.pages:
        world.pool.put_page(page)
    world.took()
    world.s2.destroy()
    assert world.s2.root is None
    assert set(world.kinds()) == {"put_page", "free_pages_exact"}
    assert world.pool.pages_in_use() == 0
    world.pool.check_poison()
    assert world.complaints == []


def test_a_table_at_address_0_is_a_table(new_world):
    world = new_world(40)
    world.pool = PagePool(0, 64)
    assert world.s2.init() == 0
    assert world.s2.root == 0
    assert world.cache.topup(world.pool, 4) == 0
    assert world.s2.map(0, PAGE, PA, RW, world.cache) == 0
    assert world.s2.unmap(0, PAGE) == 0
    world.check_refcounts()
    world.s2.destroy()
    assert world.pool.refcounts[:2] == [0, 0]


def test_destroy_twice(make_world):
    world = make_world(40)
    world.s2.destroy()
    world.took()
    world.s2.destroy()
    expected = [("warn", "kvm_pgtable_stage2_destroy"), ("free_pages_exact", None, 2 * PAGE)]
    assert world.log == expected
    assert world.complaints == [("bad-free", 0)]


def test_init_after_destroy(make_world):
    world = make_world(40)
    world.s2.destroy()
    assert world.s2.init() == 0
    assert world.s2.map(0, PAGE, PA, RW, world.cache) == 0
    world.check_refcounts()


def test_unlinked_table_with_a_second_reference(make_world):
    world = make_world(39)
    page = world.cache.pages.pop()
    world.pool.get_page(page)
    world.s2.free_unlinked(page, 2)
    expected = [("page_count", page), ("warn", "kvm_pgtable_stage2_free_unlinked")]
    assert world.log == [*expected, ("put_page", page)]


def test_get_leaf(make_world):
    world = make_world(40)
    assert world.s2.get_leaf(0) == (0, 0, 1)
    assert world.s2.get_leaf((1 << 40) - 1) == (0, 0, 1)
    assert world.s2.get_leaf(1 << 40)[0] == -34
    assert world.s2.get_leaf(TOP - 1)[0] == -34
    world.s2.map(0, BLOCK, PA, RW, world.cache)
    assert world.s2.get_leaf(BLOCK - 1)[2] == 2
    assert world.log[-1] == ("dsb", "ishst")


def test_arguments_are_u64(make_world):
    world = make_world(40)
    assert world.s2.map(TOP + PAGE, TOP + PAGE, TOP + PA, RW, world.cache) == 0
    assert FORMAT_4K.to_phys(world.s2.get_leaf(PAGE)[1]) == PA
    world.took()
    assert world.s2.unmap(TOP + PAGE, TOP + PAGE) == 0
    assert world.log[-1] == ("tlbi_range", PAGE, 1)


PAGES = 6
OPS = st.lists(
    st.tuples(
        st.sampled_from(["map", "map", "unmap", "own", "disown"]),
        st.integers(0, PAGES - 1),
        st.integers(0, 3),
        st.integers(0, 2),
        st.sampled_from([RW, Prot.R, RW | Prot.SW0]),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(ops=OPS)
def test_pages_against_a_dictionary(new_world, ops):
    """Single pages, around a boundary between tables: what each page is, in a dict."""
    world = new_world.ready(39, cached=8)
    base = BLOCK - 3 * PAGE
    expected: dict[int, tuple[int, int] | str] = {}
    for what, first, count, where, prot in ops:
        world.cache.topup(world.pool, 8)
        addr, size = base + first * PAGE, count * PAGE
        phys = PA + where * PAGE
        covered = range(addr, addr + size, PAGE)
        if what == "map":
            assert world.s2.map(addr, size, phys, prot, world.cache) == 0
            for page in covered:
                new = (phys + page - addr, prot)
                old = expected.get(page)
                same_but_perms = isinstance(old, tuple) and old[0] == new[0] and (old[1] ^ new[1]) & Prot.SW0 == 0
                if not same_but_perms:
                    expected[page] = new
        elif what == "own":
            assert world.s2.set_owner(addr, size, world.cache, 1) == 0
            expected.update(dict.fromkeys(covered, "owned"))
        else:
            owner_0 = what == "disown"
            ret = world.s2.set_owner(addr, size, world.cache, 0) if owner_0 else 0
            assert (ret, owner_0 or world.s2.unmap(addr, size)) == (0, owner_0 or 0)
            for page in covered:
                expected.pop(page, None)
        world.check_refcounts()
        for page in range(base, base + (PAGES + 3) * PAGE, PAGE):
            entry = world.s2.get_leaf(page)[1]
            want = expected.get(page)
            if isinstance(want, tuple):
                assert entry == leaf_pte(want[0], leaf_attrs(want[1], True), 3)
            else:
                assert entry == (4 if want == "owned" else 0)


@settings(max_examples=60, deadline=None)
@given(
    ia_bits=st.sampled_from([32, 36, 40, 43, 48]),
    used=st.lists(st.tuples(st.integers(0, 1 << 48), st.sampled_from(["page", "owner"])), max_size=4),
    protects=st.booleans(),
    tlb_range=st.booleans(),
    bounds=st.tuples(st.integers(0, 1 << 12), st.integers(1, 1 << 12)),
)
def test_steps_past_what_is_empty_do_what_all_steps_do(new_world, ia_bits, used, protects, tlb_range, bounds):
    logs = []
    for in_steps in (True, False):
        world = new_world(ia_bits, Features(tlb_range=tlb_range), pages=128)
        assert (world.s2.init(), world.cache.topup(world.pool, 40)) == (0, 0)
        for where, what in used:
            addr = where % (1 << ia_bits) & -PAGE
            if what == "page":
                assert world.s2.map(addr, PAGE, PA, RW, world.cache) in (0, -EAGAIN)
            else:
                assert world.s2.set_owner(addr, PAGE, world.cache, 1) == 0
        world.log.clear()
        step = max(GIB, 1 << ia_bits - 8)
        first, count = bounds
        start, end = first * (step >> 4), min((first + count) * (step >> 4), 1 << ia_bits)
        if in_steps:
            (world.s2.wrprotect_in_steps if protects else world.s2.unmap_in_steps)(start, end, step)
        else:
            for at in sorted({start, *range((start & -step) + step, end, step)} if start < end else ()):
                until = min((at & -step) + step, end)
                (world.s2.wrprotect if protects else world.s2.unmap)(at, until - at)
        logs.append((world.log, str(world.s2)))
    assert logs[0] == logs[1]


def test_steps_over_a_whole_empty_table_are_none(make_world):
    world = make_world(48, NO_RANGES)
    assert list(world.s2.steps(0, 1 << 48, GIB, past_empty=True)) == []
    assert world.s2.map(5 << 39, PAGE, PA, RW, world.cache) == 0
    steps = list(world.s2.steps(0, 1 << 48, GIB, past_empty=True))
    assert steps == [((5 << 39) + n * GIB, (5 << 39) + (n + 1) * GIB) for n in range(512)]


def test_an_entry_is_located(make_world):
    world = make_world(40)
    addr = (1 << 39) + 0x60_5000
    assert world.s2.map(addr, PAGE, 0, Prot.R, world.cache) == 0
    found = [world.s2.locate(addr + 7, level) for level in (1, 2, 3)]
    assert found[0] == (0, world.s2.root + PAGE)
    assert found[1] == (0, FORMAT_4K.to_phys(world.table(found[0][1])[0]) + 3 * 8)
    assert world.table(found[2][1])[5] == world.s2.get_leaf(addr)[1]
    assert world.s2.locate(addr, 0) == world.s2.locate(1 << 40, 1) == (-22, 0)
    assert world.s2.locate(0, 2) == (-2, 0)
    world.s2.destroy()
    assert world.s2.locate(addr, 1) == (-22, 0)
