"""Permissions and access flag in place, the cache and the TLB: what is stored, and in which order it is told."""

import pytest

from pgtable import TLBI_TTL_UNKNOWN, Features, Prot, leaf_prot
from pgtable.pte import AF, LOCKED, S2AP_W, XN, leaf_attrs, leaf_pte, relaxing

PAGE, BLOCK, GIB = 1 << 12, 1 << 21, 1 << 30
PA = 0x8000_0000
RW = Prot.R | Prot.W
RWX = RW | Prot.X
LIMIT = 1 << 39


def page_of(prot, phys=PA):
    return leaf_pte(phys, leaf_attrs(int(prot), True), 3)


@pytest.fixture
def mapped(make_world):
    """Two pages and a block; an owner's page between them."""
    world = make_world(39)
    assert world.s2.map(0, 2 * PAGE, PA, RWX, world.cache) == 0
    assert world.s2.set_owner(2 * PAGE, PAGE, world.cache, 1) == 0
    assert world.s2.map(BLOCK, BLOCK, PA + BLOCK, RW, world.cache) == 0
    world.took()
    return world


def test_wrprotect_stores_in_place_and_invalidates_nothing(mapped):
    assert mapped.s2.wrprotect(PAGE + 5, BLOCK) == 0
    stores = [(level, old ^ new) for kind, _, level, old, new in mapped.log if kind == "plain"]
    assert stores == [(3, S2AP_W), (2, S2AP_W)]
    assert len(mapped.log) == 2
    assert mapped.s2.get_leaf(0)[1] & S2AP_W, "before the range"
    mapped.took()
    assert mapped.s2.wrprotect(PAGE, BLOCK) == 0
    assert mapped.log == []
    mapped.check_refcounts()


def test_wrprotect_does_not_mind_what_is_not_mapped(mapped):
    assert mapped.s2.wrprotect(2 * PAGE, PAGE) == mapped.s2.wrprotect(GIB, LIMIT - GIB) == 0
    assert mapped.s2.get_leaf(2 * PAGE)[1] == 4
    assert mapped.s2.wrprotect(LIMIT - PAGE, 2 * PAGE) == -34
    assert mapped.log == []


def test_mkyoung_gives_the_old_entry(mapped):
    young = page_of(RWX)
    assert mapped.s2.mkyoung(0xFFF) == young
    assert mapped.log == [("dsb", "ishst")]
    assert mapped.s2.test_clear_young(0, PAGE, make_old=True)
    mapped.took()
    assert mapped.s2.mkyoung(0xFFF) == young & ~AF
    assert [event[0] for event in mapped.log] == ["cmpxchg", "dsb"]
    assert mapped.s2.get_leaf(0)[1] == young


def test_mkyoung_fails_as_0_without_a_barrier(mapped):
    for addr in (2 * PAGE, GIB, LIMIT, (1 << 64) - 1):
        assert mapped.s2.mkyoung(addr) == 0
    mapped.s2.destroy()
    mapped.took()
    assert mapped.s2.mkyoung(0) == 0
    assert mapped.log == []


def test_a_lost_race_ends_a_shared_change(mapped):
    mapped.s2.test_clear_young(0, PAGE, make_old=True)
    mapped.took()

    def somebody_else(pa):
        mapped.on_store = None
        mapped.table(pa)[pa % PAGE // 8] |= 1 << 55

    mapped.on_store = somebody_else
    assert mapped.s2.mkyoung(0) == 0
    mapped.on_store = somebody_else
    assert mapped.s2.relax_perms(PAGE, Prot.R) == 0, "no change, no race"
    mapped.s2.wrprotect(PAGE, PAGE)
    mapped.on_store = somebody_else
    mapped.took()
    assert mapped.s2.relax_perms(PAGE, RW) == -11
    assert mapped.log[-1] == ("tlbi_ipa_nsh", PAGE, TLBI_TTL_UNKNOWN)


def test_clear_young(mapped):
    s2 = mapped.s2
    assert s2.test_clear_young(0, 2 * BLOCK, make_old=False)
    assert mapped.log == []
    assert s2.test_clear_young(PAGE, PAGE, make_old=True)
    assert mapped.kinds() == ["plain"]
    assert (s2.test_clear_young(PAGE, PAGE, False), s2.test_clear_young(0, 2 * PAGE, False)) == (False, True)
    assert not s2.test_clear_young(2 * PAGE, 3 * PAGE, make_old=True)
    assert s2.test_clear_young(BLOCK + PAGE, 1, make_old=True), "any part of a block stands for the block"
    assert not s2.test_clear_young(BLOCK, BLOCK, make_old=False)


def test_what_is_locked_has_no_access_flag(mapped):
    table = mapped.tables()[-1][0]
    mapped.table(table)[0] = LOCKED
    assert not mapped.s2.test_clear_young(0, PAGE, make_old=True)
    assert mapped.table(table)[0] == LOCKED


def test_clear_young_out_of_range_warns(mapped):
    warning = ("warn", "kvm_pgtable_stage2_test_clear_young")
    for _ in range(2):
        assert not mapped.s2.test_clear_young(LIMIT, PAGE, make_old=True)
    assert mapped.log == [warning, warning], "not a WARN_ON_ONCE"


@pytest.mark.parametrize(
    ("prot", "before", "after", "maintenance"),
    [
        (Prot.W, Prot.R, RW, []),
        (Prot.R, RWX, RWX, []),
        (Prot.X, Prot.R, Prot.R | Prot.X, ["icache"]),
        (RWX, Prot.X, RWX, []),
        (RWX | Prot.DEVICE, 0, RWX, ["icache"]),
    ],
)
def test_relax_perms(make_world, prot, before, after, maintenance):
    world = make_world(39)
    world.s2.map(0, PAGE, PA, before, world.cache)
    world.took()
    assert world.s2.relax_perms(0x123, int(prot)) == 0
    assert world.s2.get_leaf(0)[1] == page_of(after)
    store = ["cmpxchg"] if before != after else []
    assert world.kinds() == [*maintenance, *store, "tlbi_ipa_nsh"]
    assert world.log[-1] == ("tlbi_ipa_nsh", 0x123, 3)


def test_relax_perms_of_a_block(mapped):
    assert mapped.s2.relax_perms(BLOCK + 7 * PAGE, Prot.X) == 0
    assert mapped.log[0] == ("icache", PA + BLOCK, BLOCK)
    assert mapped.log[-1] == ("tlbi_ipa_nsh", BLOCK + 7 * PAGE, 2)


@pytest.mark.parametrize(("addr", "ret"), [(2 * PAGE, -11), (GIB, -11), (LIMIT, -34)])
def test_relax_perms_where_nothing_is_mapped(mapped, addr, ret):
    assert mapped.s2.relax_perms(addr, RW) == ret
    assert mapped.log == ([("tlbi_ipa_nsh", addr, TLBI_TTL_UNKNOWN)] if ret == -11 else [])


def test_relax_perms_refuses_software_bits_first(mapped):
    assert mapped.s2.relax_perms(LIMIT, int(RW | Prot.SW2)) == -22
    assert mapped.log == []


def test_flush(make_world):
    world = make_world(39, Features(fwb=False))
    world.s2.map(0, PAGE, PA, RW, world.cache)
    world.s2.map(PAGE, PAGE, PA, RW | Prot.DEVICE, world.cache)
    world.s2.map(BLOCK, BLOCK, PA + BLOCK, RW, world.cache)
    world.took()
    assert world.s2.flush(0, BLOCK + 1) == 0
    assert world.log == [("dcache", PA, PAGE), ("dcache", PA + BLOCK, BLOCK)]
    assert world.s2.flush(LIMIT, PAGE) == -34


def test_flush_has_nothing_to_do_with_fwb(mapped):
    assert mapped.s2.flush(0, BLOCK) == mapped.s2.flush(LIMIT, PAGE) == 0
    assert mapped.log == []


def test_tlb_flush_range(make_world):
    world = make_world(39)
    world.s2.tlb_flush_range(0x1FFF, 0x2FFF)
    world.s2.tlb_flush_range(LIMIT, 0xFFF)
    world.s2.tlb_flush_range(0, (8 << 30) + PAGE)
    assert world.log == [("tlbi_range", 0x1FFF, 2), ("tlbi_range", 0, 1 << 21), ("tlbi_range", 8 << 30, 1)]
    world = make_world(39, Features(tlb_range=False))
    world.s2.tlb_flush_range(0, 0)
    assert world.log == [("tlbi_vmid",)]


def test_permissions_of_an_entry():
    assert leaf_prot(0) == 0
    assert leaf_prot(page_of(RWX | Prot.SW1)) == RWX | Prot.SW1
    assert leaf_prot(page_of(Prot.R | Prot.DEVICE)) == Prot.R, "the memory type is lost"
    assert leaf_prot(page_of(0)) == 0
    assert leaf_prot(9 << 55 | 0xC4) == Prot.SW0 | Prot.SW3, "an invalid entry has software bits only"


def test_what_relaxing_changes():
    assert relaxing(int(RWX)) == (3 << 6, XN)
    assert relaxing(int(Prot.W | Prot.DEVICE | Prot.SW0)) == (S2AP_W, 0)
