"""Two observations of one program: what counts as a difference, in which tier, and under which bucket."""

from __future__ import annotations

import random
from array import array
from dataclasses import replace

import pytest
from hypothesis import given
from observations import changed, observe, relabelled, with_cache, with_entry, with_events, with_page, with_record
from strategies import lively_programs

from harness.errors import BadInput
from harness.model.executor import Model
from harness.observation.descriptors import entry_address, is_table_entry
from harness.observation.events import DSB, IN_CALL, Event, events_of
from harness.observation.layout import (
    MEMCACHE,
    POOL_MISUSE,
    SPLIT_CACHE,
    UBSAN,
    UNDER_TEST,
    WARN,
    Cache,
    Complaint,
    Holder,
    Observation,
    Page,
    Root,
)
from harness.observation.tables import leaked, paired_entries, paired_tables, sane_level
from harness.program.machine import Machine
from harness.program.ops import FAMILIES
from harness.program.program import Program
from harness.verdict.compare.difference import Difference
from harness.verdict.compare.differences import differences
from harness.verdict.tiers import ALL_TIERS, DEFAULT_TIERS, ORDER_EXPECTED, Tier, format_tiers, parse_tiers

TEXT = """
map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=3
map ipa=0x1000 size=8K phys=0x80001000 prot=rw mc=4
get_leaf ipa=0x2000
walk ipa=0x0 size=4M flags=table_pre+table_post
walk ipa=0x1000 size=8K flags=leaf
"""
SEEN = observe(TEXT)
ROOT = 0x4400_0000
LEVEL_2 = entry_address(SEEN.pages[ROOT].entries[0])
LEVEL_3 = entry_address(SEEN.pages[LEVEL_2].entries[0])
FREE = 0x4404_0000


def only(left: Observation, right: Observation, tiers: frozenset[Tier] = DEFAULT_TIERS) -> Difference:
    """The one difference there is, the same from both sides."""
    found, mirrored = differences(left, right, tiers), differences(right, left, tiers)
    assert len(found) == 1, found
    assert [(one.bucket, one.left, one.right) for one in mirrored] == [
        (one.bucket, one.right, one.left) for one in found
    ]
    return found[0]


@given(lively_programs)
def test_the_same_program_twice_has_no_differences(program: Program) -> None:
    left, right = Model().observe(program), Model().observe(program)
    assert differences(left, right) == []


# Results


@pytest.mark.parametrize(
    ("record", "parts", "bucket", "left", "right"),
    [
        (1, {"ret": -12}, "results-map-return", "0", "-ENOMEM"),
        (1, {"ret": None}, "results-map-return", "0", "budget"),
        (0, {"outs": (0x8000_3558, 40, 1, 2)}, "results-init-vtcr", "0x802d3558", "0x80003558"),
        (0, {"outs": (0x802D_3558, 40, 1, 3)}, "results-init-root_pages", "0x2", "0x3"),
        (3, {"outs": (0x4000_0080_0027_DB, 2)}, "results-get_leaf-level", "0x3", "0x2"),
        (3, {"outs": ()}, "results-get_leaf-pte", "0x400000800027db", "none"),
    ],
)
def test_another_result(record: int, parts: dict[str, object], bucket: str, left: str, right: str) -> None:
    found = only(SEEN, with_record(SEEN, record, **parts))
    assert (found.tier, found.record, found.bucket) == (Tier.RESULTS, record, bucket)
    assert (found.left, found.right) == (left, right)


@pytest.mark.parametrize("at", range(8))
def test_any_other_word_of_a_visit(at: int) -> None:
    outs = list(SEEN.records[5].outs)
    outs[at] ^= 1 << 50
    found = only(SEEN, with_record(SEEN, 5, outs=tuple(outs)))
    assert (found.record, found.bucket) == (5, "results-walk-visit")
    assert found.left.startswith(f"#{at // 4} leaf level=0x3 ipa={0x1000 * (1 + at // 4):#x} pte=0x4000008000")


def test_fewer_visits() -> None:
    found = only(SEEN, with_record(SEEN, 5, outs=SEEN.records[5].outs[:4]))
    assert (found.bucket, found.left, found.right) == ("results-walk-visits", "2 visits", "1 visit")


def test_fewer_records() -> None:
    found = only(SEEN, changed(SEEN, records=SEEN.records[:4]), frozenset({Tier.RESULTS}))
    assert (found.bucket, found.record, found.left, found.right) == ("results-walk-ran", 4, "run", "not run")


# Tables


@pytest.mark.parametrize(
    ("pa", "index", "bit", "level", "where"),
    [
        (ROOT, 511, 0, 1, 511 << 30),
        (ROOT + 4096, 1, 2, 1, 513 << 30),
        (LEVEL_2, 1, 6, 2, 0x20_0000),
        (LEVEL_3, 1, 54, 3, 0x1000),
        (LEVEL_3, 1, 12, 3, 0x1000),
        (LEVEL_3, 511, 63, 3, 0x1F_F000),
        (LEVEL_2, 0, 59, 2, 0),
    ],
)
def test_one_other_bit_of_an_entry(pa: int, index: int, bit: int, level: int, where: int) -> None:
    entry = SEEN.pages[pa].entries[index]
    found = only(SEEN, with_entry(SEEN, pa, index, entry ^ 1 << bit))
    assert (found.tier, found.record, found.level) == (Tier.TABLES, None, level)
    assert found.bucket == f"tables-walk-entry-level{level}"
    assert (found.left, found.right) == (f"{where:#x}: {entry:#x}", f"{where:#x}: {entry ^ 1 << bit:#x}")


def test_a_block_where_the_other_side_has_a_table() -> None:
    block = 0x8000_0000 | 0x7D9
    found = differences(SEEN, with_entry(SEEN, LEVEL_2, 0, block))
    assert [(one.tier, one.what) for one in found] == [(Tier.TABLES, "entry"), (Tier.ACCOUNTING, "leaked pages")]


def test_another_root() -> None:
    found = only(SEEN, changed(SEEN, roots=()), frozenset({Tier.TABLES}))
    assert (found.bucket, found.left, found.right) == ("tables-walk-root", "2 pages", "0 pages")


# Several tables


def of_tables(*roots: Root) -> Observation:
    """What is seen of several tables under test, with a page that the second one lost."""
    lost = Page(FREE, 1, 1, array("Q", bytes(4096)))
    return changed(SEEN, roots=roots, pages={**SEEN.pages, FREE: lost})


def held_by(*numbers: int, pa: int = ROOT, level: int = 1) -> Root:
    assert SEEN.root is not None
    return replace(SEEN.root, pa=pa, level=level, holders=tuple(Holder(UNDER_TEST, number) for number in numbers))


def test_a_root_that_two_tables_share_is_shown_once() -> None:
    shared = of_tables(held_by(0, 1))
    assert [(ipa, level) for ipa, level, _, _ in paired_tables(shared, shared)] == [
        (0, 1),
        (1 << 39, 1),
        (0, 2),
        (0, 3),
    ]
    assert differences(shared, shared) == []


def test_whether_a_root_is_shared() -> None:
    shared, apart = of_tables(held_by(0, 1)), of_tables(held_by(0), held_by(1))
    found = differences(shared, apart, frozenset({Tier.TABLES}))
    assert [(one.bucket, one.left, one.right) for one in found] == [
        ("tables-walk-shared_root", "table 0 under test, table 1 under test (m1)", "table 0 under test")
    ]
    assert {one.what for one in differences(apart, shared, frozenset({Tier.TABLES}))} == {"shared root"}


def test_which_of_several_tables_is_said() -> None:
    whole = of_tables(held_by(0), held_by(1, pa=LEVEL_3, level=3))
    found = only(whole, of_tables(held_by(0)), frozenset({Tier.TABLES}))
    assert (found.what, found.left, found.right) == ("root", "of table 1: 2 pages", "of table 1: 0 pages")
    found = only(whole, with_page(whole, FREE, refcount=2), frozenset({Tier.ACCOUNTING}))
    assert found.bucket == "accounting-walk-leaked_pages"
    assert (found.left, found.right) == ("of table 1: 1 refs with 0 used", "of table 1: 2 refs with 0 used")
    found = only(whole, with_page(whole, ROOT, refcount=9), frozenset({Tier.ACCOUNTING}))
    assert found.right == "of table 0: table at 0x0: 9"
    found = only(whole, with_page(whole, LEVEL_2, table=1), frozenset({Tier.ACCOUNTING}))
    assert (found.what, found.left, found.right) == (
        "whose page",
        "table at 0x0: for table 0",
        "table at 0x0: for table 1",
    )


# Renaming


def test_tables_elsewhere_are_no_difference() -> None:
    """The same program with the pool elsewhere: every table's address differs, in entries and in visits."""
    elsewhere = observe(TEXT, pool_base=0x1_0000_0000)
    assert elsewhere.words != SEEN.words
    assert elsewhere.records[4].outs != SEEN.records[4].outs
    assert differences(SEEN, elsewhere) == []


@given(lively_programs)
def test_any_program_with_tables_elsewhere(program: Program) -> None:
    """But for what asks the hardware, which walks tables only where they really lie."""
    ops = tuple(op for op in program.ops if op.definition not in FAMILIES["guest"])
    left = Model().observe(Program(ops))
    right = Model().observe(Program(ops, Machine.of(pool_base=0x7_0000_0000)))
    assert differences(left, right) == []


@pytest.mark.parametrize("seed", range(5))
def test_tables_in_any_order_are_no_difference(seed: int) -> None:
    pages = [pa for pa in SEEN.pages if pa not in (ROOT, ROOT + 4096)]
    shuffled = pages[:]
    while shuffled == pages:
        random.Random(seed).shuffle(shuffled)
    assert differences(SEEN, relabelled(SEEN, dict(zip(pages, shuffled, strict=True)))) == []


def test_leaves_are_not_renamed() -> None:
    """A leaf's address is memory of the guest, even if it looks like a table page's."""
    left = observe(f"map ipa=0x0 size=2M phys={ROOT:#x} prot=r mc=1\nwalk ipa=0x0 size=2M flags=leaf\n")
    right = observe(f"map ipa=0x0 size=2M phys={ROOT + (1 << 21):#x} prot=r mc=1\nwalk ipa=0x0 size=2M flags=leaf\n")
    assert [one.bucket for one in differences(left, right)] == [
        "results-walk-visit",
        "tables-walk-entry-level2",
        "events-map-dcache_clean_inval_poc",
    ]
    page = SEEN.pages[LEVEL_3].entries[1]
    found = only(SEEN, with_entry(SEEN, LEVEL_3, 1, page - entry_address(page) + LEVEL_3))
    assert found.bucket == "tables-walk-entry-level3"


@pytest.mark.parametrize(("first", "second"), [(LEVEL_2, LEVEL_3), (LEVEL_3, LEVEL_2)])
def test_two_tables_are_not_one_in_visits(first: int, second: int) -> None:
    """A renaming gives one name to one page, in either direction."""
    outs = [value - first + second if value & ~0xFFF == first else value for value in SEEN.records[4].outs]
    found = only(SEEN, with_record(SEEN, 4, outs=tuple(outs)))
    assert found.bucket == "results-walk-visit"


def test_a_visit_s_table_may_not_change_its_name() -> None:
    outs = list(SEEN.records[4].outs)
    outs[-1] = FREE | 3
    found = only(SEEN, with_record(SEEN, 4, outs=tuple(outs)))
    assert found.right.startswith("#3 table_post level=0x1")


# Accounting


@pytest.mark.parametrize(
    ("parts", "bucket", "left", "right"),
    [
        ({"allocs": 9}, "accounting-walk-pages_allocated", "7", "9"),
        ({"frees": 1}, "accounting-walk-pages_freed", "0", "1"),
    ],
)
def test_other_counts(parts: dict[str, int], bucket: str, left: str, right: str) -> None:
    found = only(SEEN, changed(SEEN, **parts))
    assert (found.tier, found.bucket, found.left, found.right) == (Tier.ACCOUNTING, bucket, left, right)


def test_a_page_less_in_the_memcache_is_also_a_leaked_page() -> None:
    found = differences(SEEN, with_cache(SEEN, MEMCACHE, SEEN.memcache[:-1]))
    assert [one.bucket for one in found] == ["accounting-walk-memcache_level", "accounting-walk-leaked_pages"]
    assert [(one.left, one.right) for one in found] == [("3", "2"), ("none", "1 refs with 0 used")]


@pytest.mark.parametrize(("pa", "level", "where"), [(ROOT, 1, 0), (ROOT + 4096, 1, 1 << 39), (LEVEL_3, 3, 0)])
def test_another_refcount(pa: int, level: int, where: int) -> None:
    count = SEEN.pages[pa].refcount
    found = only(SEEN, with_page(SEEN, pa, refcount=count + 1))
    assert found.bucket == f"accounting-walk-refcount-level{level}"
    assert (found.left, found.right) == (f"table at {where:#x}: {count}", f"table at {where:#x}: {count + 1}")


def test_leaked_pages_are_compared_by_their_references() -> None:
    forgotten = "map ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=2\ninit\n"
    left = observe(forgotten)
    assert [page.refcount for page in leaked(left)] == [2, 1, 2, 2]
    assert differences(left, observe(forgotten, pool_base=1 << 40)) == []
    found = only(left, with_page(left, ROOT, refcount=3))
    assert found.bucket == "accounting-init-leaked_pages"
    assert found.left == "1 refs with 0 used, 2 refs with 1 used, 2 refs with 1 used, 2 refs with 1 used"
    assert found.right == "1 refs with 0 used, 2 refs with 1 used, 2 refs with 1 used, 3 refs with 1 used"


def test_a_stray_store_into_a_cached_page_is_seen() -> None:
    pa = SEEN.memcache[0]
    found = only(SEEN, with_page(SEEN, pa, entries=[7, *SEEN.pages[pa].entries[1:]]))
    assert found.bucket == "accounting-walk-memcache_contents"


# Unlinked tables and the split cache

UNLINKED = observe(
    "create_unlinked phys=0x80000000 level=1 prot=rw mc=1\nsplit ipa=0x0 size=4K mc=2\ndestroy\n", budget=10000
)


def test_unlinked_tables_are_tables_wherever_they_lie() -> None:
    (table,) = UNLINKED.roots
    assert leaked(UNLINKED) == []
    names = {table.pa: table.pa + (1 << 20), UNLINKED.split_cache[0]: 1 << 30}
    assert differences(UNLINKED, relabelled(UNLINKED, names)) == []
    found = only(UNLINKED, with_entry(UNLINKED, table.pa, 3, 0))
    assert (found.bucket, found.left.split(":")[0]) == ("tables-destroy-entry-level2", "0x600000")
    found = only(UNLINKED, with_page(UNLINKED, table.pa, refcount=512))
    assert found.bucket == "accounting-destroy-refcount-level2"


def test_an_unlinked_table_that_one_side_has_freed() -> None:
    found = differences(UNLINKED, changed(UNLINKED, roots=()))
    assert [one.bucket for one in found] == ["accounting-destroy-unlinked_tables", "accounting-destroy-leaked_pages"]


def test_the_split_cache_is_not_the_memcache() -> None:
    found = differences(UNLINKED, with_cache(with_cache(UNLINKED, MEMCACHE, UNLINKED.split_cache), SPLIT_CACHE, ()))
    assert [one.bucket for one in found] == [
        "accounting-destroy-memcache_level",
        "accounting-destroy-split_cache_level",
    ]
    pa = UNLINKED.split_cache[0]
    found_one = only(UNLINKED, with_page(UNLINKED, pa, entries=[7, *UNLINKED.pages[pa].entries[1:]]))
    assert found_one.bucket == "accounting-destroy-split_cache_contents"


def test_an_mmu_that_one_side_alone_has() -> None:
    """It has a split cache, whatever is in that."""
    more = changed(UNLINKED, caches=(*UNLINKED.caches, Cache(SPLIT_CACHE, 1, ())))
    (found,) = differences(UNLINKED, more)
    assert (found.bucket, found.left, found.right) == ("accounting-destroy-split_cache_level", "no such MMU", "0")


# Complaints


@pytest.mark.parametrize(
    ("complaint", "bucket"),
    [
        (Complaint(WARN, 0, 0), "events-map-WARN"),
        (Complaint(UBSAN, 6, 0), "events-map-shift-out-of-bounds"),
        (Complaint(POOL_MISUSE, 2, FREE), "accounting-map-pool-bad-put"),
        (Complaint(POOL_MISUSE, 5, FREE), "accounting-map-pool-poison"),
    ],
)
def test_complaints_of_an_op(complaint: Complaint, bucket: str) -> None:
    found = only(SEEN, with_record(SEEN, 1, complaints=(complaint,)))
    assert (found.bucket, found.record) == (bucket, 1)
    assert (found.left, found.right) == ("none", str(complaint))


def test_complaints_at_the_end() -> None:
    found = only(SEEN, changed(SEEN, final_complaints=(Complaint(POOL_MISUSE, 5, FREE),)))
    assert (found.bucket, found.record) == ("accounting-walk-pool-poison", None)


def test_where_a_misused_page_lies_does_not_matter_but_how_often_does() -> None:
    def misused(*addresses: int) -> Observation:
        return with_record(SEEN, 1, complaints=tuple(Complaint(POOL_MISUSE, 2, pa) for pa in addresses))

    assert differences(misused(FREE), misused(FREE + 4096)) == []
    assert only(misused(FREE), misused(FREE, FREE)).bucket == "accounting-map-pool-bad-put"


def test_both_kinds_of_complaints_have_their_tiers() -> None:
    both = (Complaint(WARN, 0, 0), Complaint(POOL_MISUSE, 4, 0))
    found = differences(SEEN, with_record(SEEN, 2, complaints=both))
    assert [one.bucket for one in found] == ["accounting-map-pool-bad-free", "events-map-WARN"]


# All together


def test_earlier_tiers_come_first_and_tiers_can_be_chosen() -> None:
    seen = observe(f"{TEXT}probe ipa=0x0\n")
    probe = len(seen.records) - 1
    worse = with_record(seen, 3, ret=-22, complaints=(Complaint(WARN, 0, 0),))
    worse = with_page(with_entry(worse, LEVEL_2, 1, 0), LEVEL_2, refcount=2)
    worse = with_record(worse, probe, outs=(seen.records[probe].outs[0], 1))
    worse = with_events(worse, 2, [*events_of(seen.records[2].events), Event(DSB | IN_CALL, 11, 0)])
    found = differences(seen, worse, ALL_TIERS)
    assert [one.tier for one in found] == list(Tier)
    for tier in Tier:
        assert [one.tier for one in differences(seen, worse, frozenset({tier}))] == [tier]
    assert differences(seen, worse, frozenset()) == []


def test_results_are_in_program_order() -> None:
    worse = with_record(with_record(SEEN, 5, ret=-1), 2, ret=-1)
    assert [one.record for one in differences(SEEN, worse)] == [2, 5]


def test_buckets_suit_file_names() -> None:
    found = only(SEEN, changed(SEEN, allocs=9))
    assert found.bucket.replace("_", "").replace("-", "").isalnum()


def test_tiers_by_name() -> None:
    assert parse_tiers("results, events") == {Tier.RESULTS, Tier.EVENTS}
    assert parse_tiers(format_tiers(ALL_TIERS)) == ALL_TIERS
    assert format_tiers(ALL_TIERS) == "results,tables,accounting,translation,events,instructions,effects"
    assert format_tiers(DEFAULT_TIERS) == "results,tables,accounting,translation,events,instructions"
    assert format_tiers(ORDER_EXPECTED) == "results,tables,accounting,translation,effects"


@pytest.mark.parametrize("text", ["", "result", "RESULTS", "results,", "results;tables", "all"])
def test_names_that_are_no_tiers(text: str) -> None:
    with pytest.raises(BadInput, match=f"is not a tier: expected some of {format_tiers(DEFAULT_TIERS)}"):
        parse_tiers(text)


# Pairs


def test_paired_tables_and_entries_go_from_the_root_down() -> None:
    elsewhere = observe(TEXT, pool_base=0x1_0000_0000)
    assert [(ipa, level) for ipa, level, _, _ in paired_tables(SEEN, elsewhere)] == [
        (0, 1),
        (1 << 39, 1),
        (0, 2),
        (0, 3),
    ]
    pairs = [(ipa, level, is_table_entry(a, level)) for ipa, level, a, _ in paired_entries(SEEN, elsewhere)]
    assert pairs == [(0, 1, True), (0, 2, True), (0x20_0000, 2, False), (0x1000, 3, False), (0x2000, 3, False)]


def test_a_table_that_points_to_itself_is_shown_once() -> None:
    looped = with_entry(SEEN, LEVEL_2, 0, LEVEL_2 | 3)
    assert [level for _, level, _, _ in paired_tables(looped, looped)] == [1, 1, 2]


def test_the_root_s_level_is_known_or_taken_for_0() -> None:
    assert SEEN.root is not None
    levels = {level: sane_level(replace(SEEN.root, level=level)) for level in (-2, -1, 1, 3, 4, 1 << 32)}
    assert levels == {-2: 0, -1: -1, 1: 1, 3: 3, 4: 0, 1 << 32: 0}


def test_another_shape_of_the_root() -> None:
    assert SEEN.root is not None
    for parts, left, right in (
        ({"level": 2}, "level 1", "level 2"),
        ({"ia_bits": 39}, "40 bits of address", "39 bits of address"),
        ({"pages": 1}, "2 pages", "1 page"),
    ):
        found = differences(SEEN, changed(SEEN, roots=(replace(SEEN.root, **parts),)), frozenset({Tier.TABLES}))
        assert [(one.what, one.left, one.right) for one in found] == [("root", left, right)]


def test_another_table_s_page() -> None:
    found = only(SEEN, with_page(SEEN, LEVEL_3, table=1))
    assert (found.bucket, found.left, found.right) == (
        "accounting-walk-whose_page-level3",
        "table at 0x0: for table 0",
        "table at 0x0: for table 1",
    )
