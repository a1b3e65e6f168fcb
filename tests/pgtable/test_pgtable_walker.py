"""The walker's promises: limits, order of visits, reloading, concatenated roots.

The review is the thread "KVM: arm64: Add stand-alone page-table walker infrastructure", 2020-09.
"""

import pytest

from pgtable import Prot, Walk, WalkFlags
from pgtable.pte import FORMAT_4K, table_pte

LEAF, PRE, POST = WalkFlags.LEAF, WalkFlags.TABLE_PRE, WalkFlags.TABLE_POST
PAGE, BLOCK, GIB = 1 << 12, 1 << 21, 1 << 30
RWX = Prot.R | Prot.W | Prot.X
TOP = 1 << 64


def visits(world, addr, size, flags=LEAF):
    """(ret, [(visit, level, addr), ...])"""
    seen = []

    def visitor(visit, level, at, pte):
        seen.append((visit, level, at))
        return 0

    return world.s2.walk(addr, size, flags, visitor), seen


def test_the_end_may_equal_the_limit(make_world):
    # The reviewer asks for >=; the last page would be out of reach then.
    world = make_world(40)
    limit = 1 << 40
    assert visits(world, limit - PAGE, PAGE) == (0, [(LEAF, 1, limit - PAGE)])
    assert visits(world, limit, 0) == (0, [])
    assert visits(world, limit - PAGE, PAGE + 1) == (-34, [])
    assert visits(world, limit, 1) == (-34, [])
    assert visits(world, limit + PAGE, 0) == (-34, [])
    ret, seen = visits(world, 0, limit)
    assert (ret, len(seen)) == (0, 1024)


def test_ranges_grow_to_pages_and_wrap(make_world):
    world = make_world(40)
    world.s2.map(0, 2 * PAGE, 0x8000_0000, RWX, world.cache)
    assert visits(world, 0xFFF, 1) == (0, [(LEAF, 3, 0)])
    # The start is rounded down before size is added: 0xfff + 2 reaches no second page.
    assert visits(world, 0xFFF, 2) == (0, [(LEAF, 3, 0)])
    assert visits(world, 0, PAGE + 1) == (0, [(LEAF, 3, 0), (LEAF, 3, PAGE)])
    # Sizes that wrap give an end before the start, and that is an empty range.
    assert visits(world, PAGE, TOP - PAGE) == (0, [])
    assert visits(world, 2 * PAGE, TOP - 1) == (0, [])
    assert visits(world, 0, TOP - 1) == (0, [])
    # An end of 0 does not excuse the start.
    assert visits(world, TOP - PAGE, PAGE) == (-34, [])


def test_no_root(new_world):
    world = new_world(40)
    # Like zeroed memory: no address bits at all, so only an empty range at 0 gets to the root.
    assert visits(world, 0, PAGE) == (-34, [])
    assert visits(world, 0, 0) == (-22, [])
    world.s2.init()
    world.s2.destroy()
    assert visits(world, 0, PAGE) == (-22, [])
    assert visits(world, 1 << 40, PAGE) == (-34, [])


def test_after_an_entry_the_walk_goes_on_at_its_end(make_world):
    world = make_world(40)
    start = GIB + 5 * PAGE
    assert visits(world, start, GIB) == (0, [(LEAF, 1, start), (LEAF, 1, 2 * GIB)])


def two_tables(world):
    """A page at 0 and at BLOCK: one level-2 table, with two level-3 tables below it."""
    assert world.s2.map(0, PAGE, 0x8000_0000, RWX, world.cache) == 0
    assert world.s2.map(BLOCK, PAGE, 0x8000_0000, RWX, world.cache) == 0


ORDER = [
    (PRE, 1, 0x1FF000),
    (PRE, 2, 0x1FF000),
    (LEAF, 3, 0x1FF000),
    (POST, 2, 0x1FF000),
    (PRE, 2, BLOCK),
    (LEAF, 3, BLOCK),
    (LEAF, 3, BLOCK + PAGE),
    (POST, 2, BLOCK),
    (POST, 1, 0x1FF000),
]


@pytest.mark.parametrize("flags", range(8))
def test_order_of_visits(make_world, flags):
    world = make_world(39)
    two_tables(world)
    expected = [visit for visit in ORDER if visit[0] & flags]
    # A table's visits have the address where the walk entered it, not the table's own start.
    assert visits(world, BLOCK - PAGE, 3 * PAGE, flags) == (0, expected)


@pytest.mark.parametrize(("ia_bits", "pages", "covered"), [(34, 16, 30), (40, 2, 39), (43, 16, 39)])
def test_concatenated_roots(make_world, ia_bits, pages, covered):
    world = make_world(ia_bits)
    assert world.s2.root_pages == pages
    for page in range(pages):
        addr = page << covered
        assert world.s2.map(addr, PAGE, 0x8000_0000, RWX, world.cache) == 0
        root_page = world.s2.root + page * PAGE
        assert [i for i, e in enumerate(world.table(root_page)) if e] == [0]
        assert world.s2.get_leaf(addr)[2] == 3
        world.cache.topup(world.pool, 8)
    boundary = 1 << covered
    _, seen = visits(world, boundary - PAGE, 2 * PAGE)
    assert [at for _, _, at in seen] == [boundary - PAGE, boundary]


def test_a_table_installed_by_the_visitor_is_descended_into(make_world):
    world = make_world(39)
    table = world.pool.zalloc_page(None)
    seen = []

    def visitor(visit, level, at, pte):
        seen.append((visit, level, at, pte))
        if level == 1:
            world.table(world.s2.root)[0] = table_pte(table)
        return 0

    assert world.s2.walk(0, 2 * BLOCK, LEAF | PRE | POST, visitor) == 0
    assert seen == [
        (LEAF, 1, 0, 0),
        (LEAF, 2, 0, 0),
        (LEAF, 2, BLOCK, 0),
        # After the children the table is shown as reloaded, though it was not there before.
        (POST, 1, 0, table_pte(table)),
    ]


def test_a_table_taken_away_before_its_children_is_not_descended_into(make_world):
    world = make_world(39)
    two_tables(world)
    seen = []

    def visitor(visit, level, at, pte):
        seen.append((visit, level, at))
        if visit == PRE and level == 2 and at == 0:
            world.table(pte_table(world, 0))[0] = 0
        return 0

    assert world.s2.walk(0, BLOCK + PAGE, PRE | LEAF | POST, visitor) == 0
    assert (LEAF, 3, 0) not in seen
    assert (LEAF, 3, BLOCK) in seen


def pte_table(world, index):
    """The table that entry `index` of the root points to."""
    return world.table(world.s2.root)[index] & 0xFFFF_FFFF_F000


def test_without_a_visit_the_entry_is_not_read_again(make_world):
    # Only PRE and LEAF visits reload: a POST visit shows what stood there before the children.
    world = make_world(39)
    two_tables(world)
    before = world.table(world.s2.root)[0]
    seen = []

    def visitor(visit, level, at, pte):
        seen.append((visit, level, pte))
        if level == 3:
            world.table(world.s2.root)[0] = 0
        return 0

    assert world.s2.walk(0, PAGE, LEAF | POST, visitor) == 0
    assert seen[-1] == (POST, 1, before)


@pytest.mark.parametrize("kind", [LEAF, PRE, POST])
@pytest.mark.parametrize("ret", [-22, -12, 7])
def test_a_visitor_ends_the_walk(make_world, kind, ret):
    world = make_world(39)
    two_tables(world)
    calls = []

    def visitor(visit, level, at, pte):
        calls.append(visit)
        return ret if visit == kind else 0

    assert world.s2.walk(0, BLOCK + PAGE, LEAF | PRE | POST, visitor) == ret
    assert calls.count(kind) == 1
    assert calls[-1] == kind


@pytest.mark.parametrize("kind", [LEAF, PRE, POST])
def test_eagain_is_forgotten_unless_handling_a_fault(make_world, kind):
    world = make_world(39)
    two_tables(world)
    calls = []

    def visitor(visit, level, at, pte):
        calls.append((visit, level, at))
        return -11 if visit == kind else 0

    flags = LEAF | PRE | POST
    everything = visits(world, 0, BLOCK + PAGE, flags)[1]
    assert world.s2.walk(0, BLOCK + PAGE, flags, visitor) == 0
    assert calls == everything
    calls.clear()
    assert world.s2.walk(0, BLOCK + PAGE, flags | WalkFlags.HANDLE_FAULT, visitor) == -11
    assert calls == everything[: len(calls)]
    assert [visit for visit, _, _ in calls].count(kind) == 1


def test_passing_over_empty_entries_shows_all_others(make_world):
    world = make_world(34)
    for addr in (0, 0x1FE000, BLOCK - PAGE, 3 * BLOCK, (1 << 34) - PAGE):
        world.cache.topup(world.pool, 8)
        assert world.s2.map(addr, PAGE, 0x8000_0000, RWX, world.cache) == 0

    def shown(addr, size, skip):
        seen = []

        def visitor(walk, visit):
            seen.append((visit, walk.level, walk.addr, walk.old, walk.pa))
            return 0

        walk = Walk(world.s2._geometry, FORMAT_4K, world, world.warn, visitor, LEAF | PRE | POST, addr, size, skip)
        assert walk.run(world.s2.root, world.s2.ia_bits, world.s2.start_level) == 0
        return seen

    for addr, size in [(0, 1 << 34), (PAGE, BLOCK - PAGE), (0x1FE000, 2 * PAGE), (5 * PAGE, GIB)]:
        full = [visit for visit in shown(addr, size, False) if visit[3]]
        assert shown(addr, size, True) == full
        assert full


def test_a_visitor_may_go_further_in_a_table_of_pages(make_world):
    world = make_world(39)
    two_tables(world)
    seen = []

    def visitor(walk, visit):
        seen.append((walk.level, walk.addr, walk.index, walk.stop))
        walk.index = min(walk.index + 3, walk.stop - 1)
        return 0

    walk = Walk(world.s2._geometry, FORMAT_4K, world, world.warn, visitor, LEAF, BLOCK - 6 * PAGE, 8 * PAGE)
    assert walk.run(world.s2.root, world.s2.ia_bits, world.s2.start_level) == 0
    assert seen == [(3, BLOCK - 6 * PAGE, 506, 512), (3, BLOCK - 2 * PAGE, 510, 512), (3, BLOCK, 0, 2)]


def test_levels_out_of_range_warn_once(make_world):
    world = make_world(39)
    world.s2.free_unlinked(world.cache.pages.pop(), 3)
    world.s2.free_unlinked(world.cache.pages.pop(), 3)
    where = [event[1] for event in world.log if event[0] == "warn"]
    unlinked = "kvm_pgtable_stage2_free_unlinked"
    assert where == ["__kvm_pgtable_walk", unlinked, unlinked]
