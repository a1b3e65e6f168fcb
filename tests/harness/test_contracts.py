"""Contracts: silent on what Linux does, but for what is listed; each can be broken, and says by what."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from observations import with_events, with_record

from harness.model.executor import Model
from harness.observation.events import GET, PUT, STORE_KINDS, STORE_RELEASE, TLBI_VMID, Event, events_of
from harness.observation.layout import Observation
from harness.program.text import parse
from harness.verdict.contracts.families import violations

Alter = Callable[[list[Event]], Sequence[Event]]

PAGES = "map ipa=0x0 size=8K phys=0x80000000 prot=rw mc=4\n"
BLOCK = "map ipa=0x0 size=2M phys=0x80000000 prot=rw mc=4\n"
PAGE_0 = 0x44004000
"""The last table of the program's first map of pages, with the default machine and a root of two."""


def without(*kinds: int, nth: int | None = None) -> Alter:
    """The events but those of some kinds, or but one of them."""

    def alter(events: list[Event]) -> Sequence[Event]:
        places = [place for place, event in enumerate(events) if event.kind in kinds]
        gone = places if nth is None else [places[nth]]
        return [event for place, event in enumerate(events) if place not in gone]

    return alter


def also(kind: int, a: int, b: int) -> Alter:
    """The events and another one at the end."""
    return lambda events: [*events, Event(kind, a, b)]


def changed_store(nth: int, flip: int) -> Alter:
    """The events with bits of a store flipped."""

    def alter(events: list[Event]) -> Sequence[Event]:
        place = [place for place, event in enumerate(events) if event.kind in STORE_KINDS][nth]
        event = events[place]
        return [*events[:place], Event(event.kind, event.a, event.b ^ flip), *events[place + 1 :]]

    return alter


def same(events: list[Event]) -> Sequence[Event]:
    return events


def told(record: int, **parts: object) -> Callable[[Observation], Observation]:
    """The observation with parts of a record replaced."""
    return lambda seen: with_record(seen, record, **parts)


STORES = tuple(STORE_KINDS)
_WRITE = 1 << 7
_READ = 1 << 6
_AF = 1 << 10

BROKEN: list[tuple[str, str, int, Alter]] = [
    ("nothing-reachable-is-freed", PAGES + "unmap ipa=0x0 size=8K\n", 2, without(*STORES)),
    ("references-are-entries", PAGES, 1, without(GET, nth=-1)),
    ("map-shows-what-was-asked", PAGES, 1, changed_store(-1, _WRITE)),
    ("map-of-no-memory-fails", "map ipa=0x0 size=4K phys=0xffffffffffff0000 prot=rw mc=4\n", 1, same),
    ("outside-its-range-memory-only-goes", PAGES + "map ipa=0x4000 size=4K phys=0x90000000 prot=r mc=4\n", 2,
     also(STORE_RELEASE, PAGE_0, 0x400000A00007DB)),
    ("map-changes-no-permissions-alone", PAGES + "map ipa=0x0 size=4K phys=0x80000000 prot=r mc=4\n", 2,
     also(STORE_RELEASE, PAGE_0, 0x4000008000075B)),
    ("unmap-removes-all-of-its-range", PAGES + "unmap ipa=0x0 size=4K\n", 2, without(*STORES)),
    ("unmap-removes-nothing-else", PAGES + "unmap ipa=0x0 size=4K\n", 2, also(STORE_RELEASE, PAGE_0 + 8, 0)),
    ("an-owned-range-translates-nothing", PAGES + "set_owner ipa=0x0 size=8K mc=4 owner=1\n", 2, without(*STORES)),
    ("a-failure-leaves-old-new-or-nothing",
     PAGES + "map ipa=0x0 size=4M phys=0x0 prot=r mc=none\nfail_alloc nth=1\nmap ipa=0x40000000 size=4K phys=0x0 prot=r\n",
     4, also(STORE_RELEASE, 0x44000008, 0x400000A00007DB & ~2)),
    ("get-leaf-tells-the-leaf", PAGES + "get_leaf ipa=0x1000\nmap ipa=0x9000 size=4K phys=0x0 prot=r mc=4\n", 1,
     changed_store(-1, _WRITE)),
    ("destroy-frees-every-table", PAGES + "destroy\n", 2, without(PUT)),
    ("wrprotect-takes-write-permission-alone", PAGES + "wrprotect ipa=0x0 size=8K\n", 2, without(*STORES, nth=0)),
    ("mkyoung-sets-the-access-flag-alone", PAGES + "test_clear_young ipa=0x0 size=4K mkold=on\nmkyoung ipa=0x0\n", 3,
     changed_store(0, _WRITE)),
    ("mkyoung-tells-the-old-entry", PAGES + "mkyoung ipa=0x0\n", 1, changed_store(-3, _WRITE)),
    ("ageing-clears-access-flags-alone", PAGES + "test_clear_young ipa=0x0 size=8K mkold=on\n", 2,
     without(*STORES, nth=0)),
    ("ageing-tells-whether-any-was-young", PAGES + "test_clear_young ipa=0x0 size=4K\n", 1, changed_store(-3, _AF)),
    ("relax-perms-only-adds-permissions", PAGES + "relax_perms ipa=0x0 prot=x\n", 2, changed_store(-1, _READ)),
    ("relax-perms-grants-what-was-asked", PAGES + "relax_perms ipa=0x0 prot=x\n", 2, without(*STORES)),
    ("what-only-reads-changes-nothing", PAGES + "flush ipa=0x0 size=4K\n", 2, also(STORE_RELEASE, PAGE_0, 0)),
    ("split-changes-no-translation", BLOCK + "split ipa=0x0 size=2M mc=1\n", 2, changed_store(5, _AF)),
    ("a-walk-that-looks-changes-nothing", PAGES + "walk ipa=0x0 size=4K flags=leaf\n", 2,
     also(STORE_RELEASE, PAGE_0, 0)),
    ("an-unlinked-table-is-made-in-silence", "create_unlinked phys=0x80000000 level=2 prot=rw mc=4\n", 1,
     also(TLBI_VMID, 0, 0)),
    ("an-unlinked-table-is-full", "create_unlinked phys=0x80000000 level=2 prot=rw mc=4\n", 1, changed_store(-1, _WRITE)),
    ("freeing-an-unlinked-table-leaves-the-tree-alone",
     "create_unlinked phys=0x80000000 level=2 prot=rw mc=4\nfree_unlinked table=t1\n", 2, also(TLBI_VMID, 0, 0)),
    ("what-knows-no-table-changes-none", PAGES + "tlb_flush_vmid_range ipa=0x0 size=4K\n", 2,
     also(STORE_RELEASE, PAGE_0, 0)),
    ("annotations-outlive-what-does-not-name-them",
     PAGES + "set_owner ipa=0x0 size=4K mc=4 owner=1\nwrprotect ipa=0x0 size=8K\n", 3, also(STORE_RELEASE, PAGE_0, 0)),
    ("hyp-map-never-replaces",
     "stage = 1\n\nhyp_map va=0x0 size=4K phys=0x80000000 prot=rw\nhyp_map va=0x4000 size=4K phys=0x80000000 prot=rw\n",
     2, also(STORE_RELEASE, 0x44003000, 0)),
    ("hyp-map-shows-what-was-asked", "stage = 1\n\nhyp_map va=0x0 size=4K phys=0x80000000 prot=rw\n", 1,
     changed_store(-1, 1 << 7)),
    ("hyp-map-maps-nothing-else", "stage = 1\n\nhyp_map va=0x0 size=4K phys=0x80000000 prot=rw\n", 1,
     also(STORE_RELEASE, 0x44003008, 0x80001743)),
    ("hyp-unmap-tells-what-it-unmapped",
     "stage = 1\n\nhyp_map va=0x0 size=8K phys=0x80000000 prot=rw\nhyp_unmap va=0x0 size=4K\n", 2, without(*STORES)),
    ("hyp-unmap-stays-in-its-range",
     "stage = 1\n\nhyp_map va=0x0 size=8K phys=0x80000000 prot=rw\nhyp_unmap va=0x0 size=4K\n", 2,
     also(STORE_RELEASE, 0x44003008, 0)),
    ("hyp-pte-prot-changes-nothing", "stage = 1\n\nhyp_map va=0x0 size=4K phys=0x80000000 prot=rw\nhyp_pte_prot pte=0x0\n",
     2, also(STORE_RELEASE, 0x44003000, 0)),
]  # fmt: skip
"""A contract, a program that keeps it, and what breaks it: events of one record, altered."""


@pytest.mark.parametrize(("name", "text", "record", "alter"), BROKEN, ids=[one[0] for one in BROKEN])
def test_a_broken_contract_is_named(name: str, text: str, record: int, alter: Alter) -> None:
    program = parse(f"s2 1\n{text}" if text.startswith("stage") else f"s2 1\n\n{text}")
    seen = Model().observe(program)
    altered = with_events(seen, record, alter(events_of(seen.records[record].events)))
    found = {one.contract.name for one in violations(program, altered)}
    assert name in found, found
    if alter is not same:
        assert name not in {one.contract.name for one in violations(program, seen)}
