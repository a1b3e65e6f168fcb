"""What a stage 2 is told when it is made: no FWB, identity mappings only, when to do without blocks."""

import pytest

from pgtable import Features, Prot, Stage2, Stage2Flags, get_vtcr

PAGE, BLOCK = 1 << 12, 1 << 21
PA = 0x8000_0000
RW = Prot.R | Prot.W
RWX = RW | Prot.X
TOP = 1 << 64


@pytest.fixture
def make(new_world):
    """make(flags=…, force_pages=…, features=…): a world whose stage 2 was made so."""

    def make_world(features=None, **kwargs):
        world = new_world(39, features)
        world.s2 = Stage2(get_vtcr(39, world.features), world, world, world.features, **kwargs)
        assert world.s2.init() == 0
        world.cache.topup(world.pool, 8)
        world.took()
        return world

    return make_world


def test_nofwb_is_a_cpu_without_fwb(make):
    logs = []
    for world in (make(flags=Stage2Flags.NOFWB), make(Features(fwb=False))):
        assert world.s2.map(0, 3 * PAGE, PA, RWX, world.cache) == 0
        assert world.s2.get_leaf(0)[1] >> 2 & 15 == 15
        assert world.s2.flush(0, PAGE) == 0
        assert world.s2.unmap(PAGE, 2 * PAGE) == 0
        logs.append(world.log)
    assert logs[0] == logs[1]
    assert [event[0] for event in logs[0]].count("dcache") == 3 + 1 + 2
    assert "tlbi_range" not in [event[0] for event in logs[0]]


def test_identity_mappings_only(make):
    world = make(flags=Stage2Flags.IDMAP)
    assert world.s2.map(PAGE, PAGE, PAGE, RWX, world.cache) == 0
    world.took()
    warning = ("warn", "kvm_pgtable_stage2_map")
    for addr, phys in ((PAGE, PAGE + 1), (0, PA), (1 << 39, 0)):
        assert world.s2.map(addr, PAGE, phys, RWX | Prot.DEVICE, world.cache) == -22
        assert world.took() == [warning]
    assert world.s2.map(TOP + PAGE, PAGE, PAGE, RWX, world.cache) == 0, "arguments are u64"
    assert world.s2.set_owner(0, PAGE, world.cache, 1) == 0
    world.check_refcounts()


def test_pages_where_the_caller_wants_them(make):
    asked = []

    def unless_rwx(addr, end, prot):
        asked.append((addr, end, prot))
        return prot != RWX

    world = make(force_pages=unless_rwx)
    for addr, prot, level in ((0, RWX, 2), (BLOCK, RW, 3), (2 * BLOCK, RWX | Prot.SW0, 3)):
        assert world.s2.map(addr, BLOCK, PA + addr, prot, world.cache) == 0
        assert world.s2.get_leaf(addr)[2] == level
    assert asked[1] == (BLOCK, 2 * BLOCK, RW)
    # A full table stays one, until a map is content with a block.
    assert world.s2.map(BLOCK, BLOCK, PA, RW, world.cache) == 0
    assert world.s2.get_leaf(BLOCK)[2] == 3
    assert world.s2.map(BLOCK, BLOCK, PA, RWX, world.cache) == 0
    assert world.s2.get_leaf(BLOCK)[2] == 2
    world.check_refcounts()


def test_what_is_asked_about_is_as_it_came(make):
    asked = []
    world = make(force_pages=lambda *args: asked.append(args) is not None)
    world.s2.map(TOP + 5, TOP - 1, PA, RW, world.cache)
    world.s2.map(0, BLOCK, PA, RWX | Prot.DEVICE, world.cache)
    assert asked == [(5, 4, RW), (0, BLOCK, RWX | Prot.DEVICE)], "even about what is illegal anyway"


def test_unlinked_tables_and_owners_are_not_asked_about(make):
    world = make(force_pages=lambda *_: pytest.fail("asked"))
    assert world.s2.create_unlinked(0, 1, int(RW), world.cache, False) > 0
    assert world.s2.set_owner(0, PAGE, world.cache, 1) == 0
