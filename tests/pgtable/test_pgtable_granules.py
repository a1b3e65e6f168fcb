"""Other granules, and 52 bits: where entries keep addresses, how large blocks are, and the shape of the root."""

import pytest

from pgtable import GRANULE_4K, GRANULE_16K, GRANULE_64K, AddressFormat, Features, Geometry, Prot, describe, get_vtcr
from pgtable.pte import MEMATTR_NORMAL_FWB, leaf_attrs
from pgtable.vtcr import start_level_of

RW = Prot.R | Prot.W
WIDE = {12: Features(lpa2=True), 14: Features(lpa2=True), 16: Features(pa_bits_52=True)}
"""What brings 52 bits of physical address, by page_shift."""
EVERY = pytest.mark.parametrize("geometry", [GRANULE_4K, GRANULE_16K, GRANULE_64K], ids=["4k", "16k", "64k"])


@pytest.mark.parametrize(
    ("page_shift", "lpa2", "phys", "bits"),
    [
        (12, False, 0xFFFF_FFFF_F000, 0xFFFF_FFFF_F000),
        (12, False, 0xF_0000_0000_1FFF, 0x1000),
        (14, False, 0x3_0000_0000_7000, 0x4000),
        (16, False, 0x0_FFFF_FFFF_FFFF, 0xFFFF_FFFF_0000),
        (16, False, 0x1_0000_0000_0000, 1 << 12),
        (16, False, 0xA_0000_8000_0000, 0x8000_A000),
        (12, True, 0x3_0000_0000_1000, 0x3_0000_0000_1000),
        (12, True, 0x4_0000_0000_0000, 1 << 8),
        (14, True, 0xF_FFFF_FFFF_C000, 0x3_FFFF_FFFF_C300),
    ],
)
def test_where_an_address_goes(page_shift, lpa2, phys, bits):
    address = AddressFormat(page_shift, lpa2)
    assert address.to_pte(phys) == bits
    assert bits & ~address.mask == 0
    assert address.to_phys(bits | ~address.mask & (1 << 64) - 1) == address.to_phys(bits)


@pytest.mark.parametrize("page_shift", [12, 14, 16])
def test_52_bits_go_there_and_back(page_shift):
    address = AddressFormat(page_shift, WIDE[page_shift].lpa2)
    places = set()
    for bit in range(page_shift, 52):
        places.add(address.to_pte(1 << bit))
        assert address.to_phys(address.to_pte(1 << bit)) == 1 << bit
    assert sum(places) == address.mask, "every bit of an address has one of the entry for itself"


def test_lpa2_leaves_shareability_to_vtcr():
    assert leaf_attrs(int(RW), True) ^ leaf_attrs(int(RW), True, lpa2=True) == 3 << 8
    assert get_vtcr(40, Features(lpa2=True)) ^ get_vtcr(40, Features(parange=5)) == 1 << 32 | (5 ^ 6) << 16


@EVERY
def test_a_block_and_a_page_inside_it(make_world, geometry):
    world = make_world(geometry=geometry, pages=32)
    page, block = geometry.page_size, geometry.level_size(2)
    assert block == {12: 2 << 20, 14: 32 << 20, 16: 512 << 20}[geometry.page_shift]
    assert world.s2.map(0, block, 0x8000_0000, RW, world.cache) == 0
    assert world.s2.get_leaf(block - 1)[2] == 2
    assert world.s2.map(page, page, 0x9000_0000, RW, world.cache) == 0
    ret, pte, level = world.s2.get_leaf(page)
    assert (ret, level, world.address.to_phys(pte)) == (0, 3, 0x9000_0000)
    assert world.s2.get_leaf(2 * page)[1] == 0, "the rest of the block is not carried over"
    assert world.s2.map(0, block, 0x8000_0000, RW, world.cache) == 0
    assert world.s2.get_leaf(page)[2] == 2
    world.check_refcounts()


@EVERY
def test_no_larger_block_than_kvm_has(make_world, geometry):
    world = make_world(48, geometry=geometry, pages=64)
    size = geometry.level_size(1)
    world.budget = len(world.log) + 20
    try:
        assert world.s2.map(0, size, size, RW, world.cache) == 0
        assert world.s2.get_leaf(0)[2] == 1
        assert geometry == GRANULE_4K
    except world.BudgetReached:
        assert geometry != GRANULE_4K, "it is mapped by a table full of blocks"


@EVERY
@pytest.mark.parametrize("wide", [False, True])
def test_memory_ends_where_addresses_do(make_world, geometry, wide):
    features = WIDE[geometry.page_shift] if wide else Features()
    end = 1 << (52 if wide else 48)
    page = geometry.page_size
    world = make_world(geometry=geometry, features=features)
    assert world.s2.map(0, 2 * page, end - page, RW, world.cache) == 0
    _, pte, level = world.s2.get_leaf(0)
    assert (world.address.to_phys(pte), level) == (end - page, 3)
    assert world.s2.get_leaf(page)[1] == 0, "no page, and nobody's"


@EVERY
def test_tables_beyond_48_bits(make_world, geometry):
    base = 0x9_0000_0000_0000
    world = make_world(52, geometry=geometry, features=WIDE[geometry.page_shift], base=base)
    assert world.s2.map(0, geometry.page_size, 0xF_0000_0000_0000, RW, world.cache) == 0
    assert world.s2.get_leaf(0)[2] == 3
    world.check_refcounts()
    assert world.s2.unmap(0, geometry.page_size) == 0
    assert world.pool.pages_in_use() == world.s2.root_pages + len(world.cache.pages)


@pytest.mark.parametrize(
    ("geometry", "roots"),
    [
        (GRANULE_4K, {32: (2, 4), 34: (2, 16), 35: (1, 1), 43: (1, 16), 44: (0, 1), 48: (0, 1), 52: (0, 16)}),
        (GRANULE_16K, {32: (2, 1), 36: (2, 1), 40: (2, 16), 41: (1, 1), 51: (1, 16), 52: (0, 1)}),
        (GRANULE_64K, {32: (2, 1), 42: (2, 1), 46: (2, 16), 47: (1, 1), 52: (1, 1)}),
    ],
    ids=["4k", "16k", "64k"],
)
def test_roots(geometry, roots):
    found = {}
    for bits in roots:
        level = start_level_of(get_vtcr(bits, Features(), geometry), geometry)
        found[bits] = level, geometry.root_pages(bits, level)
    assert found == roots


def test_vtcr_of_the_granules():
    """TG0, and SL0, which counts from another level for each."""
    bits = [get_vtcr(48, Features(), geometry) for geometry in (GRANULE_4K, GRANULE_16K, GRANULE_64K)]
    assert [vtcr >> 14 & 3 for vtcr in bits] == [0, 2, 1]
    assert [vtcr >> 6 & 3 for vtcr in bits] == [2, 2, 2]
    assert [vtcr >> 16 & 7 for vtcr in bits] == [5, 5, 5]
    assert get_vtcr(52, Features(pa_bits_52=True), GRANULE_64K) >> 16 & 7 == 6
    assert get_vtcr(52, Features(pa_bits_52=True), GRANULE_16K) >> 16 & 7 == 5
    assert [get_vtcr(40, Features(parange=range_)) >> 16 & 7 for range_ in range(8)] == [0, 1, 2, 3, 4, 5, 5, 5]


@pytest.mark.parametrize(
    ("pte", "level", "address", "text"),
    [
        (0x8000_A7D9, 2, AddressFormat(16), "block pa=0xa000080000000 RWX memattr=0x6 AF"),
        (0x3_0000_8000_07D9, 2, AddressFormat(14, True), "block pa=0xf000080000000 RWX memattr=0x6 AF"),
        (0x3_0000_4400_0303, 1, AddressFormat(12, True), "table -> 0xf000044000000"),
        (0x1_0000_0701, 1, AddressFormat(14), "reserved 0x100000701"),
    ],
)
def test_describe(pte, level, address, text):
    assert describe(pte, level, False, address) == text
    normal = text.replace("memattr=0x6", "normal")
    assert describe(pte, level, True, address) == normal, hex(MEMATTR_NORMAL_FWB)


def test_only_these_granules():
    with pytest.raises(ValueError, match="page_shift"):
        Geometry(15)
