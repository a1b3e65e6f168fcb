"""Hyp's stage 1: encodings, what it maps and unmaps, and in which order it does so."""

import pytest

from pgtable import LINUX_6_1, Features, Geometry, HypStage1, PagePool, Prot, describe, describe_hyp, hyp_leaf_prot
from pgtable.pte import FORMAT_4K, hyp_leaf_attrs

BASE = 0x4400_0000
PAGE, BLOCK, GIB = 1 << 12, 1 << 21, 1 << 30
PA = 0x8000_0000
RW, RX = Prot.R | Prot.W, Prot.R | Prot.X
EINVAL, ENOMEM, ERANGE = -22, -12, -34
NONE = (1 << 64) - 1


@pytest.fixture
def make(new_world):
    """make(va_bits=48, pages=64, **features): a world whose table is `world.hyp`, after init."""

    def make_world(va_bits=48, pages=64, **features):
        world = new_world(features=Features(**features), pages=pages)
        world.hyp = HypStage1(va_bits, world, world, world.features)
        assert world.hyp.init() == 0
        world.took()
        return world

    return make_world


def pages_below(world, va):
    """Entries of the path to va, from the root down: (table page, index)."""
    path, table = [], world.hyp.root
    for level in range(world.hyp.start_level, 4):
        index = va >> (39 - 9 * level) & 511
        path.append((table, index))
        table = world.table(table)[index] & FORMAT_4K.mask
    return path


# Encodings


@pytest.mark.parametrize(
    ("prot", "hvhe", "bti", "attrs"),
    [
        (RW, False, True, 1 << 54 | 0x740),
        (RW, True, True, 1 << 54 | 0x700),
        (Prot.R, False, True, 1 << 54 | 0x7C0),
        (Prot.R, True, True, 1 << 54 | 0x780),
        (RX, False, True, 1 << 50 | 0x7C0),
        (RX, False, False, 0x7C0),
        (RW | Prot.DEVICE, False, True, 1 << 54 | 0x750),
        (RW | Prot.NORMAL_NC, False, True, 1 << 54 | 0x740),
        (RW | Prot.SW0 | Prot.SW3, False, True, 9 << 55 | 1 << 54 | 0x740),
    ],
)
def test_attributes(prot, hvhe, bti, attrs):
    assert hyp_leaf_attrs(int(prot), hvhe=hvhe, bti=bti) == attrs


@pytest.mark.parametrize("prot", [0, Prot.W, Prot.X, RW | Prot.X, RX | Prot.DEVICE, Prot.DEVICE, Prot.SW0])
def test_illegal_protections(prot):
    assert hyp_leaf_attrs(int(prot), hvhe=False, bti=True) == EINVAL


@pytest.mark.parametrize("hvhe", [False, True])
@pytest.mark.parametrize("prot", [RW, Prot.R, RX, RW | Prot.SW2])
def test_what_is_mapped_is_read_back(prot, hvhe):
    assert hyp_leaf_prot(hyp_leaf_attrs(int(prot), hvhe=hvhe, bti=True) | 3, hvhe) == prot


def test_permissions_of_the_other_mode_are_none():
    assert hyp_leaf_prot(0x740 | 3, hvhe=True) == Prot.X
    assert hyp_leaf_prot(0x700 | 1 << 54 | 3, hvhe=False) == 0
    assert hyp_leaf_prot(Prot.SW1 | 0x740, hvhe=False) == Prot.SW1, "an invalid entry has software bits only"


@pytest.mark.parametrize(
    ("pte", "level", "text"),
    [
        (0, 3, "-"),
        (0x4400_1003, 0, "table -> 0x44001000"),
        (1 << 54 | 0x8000_0743, 3, "page  pa=0x80000000 RW- normal AF"),
        (1 << 50 | 0x8000_07C1, 2, "block pa=0x80000000 R-X normal GP AF"),
        (1 << 54 | 0x8000_0753, 3, "page  pa=0x80000000 RW- device AF"),
        (0x8000_070B, 3, "page  pa=0x80000000 RW- attridx=2 XN=0 AP[1]=0 AF"),
        (1 << 53 | 0x8000_07C3, 3, "page  pa=0x80000000 R-X normal PXN AF"),
        (3 << 51 | 0x8000_0F63, 3, "page  pa=0x80000000 RW- normal XN=0 AF NS nG DBM contiguous"),
        (1 << 63 | 5 << 59 | 0x8000_0743, 3, "page  pa=0x80000000 RW- normal XN=0 AF pbha=5 +0x8000000000000000"),
        (0b10101 << 59 | 0x4400_1003, 0, "table -> 0x44001000 PXNTable APTable[0] NSTable"),
        (0b01010 << 59 | 0x4400_1003, 0, "table -> 0x44001000 XNTable APTable[1]"),
        (1 << 55 | 1 << 54 | 0x8000_04C3, 3, "page  pa=0x80000000 R-- normal AF sh=0 sw=1"),
        (0x8000_0741, 0, "reserved 0x80000741"),
    ],
)
def test_description(pte, level, text):
    assert describe_hyp(pte, level) == text


UXN, PXN = 1 << 54, 1 << 53


@pytest.mark.parametrize(
    ("bits", "text"),
    [
        (0x783, "R-X normal el0=--X AF"),
        (UXN | 0x783, "R-X normal UXN AF"),
        (UXN | 0x703, "RW- normal UXN AF"),
        (PXN | 0x703, "RW- normal PXN el0=--X AF"),
        (UXN | PXN | 0x703, "RW- normal UXN PXN AF"),
        (UXN | 0x743, "RW- normal UXN el0=RW- AF"),
        (UXN | PXN | 0x743, "RW- normal UXN PXN el0=RW- AF"),
        (0x743, "RW- normal el0=RW- AF"),
        (0x7C3, "R-X normal el0=R-X AF"),
    ],
)
def test_with_e2h_el2_and_el0_have_permissions_of_their_own(bits, text):
    """The Arm ARM's, not what KVM means by it: UXN keeps EL0 from executing, not EL2. What is writable, nobody
    executes (WXN)."""
    assert describe_hyp(0x8000_0000 | bits, 3, hvhe=True) == f"page  pa=0x80000000 {text}"


@pytest.mark.parametrize("say", [describe, describe_hyp, lambda pte, level: describe_hyp(pte, level, hvhe=True)])
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("base", [0, UXN, PXN, UXN | PXN, 0xC0, 0x40 | PXN, 0x80])
def test_no_bit_is_lost(say, base, level):
    entry = base | 0x1234_4000_0701 | (2 if level == 3 else 0)
    texts = {say(entry ^ 1 << bit, level) for bit in range(64)} | {say(entry, level)}
    assert len(texts) == 65


# init and destroy


@pytest.mark.parametrize(
    ("va_bits", "start_level"),
    [(13, 3), (21, 3), (22, 2), (30, 2), (31, 1), (39, 1), (40, 0), (48, 0), (49, -1), (52, -1), (57, -1)],
)
def test_the_root_is_one_page_of_the_level_that_the_bits_ask_for(make, va_bits, start_level):
    hyp = make(va_bits).hyp
    assert (hyp.ia_bits, hyp.start_level, hyp.root, hyp.root_pages) == (va_bits, start_level, BASE, 1)
    assert hyp.map((1 << va_bits) - PAGE, PAGE, PA, RW) == 0
    assert hyp.get_leaf((1 << va_bits) - 1)[1:] == (1 << 54 | PA | 0x743, 3)
    assert hyp.map(1 << va_bits, PAGE, PA, RW) == ERANGE


@pytest.mark.parametrize("va_bits", [0, 3, 4, 12, 58, 64])
def test_bits_that_take_no_level_or_too_many(new_world, va_bits):
    world = new_world()
    hyp = HypStage1(va_bits, world, world, world.features)
    assert hyp.init() == EINVAL
    assert (hyp.root, world.log) == (None, [])


@pytest.mark.parametrize(("va_bits", "start_level"), [(2, 0xE38E_38E8), (4, 4), (12, 4), (58, 0xFFFF_FFFE)])
def test_an_older_linux_takes_whatever_comes_of_it(new_world, va_bits, start_level):
    """6.1's init checks nothing; what it reckons in 32 bits wraps. Walks then warn of the level."""
    world = new_world()
    hyp = HypStage1(va_bits, world, world, world.features, version=LINUX_6_1)
    assert hyp.init() == 0
    assert (hyp.start_level, hyp.ia_bits) == (start_level, va_bits)
    assert hyp.map(0, PAGE, PA, RW) == (ERANGE if va_bits < 12 else EINVAL)


def test_init_without_memory(new_world):
    world = new_world(pages=1)
    assert HypStage1(48, world, world, world.features).init() == 0
    assert HypStage1(48, world, world, world.features).init() == ENOMEM


def test_destroy_frees_everything_and_invalidates_nothing(make):
    world = make()
    assert world.hyp.map(0, BLOCK + 3 * PAGE, PA, RX) == 0
    world.took()
    world.hyp.destroy()
    assert set(world.kinds()) == {"put_page"}
    assert world.pool.pages_in_use() == 0
    assert world.hyp.root is None
    world.pool.check_poison()
    assert world.complaints == []


def test_destroying_twice_warns_and_puts_nothing(make):
    world = make()
    world.hyp.destroy()
    world.took()
    world.hyp.destroy()
    assert world.took() == [("warn", "kvm_pgtable_hyp_destroy"), ("put_page", NONE)]
    assert world.complaints == [("bad-put", NONE)]


# map


def test_mapping_a_page(make):
    world = make(va_bits=39)
    assert world.hyp.map(0x1234, 1, PA + 0xFFF, RW) == 0
    (root, _), (middle, _), (last, index) = pages_below(world, PAGE)
    assert index == 1
    assert world.took() == [
        ("zalloc_page",),
        ("get_page", root),
        ("release", root, 1, 0, middle | 3),
        ("zalloc_page",),
        ("get_page", middle),
        ("release", middle, 2, 0, last | 3),
        ("get_page", last + 8),
        ("release", last + 8, 3, 0, 1 << 54 | PA | 0x743),
        ("dsb", "ishst"),
        ("isb",),
    ]


def test_blocks_where_they_fit(make):
    world = make()
    assert world.hyp.map(GIB - BLOCK, GIB + BLOCK + PAGE, PA - BLOCK, RW) == 0
    leaves = [world.hyp.get_leaf(va)[2] for va in (GIB - BLOCK, GIB, 2 * GIB)]
    assert leaves == [2, 1, 3]
    assert world.hyp.map(3 * GIB, BLOCK, PA + PAGE, RW) == 0
    assert world.hyp.get_leaf(3 * GIB)[2] == 3, "the physical address is not aligned"


def test_a_physical_address_beyond_the_limit_need_not_be_aligned(make):
    """Linux asks for the alignment of a valid address only, and cuts any other to fit the entry."""
    world = make()
    assert world.hyp.map(0, BLOCK, (1 << 48) + 5 * PAGE, RW) == 0
    assert world.hyp.get_leaf(0)[1:] == (1 << 54 | 5 * PAGE | 0x741, 2)


def test_physical_addresses_wrap(make):
    world = make()
    assert world.hyp.map(0, 3 * BLOCK, (1 << 64) - BLOCK - PAGE, RW) == 0
    assert [world.hyp.get_leaf(va)[2] for va in (0, BLOCK, 2 * BLOCK)] == [2, 2, 3]


def test_mapping_the_same_again_is_nothing(make):
    world = make()
    world.hyp.map(0, 2 * PAGE, PA, RX)
    world.took()
    assert world.hyp.map(0, 2 * PAGE, PA, RX) == 0
    assert world.took() == [("dsb", "ishst"), ("isb",)]


def test_software_bits_may_change(make):
    world = make()
    world.hyp.map(0, BLOCK, PA, RW)
    world.took()
    assert world.hyp.map(0, BLOCK, PA, RW | Prot.SW1) == 0
    assert world.kinds() == ["release", "dsb", "isb"]
    assert world.hyp.get_leaf(0)[1] == 2 << 55 | 1 << 54 | PA | 0x741


def test_nothing_else_of_a_page_may_change(make):
    world = make()
    world.hyp.map(0, 3 * PAGE, PA, RW)
    world.took()
    for phys, prot in ((PA, Prot.R), (PA + PAGE, RW), (PA, RX), (PA, RW | Prot.DEVICE)):
        assert world.hyp.map(PAGE, PAGE, phys + PAGE, prot) == EINVAL
        warnings = [("warn", "hyp_map_walker_try_leaf"), ("warn", "hyp_map_walker")]
        assert world.took() == [*warnings, ("dsb", "ishst"), ("isb",)]
    assert world.hyp.get_leaf(PAGE)[1] == 1 << 54 | PA + PAGE | 0x743


def test_a_block_gives_way_to_a_table_without_break_before_make(make):
    """And keeps its reference, so that its table page is never freed by unmapping."""
    world = make()
    world.hyp.map(0, BLOCK, PA, RW)
    world.took()
    assert world.hyp.map(PAGE, PAGE, PA + PAGE, RW) == 0
    assert "warn" not in world.kinds()
    assert world.took()[2][0::3] == ("release", 1 << 54 | PA | 0x741)
    assert world.hyp.get_leaf(0)[1:] == (0, 3)
    assert world.hyp.map(GIB, BLOCK, PA, RW) == 0
    assert world.hyp.map(GIB, BLOCK, PA + BLOCK, RW) == 0
    assert ("warn", "hyp_map_walker_try_leaf") in world.took()
    assert world.hyp.get_leaf(GIB)[2] == 3
    table = pages_below(world, 0)[2][0]
    assert world.hyp.unmap(PAGE, PAGE) == PAGE
    assert world.pool.page_count(table) == 2


@pytest.mark.parametrize("pages", range(1, 5))
def test_memory_runs_out(make, pages):
    world = make(pages=pages)
    assert world.hyp.map(0, PAGE, PA, RW) == (ENOMEM if pages < 4 else 0)
    assert world.took()[-2:] == [("dsb", "ishst"), ("isb",)], "after errors too"
    assert world.pool.pages_in_use() == pages


def test_an_illegal_protection_comes_before_everything(make):
    world = make()
    assert world.hyp.map(1 << 60, PAGE, PA, RW | Prot.X) == EINVAL
    assert world.log == []


# unmap


def test_unmapping_a_page_takes_its_tables_too(make):
    world = make(va_bits=30)
    world.hyp.map(BLOCK, PAGE, PA, RW)
    (root, index), (table, _) = pages_below(world, BLOCK)
    world.took()
    assert world.hyp.unmap(BLOCK, PAGE) == PAGE
    assert world.took() == [
        ("plain", table, 3, 1 << 54 | PA | 0x743, 0),
        ("dsb", "ishst"),
        ("tlbi", "vale2is", 7 << 44 | BLOCK >> 12),
        ("dsb", "ish"),
        ("isb",),
        ("put_page", table),
        ("page_count", table),
        ("plain", root + 8 * index, 2, table | 3, 0),
        ("dsb", "ishst"),
        ("tlbi", "vae2is", BLOCK >> 12),
        ("dsb", "ish"),
        ("isb",),
        ("put_page", root + 8 * index),
        ("put_page", table),
    ]
    assert world.pool.pages_in_use() == 1


@pytest.mark.parametrize(("ttl", "hint"), [(True, 6 << 44), (False, 0)])
def test_the_level_of_a_block_is_hinted(make, ttl, hint):
    world = make(ttl=ttl)
    world.hyp.map(0, BLOCK, PA, RW)
    world.took()
    assert world.hyp.unmap(0, BLOCK) == BLOCK
    assert next(event for event in world.log if event[0] == "tlbi") == ("tlbi", "vale2is", hint)


def test_the_highest_address_bit_does_not_fit_an_invalidation(make):
    """Bit 56, which only the largest of spaces has."""
    world = make(va_bits=57)
    top = (1 << 57) - PAGE
    world.hyp.map(top, PAGE, PA, RW)
    world.took()
    world.hyp.unmap(top, PAGE)
    operands = [event[2] for event in world.log if event[0] == "tlbi"]
    assert operands[0] == 7 << 44 | operands[1]
    assert operands[1] << 12 == top - (1 << 56)


def test_unmapping_ends_at_what_is_not_mapped(make):
    world = make()
    world.hyp.map(0, 2 * PAGE, PA, RW)
    world.hyp.map(3 * PAGE, PAGE, PA, RW)
    assert world.hyp.unmap(0, 4 * PAGE) == 2 * PAGE
    assert world.hyp.get_leaf(3 * PAGE)[1]
    assert world.hyp.unmap(0, PAGE) == 0


def test_unmapping_ends_at_a_block_that_reaches_beyond(make):
    world = make()
    world.hyp.map(0, 2 * BLOCK, PA, RW)
    assert world.hyp.unmap(0, BLOCK + PAGE) == BLOCK
    assert world.hyp.get_leaf(BLOCK)[2] == 2


def test_a_block_that_begins_before_the_range_goes_whole(make):
    world = make()
    world.hyp.map(0, 2 * BLOCK, PA, RW)
    assert world.hyp.unmap(BLOCK - PAGE, BLOCK) == BLOCK
    assert world.hyp.get_leaf(0)[1] == 0


def test_what_cannot_be_walked_unmaps_nothing(make):
    world = make(va_bits=39)
    assert world.hyp.unmap(1 << 39, PAGE) == 0
    assert world.hyp.unmap(0, 1 << 40) == 0
    world.hyp.destroy()
    world.took()
    assert world.hyp.unmap(0, PAGE) == 0
    assert world.took() == []


def test_an_entry_is_located(make):
    world = make(va_bits=39)
    world.hyp.map(GIB, PAGE, PA, RW)
    found = [world.hyp.locate(GIB, level) for level in range(4)]
    path = [(0, table + 8 * index) for table, index in pages_below(world, GIB)]
    assert found == [(EINVAL, 0), *path]
    assert world.hyp.locate(0, 2) == (-2, 0)


def test_an_entry_that_somebody_else_left_is_not_counted(make):
    """Hyp counts valid entries only: an invalid one that is in use has no reference to give up or to keep."""
    world = make(va_bits=21)
    world.table(world.hyp.root)[5] = 1 << 10
    assert world.hyp.map(5 * PAGE, PAGE, PA, RW) == 0
    assert world.pool.page_count(world.hyp.root) == 2
    world.table(world.hyp.root)[6] = 1 << 10
    world.hyp.destroy()
    assert (world.pool.pages_in_use(), world.complaints) == (0, [])


def test_long_runs_are_what_their_leaves_are(make):
    """Whether the hooks take a run of leaves at once or one by one, the table and what happens come out the same."""
    slow, fast = make(), make()
    taken = []

    def take(run):
        taken.append(run)
        for index, entry in enumerate(run.leaves(run.length)):
            fast.get_page(run.pa + 8 * index)
            fast.pte_store(run.pa + 8 * index, run.level, 0, entry, "release")
        return run.length

    fast.fill = take
    for world in (slow, fast):
        world.hyp.map(40 * PAGE, PAGE, PA + 40 * PAGE, RX)
        world.hyp.map(0, BLOCK - PAGE, PA, RX)
        world.hyp.map(GIB, 2 * BLOCK, (1 << 48) - BLOCK - PAGE, RW)
    assert [(run.length, run.level, run.lock) for run in taken] == [(40, 3, None), (470, 3, None), (512, 3, None)]
    assert slow.log == fast.log
    for va in (0, 41 * PAGE, GIB):
        assert slow.hyp.get_leaf(va) == fast.hyp.get_leaf(va)


@pytest.mark.parametrize("level", [2, 3])
def test_some_cpus_are_told_twice(make, level):
    world = make(repeat_tlbi=True, ttl=False)
    size = PAGE if level == 3 else BLOCK
    world.hyp.map(0, size, PA, RW)
    world.took()
    world.hyp.unmap(0, size)
    found = [event for event in world.took() if event[0] in ("tlbi", "dsb", "isb")][:6]
    once = [("dsb", "ish"), ("tlbi", "vale2is", 0)]
    assert found == [("dsb", "ishst"), once[1], *once, ("dsb", "ish"), ("isb",)]


def test_budgets_leave_the_state_of_that_instant(make):
    """Whatever call is not carried out any more, the table holds exactly what was stored until then."""

    def life(world):
        world.hyp.map(0, BLOCK + 3 * PAGE, PA, RW)
        world.hyp.map(BLOCK, PAGE, PA, RW | Prot.SW0)
        world.hyp.map(0, PAGE, PA + BLOCK, RW)
        world.hyp.unmap(BLOCK, 2 * PAGE)
        world.hyp.destroy()

    whole = make()
    life(whole)
    for budget in range(len(whole.log)):
        world = make()
        world.budget = budget
        with pytest.raises(world.BudgetReached):
            life(world)
        assert world.log == whole.log[:budget]
        stored = {event[1]: event[-1] for event in world.log if event[0] in ("plain", "release")}
        for pa, entry in stored.items():
            if world.pool.page_count(pa):
                assert world.table(pa)[(pa & PAGE - 1) // 8] == entry


def test_a_table_prints_as_its_tree():
    hyp = HypStage1(30, PagePool(BASE, 4))
    assert str(hyp) == "no table"
    hyp.init()
    hyp.map(0, BLOCK + PAGE, PA, RX | Prot.SW0)
    assert str(hyp).splitlines() == [
        "30 bits of va",
        "level 2 table 0x44000000 from ipa 0x0",
        "  0x000000000000 block pa=0x80000000 R-X normal GP AF sw=1",
        "  0x000000200000 table -> 0x44001000",
        "    level 3 table 0x44001000 from ipa 0x200000",
        "      0x000000200000 page  pa=0x80200000 R-X normal GP AF sw=1",
    ]


@pytest.mark.parametrize(
    ("page_shift", "va_bits", "start_level"),
    [(14, 36, 2), (14, 47, 1), (14, 48, 0), (14, 58, 0), (16, 29, 3), (16, 42, 2), (16, 43, 1), (16, 55, 1)],
)
def test_other_granules(page_shift, va_bits, start_level):
    geometry = Geometry(page_shift)
    page, block = geometry.page_size, geometry.page_size * geometry.entries
    pool = PagePool(BASE, 8, page_size=page)
    hyp = HypStage1(va_bits, pool, geometry=geometry)
    assert hyp.init() == 0
    assert (hyp.start_level, hyp.root_pages) == (start_level, 1)
    top = (1 << va_bits) - block if start_level < 3 else (1 << va_bits) - page
    assert hyp.map(top, page, PA, RW) == 0
    assert hyp.get_leaf(top)[1:] == (1 << 54 | PA | 0x743, 3)
    if start_level < 3:
        assert hyp.map(0, block, 2 * block, RW) == 0
        assert hyp.get_leaf(0)[2] == 2
    assert hyp.unmap(top, page) == page
    hyp.destroy()
    assert pool.pages_in_use() == 0


def test_addresses_of_52_bits():
    """LPA2 moves the highest bits to where shareability was; pages of 64K have them below the address."""
    pa = 0xF_0000_8000_0000
    hyp = HypStage1(52, PagePool(BASE, 8), features=Features(lpa2=True))
    hyp.init()
    assert hyp.map(0, PAGE, pa, RW) == 0
    assert hyp.get_leaf(0)[1:] == (1 << 54 | 0x3_0000_8000_0743 & ~0x300 | 3 << 8, 3)
    assert "pa=0xf000080000000 RW- normal AF" in str(hyp)
    hyp = HypStage1(48, PagePool(BASE, 8, page_size=1 << 16), features=Features(pa_bits_52=True), geometry=Geometry(16))
    hyp.init()
    assert hyp.map(0, 1 << 16, pa, RW) == 0
    assert hyp.get_leaf(0)[1:] == (1 << 54 | 0x8000_F743, 3)


def test_without_page_counts_nothing_is_unmapped():
    pool = PagePool(BASE, 8)
    hyp = HypStage1(39, pool, counts_pages=False)
    hyp.init()
    assert hyp.map(0, PAGE, 0x8000_0000, RW) == 0
    used = pool.pages_in_use()
    assert hyp.unmap(0, PAGE) == hyp.unmap(1 << 40, PAGE) == 0
    assert hyp.get_leaf(0)[1] & 1
    assert pool.pages_in_use() == used
