"""The ways to record owners that were weighed before Linux's.

Thread "KVM: arm64: Use page-table to track page ownership", 2021-03.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pgtable import OWNERSHIPS, Features, Memcache, OwnershipStage2, PagePool, Prot, get_vtcr
from pgtable.ownership import BIT_63, PROT_NONE, Tells
from pgtable.pte import FORMAT_4K, PHYS_INVALID, VALID, is_valid

PAGE, BLOCK = 4096, 2 << 20
EINVAL, ENOMEM = -22, -12
RWX = Prot.R | Prot.W | Prot.X

every_way = pytest.mark.parametrize("way", OWNERSHIPS)
UNCHECKED = ("flag-unchecked", "minus-one-unchecked")
"""Those that can record no owner but 0."""


class Pool(PagePool):
    """Writes cache maintenance down."""

    def __init__(self) -> None:
        super().__init__(base=0x4000_0000, pages=64)
        self.cleaned: list[int] = []

    def dcache_clean_inval_poc(self, pa: int, size: int) -> None:
        self.cleaned.append(pa)


class World:
    """A stage 2 of one way, on a pool of its own, with a full memcache."""

    def __init__(self, way: str, fwb: bool = True) -> None:
        self.warnings: list[str] = []
        features = Features(fwb=fwb)
        self.pool = Pool()
        self.cache = Memcache()
        self.s2 = OwnershipStage2(get_vtcr(40, features), self.pool, self, features, ownership=OWNERSHIPS[way])
        assert self.s2.init() == 0
        assert self.cache.topup(self.pool, 16) == 0

    def leaf(self, addr: int) -> tuple[int, int]:
        ret, pte, level = self.s2.get_leaf(addr)
        assert ret == 0
        return pte, level

    def own(self, addr: int, size: int, owner: int = 1) -> int:
        return self.s2.set_owner(addr, size, self.cache, owner)

    def map(self, addr: int, size: int, phys: int) -> int:
        return self.s2.map(addr, size, phys, RWX, self.cache)

    # Hooks
    def warn(self, where: str) -> None:
        self.warnings.append(where)

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: None


@every_way
def test_owner_ids(way: str) -> None:
    for owner in (2, 255):
        assert World(way).own(0, PAGE, owner) == EINVAL
    for owner in (-1, 256):
        with pytest.raises(ValueError, match="owner_id must be"):
            World(way).own(0, PAGE, owner)


@every_way
def test_an_owner_is_kept_in_an_invalid_entry_that_counts(way: str) -> None:
    world = World(way)
    ret = world.own(PAGE, PAGE)
    if way in UNCHECKED:
        assert (ret, world.leaf(PAGE), world.warnings) == (EINVAL, (0, 3), ["stage2_map_walk_leaf"])
        return
    pte, level = world.leaf(PAGE)
    assert (ret, level, is_valid(pte)) == (0, 3, False)
    assert pte == (PAGE | PROT_NONE | 0x1A if way == "prot-none" else 1 << 2)
    assert world.s2.unmap(0, BLOCK) == 0
    assert world.leaf(PAGE) == (0, 2 if OWNERSHIPS[way].unmaps_by_owner else 1), (
        "that one makes a block of it, of nothing"
    )
    assert world.warnings == []


@every_way
def test_a_page_is_taken_back_by_mapping_it(way: str) -> None:
    world = World(way)
    world.own(0, PAGE)
    assert world.map(0, PAGE, 0x8000_0000) == 0
    assert world.leaf(0) == (0x8000_07DB, 3)
    assert world.s2.unmap(0, PAGE) == 0
    assert world.leaf(0)[0] == 0


@every_way
def test_mapping_is_as_ever_where_addresses_are_memory(way: str) -> None:
    world, linux = World(way), World("linux")
    for one in (world, linux):
        assert one.map(BLOCK, 2 * BLOCK, 0x8000_0000 + BLOCK) == 0
        assert one.map(BLOCK + PAGE, PAGE, 0x9000_0000) == 0
    assert str(world.s2) == str(linux.s2)


def test_blocks_are_recorded_where_the_check_lets_them() -> None:
    """Aligned, and in a range that begins a page earlier."""
    levels = {}
    for way in OWNERSHIPS:
        aligned, shifted = World(way), World(way)
        aligned.own(BLOCK, BLOCK)
        shifted.own(BLOCK - PAGE, BLOCK + PAGE)
        levels[way] = aligned.leaf(BLOCK)[1], shifted.leaf(BLOCK)[1]
    assert {way for way, found in levels.items() if found == (2, 2)} == {
        "prot-none",
        "flag",
        "minus-one",
        "bit-63",
        "unmap-by-owner",
        "unmap-by-owner-cleaned",
    }
    assert {way for way, found in levels.items() if found == (2, 3)} >= {"bit-63-unchecked", "nonzero", "nonzero-unmap"}
    assert levels["linux"] == levels["zero-unmaps"] == (3, 3)


def test_an_address_that_is_advanced_becomes_one() -> None:
    """-1 is not aligned, which ends set_owner at the second page; map rounds it down and goes on at address 0."""
    world = World("minus-one-advanced")
    assert world.own(0, 2 * PAGE) == EINVAL
    assert [world.leaf(addr)[0] for addr in (0, PAGE)] == [4, 0]
    assert world.warnings == ["stage2_map_walk_leaf"]
    for way, entries in (("minus-one-advanced", [0, 0x7DB]), ("minus-one", [0, 0]), ("linux", [0, 0])):
        world = World(way)
        assert world.map(0, 2 * PAGE, PHYS_INVALID) == 0
        assert [world.leaf(addr)[0] for addr in (0, PAGE)] == entries


def test_an_address_is_never_refused_where_none_is_special() -> None:
    """It loses the bits that an entry has no room for."""
    for way, one in OWNERSHIPS.items():
        world = World(way)
        assert world.map(0, PAGE, 1 << 48) == 0
        assert world.leaf(0)[0] == (0 if one.tells is Tells.ADDRESS else 0x7DB)
        assert world.pool.cleaned == ([] if one.tells is Tells.ADDRESS else [0])
        assert world.map(0, PAGE, BIT_63 | 0x8000_0000) == 0
        assert FORMAT_4K.to_phys(world.leaf(0)[0]) == (0 if one.tells is Tells.ADDRESS else 0x8000_0000)


@every_way
def test_owner_0(way: str) -> None:
    world = World(way)
    world.own(0, PAGE)
    assert world.s2.set_owner(0, PAGE, world.cache, 0) == (EINVAL if way == "minus-one-unchecked" else 0)
    entry = world.leaf(0)[0]
    assert entry == (VALID | 2 if way == "nonzero" else 0)


def test_owner_0_needs_no_memory_where_it_unmaps() -> None:
    rets = {way: World(way).s2.set_owner(0, PAGE, None, 0) for way in OWNERSHIPS}
    assert {way for way, ret in rets.items() if ret == 0} == {"prot-none", "nonzero-unmap", "zero-unmaps"}
    assert set(rets.values()) == {0, ENOMEM}


def test_unmapping_by_owner_needs_memory_and_cleans_no_cache() -> None:
    for way, (ret, cleaned) in {"unmap-by-owner": (ENOMEM, 0), "minus-one": (0, 1)}.items():
        world = World(way, fwb=False)
        assert world.map(BLOCK, BLOCK, 0x8000_0000 + BLOCK) == 0
        world.pool.cleaned.clear()
        assert world.s2.unmap(BLOCK, PAGE) == ret
        assert len(world.pool.cleaned) == cleaned
    for way, pages in (("unmap-by-owner", []), ("unmap-by-owner-cleaned", [0x8000_0000])):
        world = World(way, fwb=False)
        assert world.map(0, PAGE, 0x8000_0000) == 0
        world.pool.cleaned.clear()
        assert (world.s2.unmap(0, PAGE), world.pool.cleaned, world.leaf(0)) == (0, pages, (0, 3))


@every_way
def test_nothing_is_leaked(way: str) -> None:
    world = World(way)
    world.own(BLOCK - PAGE, BLOCK + 2 * PAGE)
    world.map(BLOCK, PAGE, 0x8000_0000)
    world.own(BLOCK, PAGE, 0)
    world.s2.destroy()
    assert world.pool.pages_in_use() == len(world.cache.pages)
