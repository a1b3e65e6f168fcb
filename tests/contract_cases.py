"""For each contract a program that keeps it, and what of its observation breaks it; and a program that it asks nothing
of. For each relation the same, with a kernel that breaks it. A new contract gets a line in both tables."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from observations import changed, with_events, with_record

from harness.observation.events import (
    DCACHE,
    DSB,
    FLUSH_CPU_CONTEXT,
    FOR_MMU,
    FREE_EXACT,
    GET,
    ICACHE,
    IN_CALL,
    LOG_TOLD,
    PUT,
    STORE_KINDS,
    STORE_PLAIN,
    STORE_RELEASE,
    TLB_CALLS,
    TLBI,
    TLBI_VMID,
    Event,
    events_of,
)
from harness.observation.layout import LOCKING, Complaint, Observation, Witness
from harness.observation.tlbi import BY_NAME
from harness.program.definition import Op
from harness.program.granule import GRANULE_4K
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import Machine
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.text import parse

Break = Callable[[Observation], Observation]
"""Changes one thing that a side observed."""

STORES = tuple(STORE_KINDS)
_AF = 1 << 10
_READ = 1 << 6
_WRITE = 1 << 7
_NEVER = 1 << 54
"""XN[1] of stage 2."""
_READ_ONLY = 1 << 7
"""Of an entry of stage 1."""

PAGES = "map ipa=0x0 size=8K phys=0x80000000 prot=rw mc=4\n"
BLOCK = "map ipa=0x0 size=2M phys=0x80000000 prot=rw mc=4\n"
LAST = 0x44004000
"""The table of the last level that both use, on the default machine."""
OWNED = PAGES + "set_owner ipa=0x0 size=4K mc=4 owner=1\n"
PLANTED = PAGES + "plant ipa=0x400000 level=2 pte=0x0\n"
BEYOND = 0x400000A00007DB
"""A page that nobody asked for, readable and writable."""
HYP = "stage = 1\n\nhyp_map va=0x0 size=8K phys=0x80000000 prot=rw\n"
HYP_LAST = 0x44003000
UNLINKED = "create_unlinked phys=0x80000000 level=2 prot=rw mc=4\n"
WALK = PAGES + "walk ipa=0x0 size=8K flags=leaf+table_pre+table_post\n"
NO_FWB = "fwb = off\n\n"
GUEST = "guest = on\n\n"
READ = "map ipa=0x0 size=4K phys=0x42000000 prot=r mc=4\nread ipa=0x0\n"
FAULT = "fault ipa=0x1000 access=write\n"
NOTHING_TO_HANDLE = "handle phys=0x42001000\n"
HANDLED = FAULT + NOTHING_TO_HANDLE
NESTED = PAGES + "mmu_init vmid=2\nmmu_use mmu=m1\n"
NESTED_ROOT = 0x44006000
SHARED = PAGES + "mmu_share vmid=2\n"
VM = PAGES + "vm_create vmid=2\nmmu_use mmu=m1\n"
VMID = "vmid_init\nvmid_update cpu=0 owner=0\n"
ROLLED_OVER = (
    f"vmid_bits = 2\n\n{VMID}"
    "vmid_update cpu=1 owner=1\nvmid_update cpu=1 owner=2\nvmid_update cpu=0 owner=3\nvmid_update cpu=1 owner=2\n"
)
TURNS = PAGES + "vcpu_load_first cpu=0 vcpu=0\nvcpu_put cpu=0\nvcpu_load_first cpu=0 vcpu=1\n"
ONE_TURN = PAGES + "vcpu_load_first cpu=0 vcpu=0\n"
AGAIN = ONE_TURN + "vcpu_put cpu=0\nvcpu_load_first cpu=0 vcpu=0\n"
VCPU_PUT = "vmid_init\nvcpu_load_first cpu=0 vcpu=0\nvcpu_put cpu=0\n"
NO_VMIDS = "vmid_update cpu=0 owner=0\n"
SLOT = "memslot_add slot=0 ipa=0x0 size=8K phys=0x42000000\n"
GIVEN = GUEST.replace("\n\n", "\nia_bits = 32\n\n") + SLOT + "fault ipa=0x0 access=write\nmemslot_handle\n"
"""The guest has a page of a slot."""
LOGGED = GIVEN + "memslot_log slot=0 logging=on\n"
WRITTEN = LOGGED + "fault ipa=0x0 access=write\nmemslot_handle\nwrite ipa=0x0 value=0x1\nmemslot_dirty slot=0\n"
READ_IN_OTHER = (
    f"ia_bits = 32\n\n{SLOT}mmu_init vmid=2\nmmu_use mmu=m1\nmap ipa=0x5000 size=4K phys=0x42000000 prot=r mc=3\n"
)
NO_TREE = "destroy\nwalk ipa=0x0 size=8K flags=leaf\n"


def program_of(text: str) -> Program:
    """A program from its ops, with settings before them or without."""
    return parse(f"s2 1\n{text}" if " = " in text.partition("\n")[0] else f"s2 1\n\n{text}")


def without(record: int, *kinds: int, nth: int | None = None) -> Break:
    """Some kinds of events never happened in that record; or only the `nth` of them did not."""

    def alter(events: list[Event]) -> Sequence[Event]:
        places = [place for place, event in enumerate(events) if event.kind in kinds]
        gone = places if nth is None else [places[nth]]
        return [event for place, event in enumerate(events) if place not in gone]

    return _altered(record, alter)


def silent(record: int) -> Break:
    """Nothing was invalidated in that record."""
    return _altered(
        record, lambda events: [event for event in events if event.kind not in TLB_CALLS and not event.is_in_call]
    )


def plain(record: int) -> Break:
    """The stores of that record are ordered behind nothing."""
    return _altered(
        record,
        lambda events: [event._replace(kind=STORE_PLAIN) if event.kind == STORE_RELEASE else event for event in events],
    )


def was_writable(seen: Observation) -> Observation:
    """What record 4 mapped could be written until the next one."""
    store = [event for event in events_of(seen.records[4].events) if event.kind in STORE_KINDS][-1]
    return also(5, STORE_PLAIN, store.a, store.b)(flipped(4, -1, _WRITE)(seen))


def never_mapped(seen: Observation) -> Observation:
    """What the first two ops did, an access and how it was handled, was done over and over."""
    first, second = seen.records[1:3]
    rounds = len(seen.records) // 2 - 1
    return changed(seen, records=(seen.records[0], *(first, second) * rounds, first))


def also(record: int, kind: int, a: int, b: int) -> Break:
    """An event that did not happen, at the end of that record."""
    return _altered(record, lambda events: [*events, Event(kind, a, b)])


def everywhere(record: int) -> Break:
    """What is invalidated of stage 1 on one CPU in that record is so on all."""
    local, all_of_them = BY_NAME["vmalle1"].number, BY_NAME["vmalle1is"].number
    return _altered(
        record,
        lambda events: [
            event._replace(a=all_of_them) if event.instruction == TLBI and event.a == local else event
            for event in events
        ],
    )


def for_mmu(record: int, mmu: int) -> Break:
    """What is invalidated for another MMU than the one in use is invalidated for that one instead."""
    return _altered(
        record, lambda events: [event._replace(a=mmu) if event.kind == FOR_MMU else event for event in events]
    )


def flipped(record: int, nth: int, bits: int) -> Break:
    """Bits of the `nth` store of that record."""

    def alter(events: list[Event]) -> Sequence[Event]:
        place = [place for place, event in enumerate(events) if event.kind in STORE_KINDS][nth]
        event = events[place]
        return [*events[:place], Event(event.kind, event.a, event.b ^ bits), *events[place + 1 :]]

    return _altered(record, alter)


def _altered(record: int, alter: Callable[[list[Event]], Sequence[Event]]) -> Break:
    return lambda seen: with_events(seen, record, alter(events_of(seen.records[record].events)))


def returned(record: int, ret: int) -> Break:
    """Another return code."""
    return lambda seen: with_record(seen, record, ret=ret)


def told(record: int, nth: int, bits: int) -> Break:
    """Bits of an out-value."""

    def alter(seen: Observation) -> Observation:
        outs = list(seen.records[record].outs)
        outs[nth] ^= bits
        return with_record(seen, record, outs=tuple(outs))

    return alter


def fewer_visits(record: int, fewer: int) -> Break:
    """Without the last visits."""
    return lambda seen: with_record(seen, record, outs=seen.records[record].outs[: -4 * fewer])


def also_visited(record: int, *visit: int) -> Break:
    """One more visit."""
    return lambda seen: with_record(seen, record, outs=(*seen.records[record].outs, *visit))


@dataclass(frozen=True)
class Case:
    """A program that keeps the contract, what breaks it there, and a program that has the op, but asks nothing of it:
    None where its op is always asked."""

    program: str
    broken_by: Break
    unasked: str | None


CASES: Mapping[str, Case] = {
    # accounting
    "nothing-reachable-is-freed": Case(PAGES + "unmap ipa=0x0 size=8K\n", without(2, *STORES), PAGES),
    "references-are-entries": Case(PAGES, without(1, GET, nth=-1), "page_count = off\n\n" + PAGES),
    "nothing-leaks": Case(PAGES + "unmap ipa=0x0 size=8K\n", without(2, PUT, nth=-1), PAGES[:0]),
    "a-result-is-0-or-an-error": Case(PAGES, returned(1, 1), None),
    # ownership
    "annotations-outlive-what-does-not-name-them": Case(
        OWNED + "wrprotect ipa=0x0 size=8K\n", also(3, STORE_RELEASE, LAST, 0), PAGES + "wrprotect ipa=0x0 size=8K\n"
    ),
    "annotated-addresses-translate-nothing": Case(
        OWNED + "get_leaf ipa=0x0\n", told(3, 0, 1), OWNED + "get_leaf ipa=0x1000\n"
    ),
    # table
    "no-reserved-entry-is-made": Case(PAGES, flipped(1, -1, 0b10), "get_leaf ipa=0x0\n"),
    "map-shows-what-was-asked": Case(PAGES, flipped(1, -1, _WRITE), "map ipa=0x0 size=0 phys=0x0 prot=r mc=4\n"),
    "map-leads-to-the-memory-asked-for": Case(
        PAGES + "map ipa=0x0 size=4K phys=0x90000000 prot=rw mc=4\n",
        flipped(2, -1, 0x1000),
        "map ipa=0x0 size=0 phys=0x0 prot=r mc=4\n",
    ),
    "a-range-that-wraps-is-refused": Case(
        "unmap ipa=0xfffffffffffff000 size=8K\n", returned(1, 0), "unmap ipa=0x0 size=4K\n"
    ),
    "map-of-no-memory-fails": Case(
        "map ipa=0x0 size=4K phys=0xffffffffffff0000 prot=rw mc=none\n", returned(1, 0), PAGES
    ),
    "outside-its-range-memory-only-goes": Case(
        PAGES + "map ipa=0x4000 size=4K phys=0x90000000 prot=r mc=4\n",
        also(2, STORE_RELEASE, LAST, BEYOND),
        "map ipa=0x10000000000 size=4K phys=0x0 prot=r mc=4\n",
    ),
    "map-changes-no-permissions-alone": Case(
        PAGES + "map ipa=0x0 size=4K phys=0x80000000 prot=r mc=4\n",
        also(2, STORE_RELEASE, LAST, BEYOND ^ _WRITE),
        PAGES,
    ),
    "unmap-removes-all-of-its-range": Case(
        PAGES + "unmap ipa=0x0 size=4K\n", without(2, *STORES), "unmap ipa=0x10000000000 size=4K\n"
    ),
    "unmap-removes-nothing-else": Case(
        PAGES + "unmap ipa=0x0 size=4K\n",
        also(2, STORE_RELEASE, LAST + 8, 0),
        "unmap ipa=0x10000000000 size=4K\n",
    ),
    "unmap-frees-tables-that-it-empties": Case(
        PAGES + "unmap ipa=0x0 size=8K\n", without(2, PUT), PLANTED + "unmap ipa=0x0 size=8K\n"
    ),
    "an-owned-range-translates-nothing": Case(
        PAGES + "set_owner ipa=0x0 size=8K mc=4 owner=1\n",
        without(2, *STORES),
        PAGES + "set_owner ipa=0x0 size=8K mc=4 owner=255\n",
    ),
    "a-failure-leaves-old-new-or-nothing": Case(
        PAGES + "map ipa=0x1ff000 size=8K phys=0x0 prot=r mc=none\n",
        also(2, STORE_RELEASE, LAST + 511 * 8, BEYOND),
        PAGES,
    ),
    "get-leaf-tells-the-leaf": Case(
        PAGES + "get_leaf ipa=0x1000\n", told(2, 0, _WRITE), PAGES + "get_leaf ipa=0x10000000000\n"
    ),
    "destroy-frees-every-table": Case(PAGES + "destroy\n", without(2, PUT), PLANTED + "destroy\n"),
    "wrprotect-takes-write-permission-alone": Case(
        PAGES + "wrprotect ipa=0x0 size=8K\n", without(2, *STORES, nth=0), "wrprotect ipa=0x10000000000 size=8K\n"
    ),
    "mkyoung-sets-the-access-flag-alone": Case(
        PAGES + "test_clear_young ipa=0x0 size=4K mkold=on\nmkyoung ipa=0x0\n",
        flipped(3, 0, _WRITE),
        "mkyoung ipa=0x0\n",
    ),
    "mkyoung-tells-the-old-entry": Case(PAGES + "mkyoung ipa=0x0\n", told(2, 0, _WRITE), "mkyoung ipa=0x0\n"),
    "ageing-clears-access-flags-alone": Case(
        PAGES + "test_clear_young ipa=0x0 size=8K mkold=on\n",
        without(2, *STORES, nth=0),
        "test_clear_young ipa=0x10000000000 size=8K mkold=on\n",
    ),
    "ageing-tells-whether-any-was-young": Case(
        PAGES + "test_clear_young ipa=0x0 size=4K\n", told(2, 0, 1), "test_clear_young ipa=0x10000000000 size=8K\n"
    ),
    "relax-perms-only-adds-permissions": Case(
        PAGES + "relax_perms ipa=0x0 prot=x\n", flipped(2, -1, _READ), PLANTED + "relax_perms ipa=0x0 prot=x\n"
    ),
    "device-memory-cannot-be-executed": Case(
        "map ipa=0x0 size=4K phys=0x8000000 prot=rw+device mc=4\n",
        flipped(1, -1, _NEVER),
        "destroy\nmap ipa=0x0 size=4K phys=0x8000000 prot=rw+device mc=4\n",
    ),
    "relax-perms-grants-what-was-asked": Case(
        PAGES + "relax_perms ipa=0x0 prot=x\n", without(2, *STORES), "relax_perms ipa=0x0 prot=x\n"
    ),
    "pte-prot-tells-the-protection": Case("pte_prot pte=0x400000800007db\n", told(1, 0, 1), "pte_prot pte=0x0\n"),
    "what-only-reads-changes-nothing": Case(PAGES + "flush ipa=0x0 size=4K\n", also(2, STORE_RELEASE, LAST, 0), None),
    "split-changes-no-translation": Case(
        BLOCK + "split ipa=0x0 size=2M mc=1\n", flipped(2, 5, _AF), PLANTED + "split ipa=0x0 size=2M mc=1\n"
    ),
    "split-leaves-no-block": Case(
        BLOCK + "split ipa=0x0 size=2M mc=1\n",
        without(2, *STORES),
        BLOCK + "split ipa=0x10000000000 size=2M mc=1\n",
    ),
    # maintenance
    "what-goes-is-invalidated": Case(PAGES + "unmap ipa=0x0 size=4K\n", silent(2), PAGES),
    "an-entry-is-broken-before-it-is-made": Case(
        PAGES + "map ipa=0x0 size=4K phys=0x90000000 prot=rw mc=4\n", without(2, *STORES, nth=0), PAGES
    ),
    "a-table-is-freed-when-nothing-walks-it": Case(PAGES + "unmap ipa=0x0 size=8K\n", silent(2), PAGES),
    "a-tlb-call-does-what-it-is-for": Case(PAGES + "unmap ipa=0x0 size=4K\n", without(2, IN_CALL | TLBI, nth=0), PAGES),
    "walks-are-over-before-the-context-changes": Case(
        PAGES + "unmap ipa=0x0 size=4K\n", without(2, IN_CALL | DSB, nth=0), PAGES
    ),
    "a-flushed-range-is-invalidated": Case(
        PAGES + "tlb_flush_vmid_range ipa=0x0 size=8K\n", silent(2), "tlb_flush_vmid_range ipa=0x0 size=0\n"
    ),
    "relax-perms-invalidates": Case(PAGES + "relax_perms ipa=0x0 prot=x\n", silent(2), "relax_perms ipa=0x0 prot=x\n"),
    "memory-is-clean-before-the-guest-reaches-it": Case(NO_FWB + PAGES, without(1, DCACHE), PAGES),
    "what-may-be-executed-is-fetched-anew": Case(
        "map ipa=0x0 size=4K phys=0x80000000 prot=rx mc=4\n", without(1, ICACHE), PAGES
    ),
    "unmap-leaves-memory-clean": Case(
        NO_FWB + PAGES + "unmap ipa=0x0 size=4K\n", without(2, DCACHE), PAGES + "unmap ipa=0x0 size=4K\n"
    ),
    "a-table-is-filled-before-it-is-linked": Case(PAGES, plain(1), ""),
    "what-is-mapped-can-be-walked": Case(PAGES, without(1, DSB), "map ipa=0x0 size=0 phys=0x80000000 prot=rw mc=4\n"),
    "flush-cleans-what-is-mapped": Case(
        NO_FWB + PAGES + "flush ipa=0x0 size=8K\n", without(2, DCACHE), PAGES + "flush ipa=0x0 size=8K\n"
    ),
    # guest
    "a-translation-is-what-the-table-says": Case(
        PAGES + "probe ipa=0x0\n", told(2, 0, 1 << 13), PAGES + "destroy\nprobe ipa=0x0\n"
    ),
    "an-access-succeeds-where-the-table-allows-it": Case(
        GUEST + READ, returned(2, -errno.EFAULT), "map ipa=0x0 size=4K phys=0x42000000 prot=r mc=4\nread ipa=0x0\n"
    ),
    "an-access-sees-the-table-or-what-a-tlb-may-hold": Case(
        GUEST + READ, lambda seen: replace(seen, witnesses=(Witness(2, 0x9000000F, 0),)), READ
    ),
    "the-handler-takes-only-what-it-topped-up": Case(GUEST + HANDLED, told(2, 1, 1), GUEST + NOTHING_TO_HANDLE),
    "the-granule-rule-tops-up-where-a-table-is-needed": Case(
        GUEST.replace("\n\n", "\ntopup_rule = fault_granule\n\n") + HANDLED, told(2, 3, 2), GUEST + HANDLED
    ),
    "the-handler-sleeps-without-the-lock-and-drops-it": Case(
        GUEST + HANDLED,
        lambda seen: with_record(seen, 2, complaints=(Complaint(LOCKING, 1, 0),)),
        GUEST + NOTHING_TO_HANDLE,
    ),
    "a-handled-abort-makes-progress": Case(GUEST + 3 * HANDLED + FAULT, never_mapped, GUEST + HANDLED),
    # walk
    "a-walk-that-looks-changes-nothing": Case(WALK, also(2, STORE_RELEASE, LAST, 0), NO_TREE),
    "a-walk-visits-as-its-flags-say": Case(WALK, told(2, 0, 2 | 1), NO_TREE),
    "a-walk-visits-every-entry-of-its-range-in-order": Case(
        WALK, told(2, 3 * 4 + 2, 0x1000), PAGES + "walk ipa=0x0 size=8K flags=table_pre\n"
    ),
    "a-walk-enters-and-leaves-tables-in-turn": Case(
        WALK, fewer_visits(2, 1), PAGES + "walk ipa=0x0 size=8K flags=leaf+table_pre\n"
    ),
    "a-walk-descends-into-a-table-that-a-visit-installs": Case(
        "walk ipa=0x0 size=4K flags=leaf visitor=table@1\n", fewer_visits(1, 1), WALK
    ),
    "a-walk-leaves-a-table-that-a-visit-removes": Case(
        PAGES + "walk ipa=0x0 size=8K flags=leaf+table_pre visitor=clear@1\n", also_visited(2, 1, 2, 0, 0), WALK
    ),
    "a-walk-ends-with-its-visitor-s-error": Case(
        PAGES + "walk ipa=0x0 size=8K flags=leaf visitor=einval@1\n", returned(2, 0), WALK
    ),
    # unlinked
    "an-unlinked-table-is-made-in-silence": Case(UNLINKED, also(1, TLBI_VMID, 0, 0), PLANTED + UNLINKED),
    "an-unlinked-table-is-full": Case(UNLINKED, flipped(1, -1, _WRITE), "pool_pages = 3\n\n" + UNLINKED),
    "freeing-an-unlinked-table-leaves-the-tree-alone": Case(
        UNLINKED + "free_unlinked table=t1\n",
        also(2, TLBI_VMID, 0, 0),
        UNLINKED + "plant ipa=0x400000 level=1 pte=0x0\nfree_unlinked table=t1\n",
    ),
    # vtcr
    "a-root-s-size-holds-every-address": Case("pgd_size vtcr=0x802d3558\n", told(1, 0, 0x1000), "pgd_size vtcr=0x1\n"),
    "the-root-covers-every-address": Case("", told(0, 2, 3), "pool_pages = 1\n\n"),
    "the-register-says-the-bits-of-address": Case("", told(0, 1, 1), HYP),
    "the-register-lets-hardware-set-access-flags": Case("", told(0, 0, 1 << 21), HYP),
    "what-begins-at-the-limit-is-refused": Case(
        "unmap ipa=0x10000000000 size=4K\n", returned(1, 0), "unmap ipa=0x0 size=4K\n"
    ),
    "what-ends-at-the-limit-is-served": Case(
        "unmap ipa=0xfffffff000 size=4K\n", returned(1, -errno.ERANGE), "unmap ipa=0x0 size=4K\n"
    ),
    "what-knows-no-table-changes-none": Case(
        PAGES + "tlb_flush_vmid_range ipa=0x0 size=4K\n", also(2, STORE_RELEASE, LAST, 0), None
    ),
    # hyp
    "hyp-map-shows-what-was-asked": Case(HYP, flipped(1, -1, _READ_ONLY), HYP.replace("size=8K", "size=0")),
    "hyp-map-never-replaces": Case(
        HYP + "hyp_map va=0x4000 size=4K phys=0x80000000 prot=rw\n",
        also(2, STORE_RELEASE, HYP_LAST, 0),
        "stage = 1\n\ndestroy\nhyp_map va=0x4000 size=4K phys=0x80000000 prot=rw\n",
    ),
    "hyp-map-of-the-mapped-is-rejected": Case(
        HYP + "hyp_map va=0x0 size=4K phys=0x90000000 prot=rw\n", returned(2, 0), HYP
    ),
    "hyp-map-maps-nothing-else": Case(
        HYP, also(1, STORE_RELEASE, HYP_LAST + 3 * 8, 0x80001743), HYP.replace("va=0x0", "va=0x1000000000000")
    ),
    "hyp-unmap-tells-what-it-unmapped": Case(
        HYP + "hyp_unmap va=0x0 size=4K\n", without(2, *STORES), "stage = 1\n\ndestroy\nhyp_unmap va=0x0 size=4K\n"
    ),
    "hyp-unmap-stays-in-its-range": Case(
        HYP + "hyp_unmap va=0x0 size=4K\n",
        also(2, STORE_RELEASE, HYP_LAST + 8, 0),
        HYP + "hyp_unmap va=0x1000000000000 size=4K\n",
    ),
    "hyp-unmap-frees-tables-that-it-empties": Case(
        HYP + "hyp_unmap va=0x0 size=8K\n",
        without(2, PUT),
        "stage = 1\npage_count = off\n\nhyp_unmap va=0x0 size=4K\n",
    ),
    "hyp-pte-prot-tells-the-permissions": Case(
        "stage = 1\n\nhyp_pte_prot pte=0x40000080000743\n", told(1, 0, 1), "stage = 1\n\nhyp_pte_prot pte=0x0\n"
    ),
    "hyp-pte-prot-changes-nothing": Case(HYP + "hyp_pte_prot pte=0x0\n", also(2, STORE_RELEASE, HYP_LAST, 0), None),
    "a-refused-hyp-map-maps-only-what-was-asked": Case(
        "stage = 1\npool_pages = 4\n\nhyp_map va=0x1ff000 size=8K phys=0x80000000 prot=rw\n",
        flipped(1, -1, 0x1000),
        HYP,
    ),
    # vm
    "other-tables-say-what-they-said": Case(NESTED + PAGES, also(4, STORE_RELEASE, LAST, 0), PAGES),
    "a-shared-table-outlives-the-mmu-that-is-freed": Case(
        SHARED + "mmu_free mmu=m1\n", also(3, STORE_RELEASE, LAST, 0), NESTED + "mmu_free mmu=m1\n"
    ),
    "the-last-mmu-of-a-table-takes-it-along": Case(
        NESTED + "mmu_free mmu=m1\n", without(4, FREE_EXACT), SHARED + "mmu_free mmu=m1\n"
    ),
    "a-table-page-is-in-one-tree": Case(NESTED + PAGES, also(4, STORE_RELEASE, NESTED_ROOT + 8, LAST | 3), PAGES),
    "each-mmu-that-shares-a-table-is-told": Case(
        SHARED + "unmap ipa=0x0 size=4K\n", without(3, FOR_MMU), PAGES + "unmap ipa=0x0 size=4K\n"
    ),
    "maintenance-reaches-no-other-vmid": Case(
        SHARED + "unmap ipa=0x0 size=4K\n",
        also(3, IN_CALL | TLBI, BY_NAME["alle1is"].number, 0),
        PAGES + "unmap ipa=0x0 size=4K\n",
    ),
    "a-vm-s-end-leaves-none-of-its-pages": Case(
        VM + "vm_end mmu=m1\n", without(4, FREE_EXACT), PAGES + "mmu_init vmid=2\nvm_end mmu=m1\n"
    ),
    "maintenance-is-for-the-vm-s-own-mmus": Case(
        VM + PAGES + "mmu_share vmid=3\nunmap ipa=0x0 size=4K\n",
        for_mmu(6, 0),
        PAGES + "unmap ipa=0x0 size=4K\n",
    ),
    "the-vmid-of-what-has-ended-is-nobody-s": Case(
        "vm_create vmid=2\nvm_end mmu=m1\nvm_create vmid=3\n", told(3, 5, 1), "vm_create vmid=2\n"
    ),
    "no-vmid-serves-two-mmus": Case(SHARED, told(2, 1, 3), PAGES + "mmu_share vmid=1\n"),
    "another-table-comes-behind-an-invalidation": Case(
        SHARED + "destroy\nmmu_again\n", without(4, FOR_MMU), PAGES + "mmu_again\n"
    ),
    "what-is-initialised-again-stays": Case(PAGES + "mmu_again\n", returned(2, 0), PAGES + "destroy\nmmu_again\n"),
    # vmid
    "no-vmid-has-two-owners-of-a-generation": Case(ROLLED_OVER, told(3, 0, 6 ^ 5), NO_VMIDS),
    "a-vmid-is-flushed-before-it-is-another-s": Case(ROLLED_OVER, silent(5), NO_VMIDS),
    "what-runs-keeps-its-vmid": Case(ROLLED_OVER, told(6, 0, 0xB ^ 0xA), VMID),
    "a-cpu-runs-with-a-vmid-of-the-newest-generation": Case(ROLLED_OVER, told(6, 0, 0xB ^ 0x7), NO_VMIDS),
    "vmid-0-is-nobody-s": Case(VMID, told(2, 0, 1), NO_VMIDS),
    "a-cpu-that-runs-nothing-has-no-vmid-active": Case(
        VMID + "vmid_clear_active cpu=0\n", told(3, 0, 1), "vmid_clear_active cpu=0\n"
    ),
    # vcpu
    "another-vcpu-s-stage-1-is-gone": Case(TURNS, silent(4), ONE_TURN),
    "a-vcpu-that-ran-there-last-keeps-its-tlb": Case(AGAIN, also(4, FLUSH_CPU_CONTEXT, 0, 0), TURNS),
    "a-load-invalidates-this-cpu-and-this-vmid-alone": Case(
        TURNS, everywhere(4), PAGES + "vcpu_load_first cpu=7 vcpu=0\n"
    ),
    "a-cpu-that-put-its-vcpu-has-no-vmid-active": Case(VCPU_PUT, told(3, 1, 1), ONE_TURN + "vcpu_put cpu=0\n"),
    # memslot
    "removed-memory-is-reached-by-no-mmu": Case(
        GIVEN + "memslot_remove slot=0\n", without(4, *STORES, PUT), "memslot_remove slot=0\n"
    ),
    "memory-taken-away-is-reached-by-no-mmu": Case(
        GIVEN + "memslot_unmap ipa=0x0 size=4K\n",
        without(4, *STORES, PUT),
        GIVEN + "memslot_unmap ipa=0x2000 size=4K\n",
    ),
    "ageing-slots-clears-access-flags-alone": Case(
        GIVEN + "memslot_age ipa=0x0 size=4K\n", without(4, *STORES), GIVEN + "memslot_age ipa=0x2000 size=4K\n"
    ),
    "ageing-slots-tells-whether-any-was-young": Case(
        GIVEN + "memslot_test_age ipa=0x0 size=4K\n", told(4, 0, 1), GIVEN + "memslot_test_age ipa=0x2000 size=4K\n"
    ),
    "a-flush-leaves-no-empty-table": Case(GIVEN + "memslot_flush slot=0\n", without(4, PUT), "memslot_flush slot=0\n"),
    "logged-memory-is-written-by-none-without-a-fault": Case(
        LOGGED, without(4, *STORES), SLOT + "memslot_log slot=0 logging=off\n"
    ),
    "no-tlb-of-another-mmu-lets-logged-memory-be-written": Case(
        READ_IN_OTHER + "memslot_log slot=0 logging=on\n", was_writable, SLOT + "memslot_log slot=0 logging=off\n"
    ),
    "the-log-tells-every-page-that-was-written": Case(WRITTEN, without(8, LOG_TOLD), SLOT + "memslot_dirty slot=0\n"),
    "what-is-given-for-writing-is-logged": Case(WRITTEN, told(6, 4, 1), GIVEN),
    "slots-do-not-overlap": Case(
        SLOT + "memslot_add slot=1 ipa=0x1000 size=4K phys=0x42000000\n", returned(2, 0), SLOT
    ),
}
"""By the contracts' names, family by family."""


@dataclass(frozen=True)
class RelationCase:
    """A program that the relation makes others of, a kernel on which they do not come to the same (one that runs
    another program instead), and a program that it makes no others of."""

    program: str
    wrong: Callable[[Program], Program]
    unasked: str


def _with(op: Op, name: str, value: int) -> Op:
    """The op with another argument of that name, if it has one."""
    names = [arg.name for arg in op.definition.args]
    return Op(op.definition, tuple(value if name == one else old for one, old in zip(names, op.args, strict=True)))


def _reads_only(op: Op) -> Op:
    return _with(op, "prot", PROT_BITS["r"])


def _shorter(program: Program) -> Program:
    """Of two pages it maps one."""
    ops = tuple(_with(op, "size", 0x1000) if 0x2000 in op.args else op for op in program.ops)
    return replace(program, ops=ops)


def _after_unmap(program: Program) -> Program:
    """What is mapped after an unmap cannot be written."""
    first = next((place for place, op in enumerate(program.ops) if op.name == "unmap"), len(program.ops))
    return replace(program, ops=(*program.ops[:first], *map(_reads_only, program.ops[first:])))


def _second(program: Program) -> Program:
    """Only the first op maps for writing."""
    return replace(program, ops=(*program.ops[:1], *map(_reads_only, program.ops[1:])))


def _never_unmaps(program: Program) -> Program:
    """An unmap is of nothing."""
    ops = tuple(_with(op, "size", 0) if op.name == "unmap" else op for op in program.ops)
    return replace(program, ops=ops)


def _never_given_back(program: Program) -> Program:
    """What was somebody else's can only be read."""
    first = next((place for place, op in enumerate(program.ops) if op.name == "set_owner"), len(program.ops))
    return replace(program, ops=(*program.ops[:first], *map(_reads_only, program.ops[first:])))


def _then_elsewhere(program: Program) -> Program:
    """An abort that is handled again unmaps what the first time has mapped."""
    unmap = op_of("unmap", ipa=0x1000, size=0x1000)
    again = [place for place, op in enumerate(program.ops) if op.name == "handle"][1:]
    return replace(program, ops=tuple(unmap if place in again else op for place, op in enumerate(program.ops)))


def _on(is_wrong: Callable[[Machine], bool]) -> Callable[[Program], Program]:
    """On some machines nothing is mapped for writing."""

    def rewrite(program: Program) -> Program:
        ops = tuple(map(_reads_only, program.ops)) if is_wrong(program.machine) else program.ops
        return replace(program, ops=ops)

    return rewrite


RELATION_CASES: Mapping[str, RelationCase] = {
    "two-calls-for-one": RelationCase(PAGES, _shorter, "map ipa=0x0 size=4K phys=0x80000000 prot=rw mc=4\n"),
    "map-unmap-map": RelationCase(PAGES, _after_unmap, "unmap ipa=0x0 size=4K\n"),
    "unmap-or-owner-0": RelationCase(PAGES + "unmap ipa=0x0 size=4K\n", _never_unmaps, PAGES),
    "handed-over-and-back": RelationCase(PAGES, _never_given_back, "unmap ipa=0x0 size=4K\n"),
    "an-abort-handled-again": RelationCase(GUEST + HANDLED, _then_elsewhere, GUEST + NOTHING_TO_HANDLE),
    "either-order": RelationCase(
        PAGES + "map ipa=0x40000000 size=4K phys=0x0 prot=rw mc=4\n",
        _second,
        PAGES + "map ipa=0x4000 size=4K phys=0x0 prot=rw mc=4\n",
    ),
    "another-granule": RelationCase(
        "map ipa=0x40000000 size=1G phys=0x80000000 prot=rw mc=4\n",
        _on(lambda machine: machine.granule is not GRANULE_4K),
        PAGES,
    ),
    "other-maintenance": RelationCase(PAGES, _on(lambda machine: not machine["fwb"]), HYP),
    "more-memory": RelationCase(PAGES, _on(lambda machine: machine["pool_pages"] > 32), "pool_pages = 200\n\n" + PAGES),
}
"""By the relations' names."""
