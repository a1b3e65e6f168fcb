"""Tables made ahead: unlinked ones, and those that take a block's place."""

import pytest

from pgtable import Prot
from pgtable.pte import FORMAT_4K, LOCKED, is_table, leaf_attrs, leaf_pte, table_pte

PAGE, BLOCK, GIB = 1 << 12, 1 << 21, 1 << 30
PA = 0x8000_0000
RW = Prot.R | Prot.W
RWX = RW | Prot.X


def leaf(phys, prot, level):
    return leaf_pte(phys, leaf_attrs(int(prot), True), level)


@pytest.mark.parametrize(
    ("level", "phys", "step"),
    [(2, PA + BLOCK, PAGE), (1, PA, BLOCK), (0, 0, GIB)],
)
def test_an_unlinked_table_is_full_of_the_next_level(make_world, level, phys, step):
    world = make_world(39, cached=1)
    (page,) = world.cache.pages
    assert world.s2.create_unlinked(phys, level, int(RWX), world.cache, False) == page
    expected = [leaf(phys + i * step, RWX, level + 1) for i in range(512)]
    assert list(world.table(page)) == expected
    assert world.pool.page_count(page) == 513
    # No cache maintenance, no TLB invalidation, no barrier.
    assert set(world.kinds()) == {"zalloc_page", "plain", "get_page", "release"}
    world.s2.free_unlinked(page, level)
    world.check_refcounts()


def test_an_unlinked_tree_of_pages(make_world):
    world = make_world(39, pages=600, cached=0)
    world.cache.pages = [world.pool.zalloc_page(None) for _ in range(513)]
    table = world.s2.create_unlinked(PA, 1, int(RW), world.cache, True)
    assert world.cache.pages == []
    lowest = [world.table(FORMAT_4K.to_phys(entry))[511] for entry in world.table(table)]
    assert lowest == [leaf(PA + (i + 1) * BLOCK - PAGE, RW, 3) for i in range(512)]
    world.s2.free_unlinked(table, 1)
    world.check_refcounts()


def test_a_tree_that_cannot_be_finished_is_freed(make_world):
    world = make_world(39, cached=3)
    assert world.s2.create_unlinked(PA, 1, int(RW), world.cache, True) == -12
    assert world.cache.pages == []
    world.check_refcounts()


def test_the_first_page_may_come_from_elsewhere(make_world):
    world = make_world(39, cached=0)
    table = world.s2.create_unlinked(PA, 2, int(RW), None, True)
    assert world.pool.page_count(table) == 513
    assert world.s2.create_unlinked(PA, 1, int(RW), None, True) == -12
    world.s2.free_unlinked(table, 2)
    world.check_refcounts()


@pytest.mark.parametrize(
    ("phys", "level", "prot", "ret"),
    [
        (PA + PAGE, 2, RW, -22),
        (PA + BLOCK, 1, RW, -22),
        (PA, 2, RWX | Prot.DEVICE, -22),
        (PA, 2, RW, -12),
    ],
)
def test_unlinked_tables_refused(make_world, phys, level, prot, ret):
    world = make_world(39, cached=0)
    assert world.s2.create_unlinked(phys, level, int(prot), world.cache, False) == ret
    assert world.log == ([("zalloc_page",)] if ret == -12 else [])


def test_there_is_no_table_below_level_3(make_world):
    world = make_world(39)
    page = world.cache.pages[-1]
    warning = ("warn", "kvm_pgtable_stage2_free_unlinked")
    for once in ([("warn", "__kvm_pgtable_walk")], []):
        assert world.s2.create_unlinked(PA, 3, int(RW), world.cache, False) == -22
        assert world.took() == [("zalloc_page",), *once, warning, ("page_count", page), ("put_page", page)]
        page = world.cache.pages[-1] if world.cache.pages else None
    world.check_refcounts()


@pytest.mark.parametrize("phys", [1 << 48, 1 << 63])
def test_no_memory_makes_an_empty_table(make_world, phys):
    world = make_world(39)
    table = world.s2.create_unlinked(phys, 2, int(RW), world.cache, False)
    assert not any(world.table(table))
    assert world.pool.page_count(table) == 1


def test_splitting_a_block_loses_nothing(make_world):
    world = make_world(39)
    world.s2.map(0, 2 * BLOCK, PA, RW | Prot.SW2, world.cache)
    world.took()
    child = world.cache.pages[-1]
    assert world.s2.split(BLOCK - PAGE, PAGE, world.cache) == 0
    place = world.tables()[1][0]
    old = leaf(PA, RW | Prot.SW2, 2)
    assert [world.s2.get_leaf(at)[1:] for at in (0, BLOCK - PAGE, BLOCK)] == [
        (leaf(PA, RW | Prot.SW2, 3), 3),
        (leaf(PA + BLOCK - PAGE, RW | Prot.SW2, 3), 3),
        (leaf(PA + BLOCK, RW | Prot.SW2, 2), 2),
    ]
    # The table is complete before the block is broken, and the break names the page, not the block.
    assert world.log[-6:] == [
        ("plain", place, 2, old, LOCKED),
        ("tlbi_ipa", BLOCK - PAGE, 2),
        ("put_page", place),
        ("get_page", place),
        ("release", place, 2, LOCKED, table_pte(child)),
        ("dsb", "ishst"),
    ]
    world.check_refcounts()


def test_a_gigabyte_is_split_step_by_step(make_world):
    world = make_world(39, cached=3)
    world.s2.map(GIB, GIB, GIB, RWX, world.cache)
    assert world.s2.split(GIB + BLOCK, 2 * BLOCK, world.cache) == 0
    levels = [world.s2.get_leaf(GIB + at * BLOCK)[2] for at in range(5)]
    assert levels == [2, 3, 3, 2, 2]
    assert world.cache.pages == []
    world.check_refcounts()


def test_with_pages_enough_a_gigabyte_is_split_at_once(make_world):
    world = make_world(39, pages=600, cached=0)
    world.s2.map(GIB, GIB, GIB, RWX, None)
    world.cache.pages = [world.pool.zalloc_page(None) for _ in range(513)]
    assert world.s2.split(GIB, PAGE, world.cache) == 0
    assert world.s2.get_leaf(2 * GIB - PAGE)[1:] == (leaf(2 * GIB - PAGE, RWX, 3), 3)
    assert world.cache.pages == []
    world.check_refcounts()


def test_splitting_is_best_effort(make_world):
    world = make_world(39, cached=1)
    world.s2.map(0, 3 * BLOCK, PA, RW, world.cache)
    world.cache.topup(world.pool, 2)
    assert world.s2.split(0, 3 * BLOCK, world.cache) == -12
    assert [world.s2.get_leaf(at * BLOCK)[2] for at in range(3)] == [3, 3, 2]
    world.took()
    assert world.s2.split(0, 3 * BLOCK, world.cache) == -12
    assert world.log == [("dsb", "ishst")]
    assert world.s2.split(0, 2 * BLOCK, world.cache) == 0, "pages need nothing"
    world.check_refcounts()


def test_what_is_not_a_block_is_passed_over(make_world):
    world = make_world(39, cached=3)
    world.s2.map(0, PAGE, PA, RW, world.cache)
    world.s2.set_owner(PAGE, PAGE, world.cache, 1)
    world.cache.topup(world.pool, 1)
    assert world.s2.split(0, GIB, world.cache) == 0
    assert len(world.cache.pages) == 1
    assert world.s2.split(1 << 39, PAGE, world.cache) == -34
    assert world.log[-1] == ("dsb", "ishst")


def test_a_block_locked_meanwhile_keeps_its_table_out(make_world):
    """Another walker's lock, which a walk that is alone never meets."""
    world = make_world(39, cached=2)
    world.s2.map(0, BLOCK, PA, RW, world.cache)
    place = world.tables()[1][0]
    world.table(place)[0] = LOCKED | 1 << 2
    assert world.s2.split(0, BLOCK, world.cache) == 0, "not valid, not split"
    assert not is_table(world.table(place)[0], 2)


@pytest.mark.parametrize(("prot", "kept"), [(RW | Prot.DEVICE, RW), (Prot.R | Prot.NORMAL_NC, Prot.R)])
def test_a_split_forgets_the_memory_type(make_world, prot, kept):
    world = make_world(39)
    world.s2.map(0, BLOCK, PA, prot, world.cache)
    world.s2.test_clear_young(0, BLOCK, make_old=True)
    assert world.s2.split(0, BLOCK, world.cache) == 0
    assert world.s2.get_leaf(0)[1] == leaf(PA, kept, 3), "and the age"


def test_a_leaf_above_the_blocks_is_not_split(make_world):
    """Nobody who uses Linux puts one there."""
    world = make_world(48, cached=2)
    world.table(world.s2.root)[1] = leaf(0, RW, 0)
    assert world.s2.split(1 << 39, PAGE, world.cache) == -22
    assert world.s2.split(1 << 39, PAGE, world.cache) == -22
    assert world.kinds() == ["warn", "dsb", "dsb"]
