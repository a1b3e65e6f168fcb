"""Boundary events: how they are told, and what counts as another order of events."""

from __future__ import annotations

import random
from array import array
from collections.abc import Callable
from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from observations import observe, relabelled, with_events, with_record
from test_compare import only

from harness.amounts import number
from harness.findings.event_text import CONTEXT, aligned_events, event_lines
from harness.observation.events import (
    ALLOC,
    DCACHE,
    DSB,
    DSB_DOMAINS,
    EVENTS,
    FREE_EXACT,
    GET,
    ISB,
    NO_PAGE,
    PUT,
    STORE_PLAIN,
    STORE_RELEASE,
    TLB_CALLS,
    TLBI_TTL_UNKNOWN,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
    WARNED,
    Event,
    common_events,
    each_event,
    events_of,
)
from harness.observation.layout import Observation
from harness.program.machine import DEFAULT_MACHINE
from harness.verdict.compare.differences import differences
from harness.verdict.tiers import Tier

TEXT = """
map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=4
map ipa=0x203000 size=4K phys=0x90000000 prot=rw mc=4
unmap ipa=0x200000 size=2M
destroy
"""
SEEN = observe(TEXT)
MAP, SPLIT, UNMAP = 1, 2, 3
BLOCK = 0x4400_0000
ELSEWHERE = 0x4404_0000
NAMES = ("model", "kernel")


def events(observation: Observation, record: int) -> list[Event]:
    return events_of(observation.records[record].events)


def at(record: int, kind: int) -> int:
    """Where the first event of a kind is."""
    return next(index for index, event in enumerate(events(SEEN, record)) if event.kind == kind)


def altered(record: int, change: Callable[[list[Event]], object]) -> Observation:
    changed = events(SEEN, record)
    change(changed)
    return with_events(SEEN, record, changed)


def bucket(right: Observation) -> str:
    (found,) = differences(SEEN, right)
    assert found.tier is Tier.EVENTS
    return found.bucket


def test_the_events_of_a_map() -> None:
    table, entry = 0x4400_5000, 0x4400_5008
    assert [str(event) for event in events(SEEN, MAP)] == [
        f"zalloc_page pa={table:#x}",
        "store plain 0x44000000 = 0x400",
        "get_page pa=0x44000000",
        f"store release 0x44000000 = {table | 3:#x}",
        f"store plain {entry:#x} = 0x400",
        "dcache_clean_inval_poc pa=0x80200000 size=0x200000",
        "icache_inval_pou pa=0x80200000 size=0x200000",
        f"get_page pa={entry:#x}",
        f"store release {entry:#x} = 0x802007d9",
        "dsb ishst",
    ]


def test_kinds_are_defined_once() -> None:
    assert len({one.number for one in EVENTS}) == len({one.name for one in EVENTS}) == len(EVENTS)
    assert len(set(DSB_DOMAINS.values())) == len(DSB_DOMAINS)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (Event(TLBI_VMID_IPA, 0x1000, 3), "tlbi_vmid_ipa ipa=0x1000 level=3"),
        (Event(TLBI_VMID_IPA_NSH, 0x1000, TLBI_TTL_UNKNOWN), "tlbi_vmid_ipa_nsh ipa=0x1000 level=unknown"),
        (Event(TLBI_VMID_IPA, 0, (1 << 64) - 1), "tlbi_vmid_ipa ipa=0x0 level=-1"),
        (Event(TLBI_VMID_RANGE, 0x1000, 512), "tlbi_vmid_range ipa=0x1000 pages=512"),
        (Event(TLBI_VMID, 0, 0), "tlbi_vmid"),
        (Event(ISB, 0, 0), "isb"),
        (Event(DSB, 0b1111, 0), "dsb sy"),
        (Event(DSB, 0, 0), "dsb 0"),
        (Event(ALLOC, NO_PAGE, 0), "zalloc_page pa=none"),
        (Event(FREE_EXACT, 0x1000, 0x2000), "free_pages_exact pa=0x1000 size=0x2000"),
        (Event(STORE_PLAIN, 0x1008, 0), "store plain 0x1008 = 0x0"),
        (Event(99, 1, 2), "event_99 a=0x1 b=0x2"),
    ],
)
def test_events_in_words(event: Event, text: str) -> None:
    assert str(event) == text


# What differs


@pytest.mark.parametrize("record", [MAP, SPLIT, UNMAP, 4])
def test_any_word_of_any_event_counts(record: int) -> None:
    """But for the address that an allocation returns: see below."""
    for index, event in enumerate(events(SEEN, record)):
        for field in event._fields:
            if (event.kind, field) == (ALLOC, "a"):
                continue
            other = event._replace(**{field: getattr(event, field) ^ 1 << 40})
            right = altered(record, lambda them, index=index, other=other: them.__setitem__(index, other))  # type: ignore[misc]
            found = differences(SEEN, right)
            tier = Tier.INSTRUCTIONS if event.is_in_call else Tier.EVENTS
            assert [(one.tier, one.record) for one in found if one.tier is tier] == [(tier, record)], event
            number = sum(not one.is_in_call for one in events(SEEN, record)[:index])
            texts = [str(one).strip() if event.is_in_call else f"#{number} {one}" for one in (event, other)]
            assert [found[0].left, found[0].right] == texts


def drop_call(them: list[Event]) -> None:
    """The first call of a TLB function, with what it does."""
    index = next(index for index, event in enumerate(them) if event.kind in TLB_CALLS)
    del them[index]
    while them[index].is_in_call:
        del them[index]


def test_a_dropped_tlbi_is_named() -> None:
    index = at(SPLIT, TLBI_VMID_IPA)
    right = altered(SPLIT, drop_call)
    assert bucket(right) == "events-map-tlbi_vmid_ipa-level2"
    (found,) = differences(SEEN, right)
    assert found.left == f"#{index} tlbi_vmid_ipa ipa=0x203000 level=2"
    assert found.right.startswith(f"#{index} put_page")


def test_one_event_more_is_told_by_what_the_left_side_does_there() -> None:
    index = at(SPLIT, TLBI_VMID_IPA)
    more = Event(TLBI_VMID, 0, 0)
    assert bucket(altered(SPLIT, lambda them: them.insert(index, more))) == "events-map-tlbi_vmid_ipa-level2"
    assert bucket(altered(SPLIT, lambda them: them.append(more))) == "events-map-tlbi_vmid"
    (found,) = differences(SEEN, altered(SPLIT, lambda them: them.append(more)))
    assert (found.left, found.right) == (
        "no more events",
        f"#{sum(not one.is_in_call for one in events(SEEN, SPLIT))} tlbi_vmid",
    )


def test_order_counts() -> None:
    def swap(them: list[Event]) -> None:
        index = at(SPLIT, TLBI_VMID_IPA)
        them[index - 1], them[index] = them[index], them[index - 1]

    assert bucket(altered(SPLIT, swap)) == "events-map-store_plain"


def test_a_level_hint_a_release_and_a_domain() -> None:
    def replace(record: int, which: int, **parts: int) -> Observation:
        index = at(record, which)
        return altered(record, lambda them: them.__setitem__(index, them[index]._replace(**parts)))

    assert bucket(replace(SPLIT, TLBI_VMID_IPA, b=3)) == "events-map-tlbi_vmid_ipa-level2"
    assert bucket(replace(MAP, STORE_RELEASE, kind=STORE_PLAIN)) == "events-map-store_release"
    assert bucket(replace(MAP, DSB, a=DSB_DOMAINS["nshst"])) == "events-map-dsb"
    assert bucket(replace(MAP, DCACHE, b=4096)) == "events-map-dcache_clean_inval_poc"
    assert bucket(replace(UNMAP, TLBI_VMID_RANGE, b=511)) == "events-unmap-tlbi_vmid_range"


def test_an_allocation_that_failed_differs() -> None:
    index = at(MAP, ALLOC)
    right = altered(MAP, lambda them: them.__setitem__(index, Event(ALLOC, NO_PAGE, 0)))
    assert bucket(right) == "events-map-zalloc_page"


def test_only_the_first_event_that_differs_is_told() -> None:
    right = with_events(altered(SPLIT, lambda them: them.pop()), UNMAP, [])
    assert only(SEEN, right).record == SPLIT


def test_a_warn_comes_before_what_it_brings() -> None:
    twice = observe("destroy\ndestroy\n")
    assert [event.name for event in events(twice, 2)] == ["WARN", "free_pages_exact"]
    silent = with_record(twice, 2, complaints=twice.records[2].complaints[1:])
    silent = with_events(silent, 2, [event for event in events(twice, 2) if event.kind != WARNED])
    assert [one.bucket for one in differences(silent, twice)] == [
        "events-destroy-WARN",
        "events-destroy-free_pages_exact",
    ]


# Renaming


@pytest.mark.parametrize("seed", range(5))
def test_tables_in_any_order_are_no_difference(seed: int) -> None:
    pages = [BLOCK + 4096 * index for index in range(2, 12)]
    shuffled = pages[:]
    random.Random(seed).shuffle(shuffled)
    right = relabelled(SEEN, dict(zip(pages, shuffled, strict=True)))
    assert right.records[SPLIT].events != SEEN.records[SPLIT].events
    assert differences(SEEN, right) == []
    assert all(not aligned_events(SEEN, right, record, DEFAULT_MACHINE, NAMES) for record in range(len(SEEN.records)))


def test_pages_that_were_paired_stay_so() -> None:
    """Elsewhere, but then another page: what an address means does not change without an allocation."""
    right = relabelled(SEEN, {BLOCK + 0x5000: ELSEWHERE})
    index = next(i for i, event in enumerate(events(right, SPLIT)) if event.a == ELSEWHERE + 8)
    changed = events(right, SPLIT)
    changed[index] = changed[index]._replace(a=BLOCK + 0x5008)
    (found,) = differences(SEEN, with_events(right, SPLIT, changed))
    assert found.bucket == f"events-map-{changed[index].name}"


def test_a_page_may_come_back_under_another_name() -> None:
    """After a page was freed and allocated again, the new pair counts."""
    text = "map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=2\nunmap ipa=0x0 size=4M\n"
    left = observe(f"{text}map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=2\n")
    pages = (BLOCK + 0x2000, BLOCK + 0x3000)
    swapped = relabelled(left, dict(zip(pages, reversed(pages), strict=True)))
    for first in range(4):
        mixed = [*left.records[:first], *swapped.records[first:]]
        right = swapped
        for index, record in enumerate(mixed):
            right = with_events(right, index, events_of(record.events))
        found = [one for one in differences(left, right) if one.tier is Tier.EVENTS]
        # Between the first map and the unmap nothing is allocated, so names may not change there.
        assert [one.record for one in found] == ([2] if first == 2 else []), first


def test_memory_of_the_guest_is_not_renamed() -> None:
    """Although its address is that of a table page that lies elsewhere."""
    text = f"map ipa=0x0 size=4K phys={BLOCK + 0x2000:#x} prot=rw mc=2\n"
    left = observe(text)
    right = relabelled(left, {BLOCK + 0x2000: ELSEWHERE})
    assert differences(left, right) == []
    index = next(i for i, event in enumerate(events(right, 1)) if event.kind == DCACHE)
    changed = events(right, 1)
    changed[index] = changed[index]._replace(a=ELSEWHERE)
    assert only(left, with_events(right, 1, changed)).bucket == "events-map-dcache_clean_inval_poc"


# For people


def test_stores_are_told_with_their_place() -> None:
    lines = event_lines(SEEN, DEFAULT_MACHINE)
    assert "store release 0x44000000 = 0x44005003  level 1 ipa 0x0: table -> 0x44005000" in lines[MAP]
    assert "store plain 0x44005008 = 0x400  level 2 ipa 0x200000: locked" in lines[SPLIT]
    page = "level 3 ipa 0x203000: page  pa=0x90000000 RW- normal AF"
    assert any(line.endswith(page) for line in lines[SPLIT])
    assert [len(of_record) for of_record in lines] == [len(events(SEEN, index)) for index in range(len(lines))]


def test_a_store_to_a_page_without_a_place_is_told_without() -> None:
    right = with_events(SEEN, MAP, [Event(STORE_PLAIN, ELSEWHERE, 7), Event(77, 1, 2)])
    assert event_lines(right, DEFAULT_MACHINE)[MAP] == [
        f"store plain {ELSEWHERE:#x} = 0x7",
        "event_77 a=0x1 b=0x2",
    ]


def test_aligned_like_a_diff() -> None:
    index = at(SPLIT, TLBI_VMID_IPA)
    right = altered(SPLIT, lambda them: them.pop(index))
    rows = aligned_events(SEEN, right, SPLIT, DEFAULT_MACHINE, NAMES)
    assert rows[:2] == ["  - model", "  + kernel"]
    texts = event_lines(SEEN, DEFAULT_MACHINE)[SPLIT]
    assert rows[2:] == [
        *(f"    {text}" for text in texts[:index]),
        f"  - {texts[index]}",
        *(f"    {text}" for text in texts[index + 1 : index + 1 + CONTEXT]),
        f"    … {len(texts) - index - 1 - CONTEXT} equal events",
    ]
    assert aligned_events(SEEN, SEEN, SPLIT, DEFAULT_MACHINE, NAMES) == []
    assert aligned_events(SEEN, SEEN, 99, DEFAULT_MACHINE, NAMES) == []


def test_aligned_although_pages_lie_elsewhere() -> None:
    right = relabelled(SEEN, {BLOCK + 0x5000: ELSEWHERE})
    changed = events(right, SPLIT)
    index = at(SPLIT, PUT)
    del changed[index]
    rows = aligned_events(SEEN, with_events(right, SPLIT, changed), SPLIT, DEFAULT_MACHINE, NAMES)
    assert [row for row in rows[2:] if row.startswith(("  -", "  +"))] == [f"  - {events(SEEN, SPLIT)[index]}"]


def test_a_far_end_is_not_aligned() -> None:
    many = [Event(GET, BLOCK, 0)] * 1000
    left = with_events(SEEN, MAP, [Event(ISB, 0, 0), *many])
    right = with_events(SEEN, MAP, [Event(TLBI_VMID, 0, 0), *many])
    rows = aligned_events(left, right, MAP, DEFAULT_MACHINE, NAMES)
    assert rows[2:4] == ["  - isb", "  + tlbi_vmid"]
    assert rows[-1] == f"    … {1000 - CONTEXT} more events, not aligned"


@given(st.lists(st.integers(0, 1), max_size=40), st.lists(st.integers(0, 1), max_size=40), st.integers(0, 60))
def test_what_two_begin_with(mine: list[int], theirs: list[int], shared: int) -> None:
    left, right = ([0] * (3 * shared) + rest[: len(rest) // 3 * 3] for rest in (mine, theirs))
    pairs = zip(each_event(left), each_event(right), strict=False)
    expected = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
    assert common_events(left, right) == common_events(array("Q", left), array("Q", right)) == expected
    assert events_of(left)[expected:] == [*each_event(left, expected)]


def test_a_long_op_is_told_by_its_ends() -> None:
    full, cut = event_lines(SEEN, DEFAULT_MACHINE), event_lines(SEEN, DEFAULT_MACHINE, most=20)
    for whole, told in zip(full, cut, strict=True):
        count = len(whole)
        expected = whole if count <= 20 else [*whole[:10], f"… {count - 20} more events", *whole[-10:]]
        assert told == expected
    assert max(map(len, full)) > 20


def test_far_into_a_long_op_places_are_known() -> None:
    """They are learnt from all stores, also from those that are not told."""
    long = observe("map ipa=0x200000 size=2M phys=0x80001000 prot=rw mc=4\nunmap ipa=0x200000 size=2M\n")
    index = len(events(long, 2)) - 3
    changed = events(long, 2)
    del changed[index]
    rows = aligned_events(long, with_events(long, 2, changed), 2, DEFAULT_MACHINE, NAMES)
    texts = event_lines(long, DEFAULT_MACHINE)[2]
    assert rows[2:] == [
        f"    … {number(index - CONTEXT)} equal events",
        *(f"    {text}" for text in texts[index - CONTEXT : index]),
        f"  - {texts[index]}",
        *(f"    {text}" for text in texts[index + 1 :]),
    ]
