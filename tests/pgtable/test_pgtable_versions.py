"""What differs between the versions, each on a page table of its own."""

from dataclasses import fields

import pytest

from pgtable import LINUX_6_1, LINUX_6_12, TLBI_TTL_UNKNOWN, VERSIONS, Features, LinuxVersion, Prot, WalkFlags
from pgtable.pte import AF, LOCKED, MEMATTR, MEMATTR_NORMAL_FWB

PAGE, BLOCK, PHYS = 0x1000, 0x20_0000, 0x8000_0000
RW = Prot.R | Prot.W
EAGAIN = 11
each_version = pytest.mark.parametrize("version", VERSIONS.values(), ids=lambda version: version.name)


@each_version
def test_a_version_is_told_by_its_name_and_its_file(version: LinuxVersion) -> None:
    assert VERSIONS[version.name] is version
    assert len({one.files for one in VERSIONS.values()}) == len(VERSIONS)
    others = [one for one in VERSIONS.values() if one is not version]
    for one in others:
        differing = [field.name for field in fields(one) if getattr(one, field.name) != getattr(version, field.name)]
        assert len(differing) > 2, "a version that differs in nothing needs no entry"


@pytest.mark.parametrize(
    ("version", "calls"),
    [
        (
            LINUX_6_1,
            {
                "split": lambda s2, cache: s2.split(0, PAGE, cache),
                "create_unlinked": lambda s2, cache: s2.create_unlinked(0, 2, RW, cache, False),
                "free_unlinked": lambda s2, cache: s2.free_unlinked(0x4400_0000, 2),
                "test_clear_young": lambda s2, cache: s2.test_clear_young(0, PAGE, False),
                "tlb_flush_vmid_range": lambda s2, cache: s2.tlb_flush_range(0, PAGE),
                "walk flags": lambda s2, cache: s2.map(0, PAGE, PHYS, RW, cache, WalkFlags.SHARED),
                "flags 0x10": lambda s2, cache: s2.walk(0, PAGE, WalkFlags.HANDLE_FAULT, lambda *_: 0),
            },
        ),
        (LINUX_6_12, {"mkold": lambda s2, cache: s2.mkold(0), "is_young": lambda s2, cache: s2.is_young(0)}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_a_version_lacks_is_an_error(make_world, version, calls) -> None:
    world = make_world(version=version)
    assert version.lacks - {"pgd_size"} <= calls.keys()  # root_size belongs to no table, and so to no version
    for what, call in calls.items():
        with pytest.raises(ValueError, match=f"Linux {version.name} has no .*{what}"):
            call(world.s2, world.cache)
    assert world.log == []


@each_version
def test_the_same_life_ends_without_leaks(make_world, version: LinuxVersion) -> None:
    world = make_world(version=version, features=Features(fwb=False))
    s2, cache = world.s2, world.cache
    for ret in (
        s2.map(0, 2 * BLOCK, PHYS, Prot.R | Prot.W | Prot.X, cache),
        s2.map(PAGE, PAGE, 0x9000_0000, RW, cache),
        s2.set_owner(8 * PAGE, 2 * PAGE, cache, 1),
        s2.map(8 * PAGE, PAGE, PHYS, RW | Prot.SW1, cache),
        s2.map(0, BLOCK, PHYS, RW, None),
        s2.map(1 << 30, 1 << 30, PHYS, RW, cache),
        s2.map((1 << 30) + BLOCK, PAGE, PHYS, RW, cache),
        s2.map(1 << 30, 1 << 30, PHYS, RW, None),
        s2.relax_perms(BLOCK, Prot.X),
        s2.wrprotect(0, 4 * BLOCK),
    ):
        assert ret == 0
        world.check_refcounts()
    assert s2.mkyoung(0) & AF
    assert s2.unmap(0, 1 << 39) == 0
    world.check_refcounts()
    assert len(world.tables()) == 2
    assert ("warn" in world.kinds()) is False


def test_6_1_stops_at_a_mapping_that_is_there(make_world) -> None:
    for version, ret, mapped in ((LINUX_6_1, -EAGAIN, 0), (LINUX_6_12, 0, 1)):
        world = make_world(version=version)
        assert world.s2.map(0, PAGE, PHYS, RW, world.cache) == 0
        assert world.s2.map(0, 2 * PAGE, PHYS, RW | Prot.X, world.cache) == ret
        assert world.s2.get_leaf(PAGE)[1] & 1 == mapped


def test_6_1_writes_a_free_entry_once_and_counts_it_after(make_world) -> None:
    world = make_world(version=LINUX_6_1)
    assert world.s2.map(0, PAGE, PHYS, RW, world.cache) == 0
    assert [kind for kind in world.kinds() if kind in ("plain", "release", "get_page")] == ["release", "get_page"] * 3


def test_6_1_clears_what_is_in_the_way(make_world) -> None:
    world = make_world(version=LINUX_6_1)
    assert world.s2.map(0, PAGE, PHYS, RW, world.cache) == 0
    world.took()
    assert world.s2.map(0, PAGE, PHYS + PAGE, RW, world.cache) == 0
    log = world.took()
    assert [event[0] for event in log] == ["plain", "tlbi_ipa", "put_page", "dcache", "release", "get_page", "dsb"]
    assert log[0][-1] == 0
    assert world.s2.set_owner(0, PAGE, world.cache, 1) == 0
    world.took()
    assert world.s2.map(0, PAGE, PHYS, RW, world.cache) == 0
    assert world.kinds() == ["put_page", "dcache", "release", "get_page", "dsb"], "an owner needs no invalidation"


def test_6_1_goes_on_into_a_table_that_it_took_out(make_world) -> None:
    world = make_world(version=LINUX_6_1)
    assert world.s2.map(0, 2 * PAGE, PHYS, RW, world.cache) == 0
    table = world.tables()[-1][0]
    world.took()
    assert world.s2.map(0, BLOCK, PHYS, RW, None) == 0
    kinds = world.kinds()
    assert kinds[:4] == ["plain", "tlbi_vmid", "put_page", "put_page"]
    assert kinds[4:] == ["dcache", "release", "get_page", "put_page", "put_page", "dsb"]
    assert world.pool.page_count(table) == 0
    assert LOCKED not in [event[-1] for event in world.log]


def test_6_1_invalidates_the_instruction_cache_for_an_owner(make_world) -> None:
    world = make_world(version=LINUX_6_1)
    assert world.s2.set_owner(PAGE, PAGE, world.cache, 1) == 0
    assert ("icache", 0, PAGE) in world.log


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (LINUX_6_1, (0, ("tlbi_ipa", BLOCK, 0))),
        (LINUX_6_12, (-EAGAIN, ("tlbi_ipa_nsh", BLOCK, TLBI_TTL_UNKNOWN))),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_relaxing_what_is_not_mapped(make_world, version, expected) -> None:
    world = make_world(version=version)
    assert world.s2.relax_perms(BLOCK, Prot.R) == expected[0]
    assert world.log == [expected[1]]


def test_6_1_has_no_memory_type_but_device_and_normal(make_world) -> None:
    """The bit of the other one means nothing to it."""
    world = make_world(version=LINUX_6_1)
    assert world.s2.map(0, PAGE, PHYS, RW | Prot.X | Prot.NORMAL_NC, world.cache) == 0
    assert world.s2.get_leaf(0)[1] & MEMATTR == MEMATTR_NORMAL_FWB


def test_ageing_by_page(make_world) -> None:
    world = make_world(version=LINUX_6_1)
    s2 = world.s2
    assert (s2.mkold(0), s2.is_young(0)) == (0, False)
    assert s2.map(0, BLOCK, PHYS, RW, world.cache) == 0
    world.took()
    assert s2.is_young(5 * PAGE + 3)
    assert world.took() == []
    old = s2.mkold(BLOCK - 1)
    assert old & AF
    assert [event[0] for event in world.took()] == ["plain"]
    assert not s2.is_young(0)
    assert s2.mkold(0) == old & ~AF
    assert world.took() == [], "no store where nothing changes"
    assert (s2.mkold(1 << 40), s2.is_young(1 << 40), s2.mkyoung(1 << 40)) == (0, False, 0)
    assert world.took() == [("dsb", "ishst")], "mkyoung's, whatever came of it"
