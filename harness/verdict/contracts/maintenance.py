"""What goes is invalidated, and what comes is clean: TLBs, data cache, instruction cache, and what tables hold.

What TLBs may hold is judged by `harness.verdict.tlb`, whose rules have their places in the Arm ARM, and who is to
invalidate what by the header; the relations between an op's events by `harness.verdict.effects`. wrprotect,
test_clear_young and mkold promise no invalidation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from harness.program.kinds.flags import MAP_FLAG_BITS
from harness.program.machine import KNOBS_BY_NAME
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import asked_in, entry_of, leaf_span, range_of
from harness.verdict.effects.maintained import NEVER
from harness.verdict.tlb.rules import Part, duty_of, overlaps, parts_of, passed_over

_BBM: Final = "Arm ARM, D8.14.1 (break-before-make)"
_MM_OPS: Final = "asm/kvm_pgtable.h, struct kvm_pgtable_mm_ops"
_CMOS: Final = KNOBS_BY_NAME["cmos"].names
_OF_48_BITS: Final = 1 << 48
_CLEANING: Final = frozenset(_CMOS.index(name) for name in ("both", "dcache"))
_FETCHING: Final = frozenset(_CMOS.index(name) for name in ("both", "icache"))
_WALKS: Final = "walks-under-way"
_CACHEABLE: Final = ("write-back", "write-through")


@contract(
    source="kvm_pgtable_stage2_unmap(): TLB invalidation for each entry cleared; Arm ARM, D8.14 (TLB maintenance)"
)
def what_goes_is_invalidated(op: Transition) -> Iterator[str] | None:
    """What an operation takes out of the table, no TLB holds any more when it returns, unless the header leaves that to
    its caller."""
    return _stale(op, "left-")


@contract(source=f"{_BBM}: an invalid entry, and an invalidation, between two that differ in address or type")
def an_entry_is_broken_before_it_is_made(op: Transition) -> Iterator[str] | None:
    """An entry that gives way to a table or a block, or gets another address or memory type, is invalid in between, and
    no TLB holds what it said when the new one comes."""
    return _stale(op, "bbm-")


@contract(source="Arm ARM, D8.14: a TLB may hold what leads to a table; kvm_pgtable_stage2_unmap(): pages are freed")
def a_table_is_freed_when_nothing_walks_it(op: Transition) -> Iterator[str] | None:
    """A table page is given back when neither the tree nor a TLB leads to it any more."""
    return _stale(op, "freed-")


def _stale(op: Transition, what: str) -> Iterator[str] | None:
    """The problems of a kind; nothing is asked where nothing went that the op itself must invalidate."""
    if op.record.ret is None or not op.number:
        return None
    if all(duty_of(op.op, one.is_weaker) is not None for one in op.effects.gone):
        return None
    return (f"{one.text} ({one.rule.section})" for one in op.stale if one.what.startswith(what))


@contract(source="asm/kvm_asm.h, __kvm_tlb_flush_vmid() and others; Arm ARM, D8.14 (TLB maintenance)")
def a_tlb_call_does_what_it_is_for(op: Transition) -> Iterator[str] | None:
    """Each call of a TLB function invalidates what it names, for the VMID that it is called for and nothing wider,
    behind the barriers and context switches that this takes, and puts the context back."""
    return _of_calls(op, lambda what: what != _WALKS)


@contract(
    source="Arm ARM, D8.1 (out-of-context regimes), LFHQG; Linux 6.4, nvhe: Synchronise with page table walker on TLBI"
)
def walks_are_over_before_the_context_changes(op: Transition) -> Iterator[str] | None:
    """Before a TLB function changes what the guest's table walks go by, a barrier has waited for those under way."""
    return _of_calls(op, lambda what: what == _WALKS)


def _of_calls(op: Transition, is_meant: Callable[[str], bool]) -> Iterator[str] | None:
    """What is wrong with calls of TLB functions; None where there are none, or their instructions are not told."""
    if op.record.ret is None or op.misdirected is None:
        return None
    return (f"{one.call.event}: {one.text}" for one in op.misdirected if is_meant(one.what))


@contract(
    "tlb_flush_vmid_range", source="kvm_tlb_flush_vmid_range(): the size of the range from the base to invalidate"
)
def a_flushed_range_is_invalidated(op: Transition) -> Iterator[str] | None:
    """All of the range that tlb_flush_vmid_range names is invalidated, on all CPUs; of addresses that the instruction
    has room for, which is 48 bits without FEAT_LPA2 (Arm ARM, TLBI RIPAS2E1IS: BaseADDR)."""
    span = range_of(op)
    if span is None or span[0] == span[1] or op.value("ipa") % op.machine.granule.page:
        return None
    if span[1] > _OF_48_BITS and not op.machine["lpa2"]:
        return None
    return _not_invalidated(op, *span)


def _not_invalidated(op: Transition, start: int, end: int) -> Iterator[str]:
    reached = start
    for one in sorted(op.effects.regions(), key=lambda one: one.start):
        if one.stage_2 and one.everywhere and one.level is None and one.start <= reached:
            reached = max(reached, one.end)
    if reached < end:
        yield f"{reached:#x}-{end:#x} is not invalidated"


@contract(
    "relax_perms", source="kvm_pgtable_stage2_relax_perms(): TLB invalidation is performed after updating the entry"
)
def relax_perms_invalidates(op: Transition) -> Iterator[str] | None:
    """Where relax_perms returns 0 and a valid leaf translates the address, what this CPU's TLB holds of it is
    invalidated behind the update: it may have faulted on an old entry."""
    span = leaf_span(op.before, op.value("ipa"))
    if op.record.ret != 0 or span is None or op.tampered:
        return None
    start, end = span
    entry, level = entry_of(op.before, start)
    reached = any(
        one.after is not None
        and one.at > op.effects.last_made
        and parts_of(one.what.operation.target) & Part.STAGE
        and overlaps(one.what, start, end - start, False)
        and passed_over(one.what, entry, level) is None
        for one in op.effects.tlbis
    )
    return iter(() if reached else (f"nothing invalidates {start:#x}-{end:#x}",))


@contract(
    "map", "handle", source=f"{_MM_OPS}: dcache_clean_inval_poc; KVM_PGTABLE_WALK_SKIP_CMO: without those required"
)
def memory_is_clean_before_the_guest_reaches_it(op: Transition) -> Iterator[str] | None:
    """Without FWB, cacheable memory is cleaned to the point of coherency before an entry maps it, but where the caller
    asks for no cache maintenance."""
    return None if _skips_cmos(op) or op.machine["cmos"] not in _CLEANING else _lacking(op, "cleaned")


@contract(
    *("map", "handle", "relax_perms"),
    source=f"{_MM_OPS}: icache_inval_pou; KVM_PGTABLE_WALK_SKIP_CMO: without those required",
)
def what_may_be_executed_is_fetched_anew(op: Transition) -> Iterator[str] | None:
    """The instruction cache is invalidated for memory before an entry lets it be executed, but where the caller asks
    for no cache maintenance."""
    return None if _skips_cmos(op) or op.machine["cmos"] not in _FETCHING else _lacking(op, "icache")


def _skips_cmos(op: Transition) -> bool:
    return op.op.name == "map" and bool(op.value("flags") & MAP_FLAG_BITS["skip_cmo"])


@contract(
    "unmap", source="kvm_pgtable_stage2_unmap(): ensures that a cacheable page is clean to the PoC, if FWB is not there"
)
def unmap_leaves_memory_clean(op: Transition) -> Iterator[str] | None:
    """Without FWB, cacheable memory that unmap removes is clean to the point of coherency when it returns: it is
    cleaned once the guest can write to it no more. set_owner promises nothing like it."""
    return _lacking(op, "cleaned after") if op.machine["cmos"] in _CLEANING else None


@contract(source="Arm ARM, B2.3 (ordering of translation table walks): a walk is an observer of its own")
def a_table_is_filled_before_it_is_linked(op: Transition) -> Iterator[str] | None:
    """What a table holds is visible to the walker before the entry that leads to it."""
    return _lacking(op, "visible")


@contract(
    "map", "hyp_map", source="Arm ARM, D8.2 (ordering of memory accesses from translation table walks): behind a DSB"
)
def what_is_mapped_can_be_walked(op: Transition) -> Iterator[str] | None:
    """What map makes, the walkers see when it returns: behind a DSB, and of hyp's own stage 1 behind an ISB as well."""
    return _lacking(op, "barrier", "isb") if op.effects.last_made != NEVER else None


def _lacking(op: Transition, *relations: str) -> Iterator[str] | None:
    """Where some relations do not hold; None where the op had nothing to do with them."""
    if op.record.ret is None:
        return None
    marks = [(place, mark) for (relation, place), mark in op.marks.items() if relation in relations]
    return (
        (
            f"{mark.what}{'' if place is None else f', at {place[1]:#x}, level {place[2]}'}"
            for place, mark in marks
            if not mark.holds
        )
        if marks
        else None
    )


@contract("flush", source="kvm_pgtable_stage2_flush_range(): clean and invalidate data cache to the PoC for the range")
def flush_cleans_what_is_mapped(op: Transition) -> Iterator[str] | None:
    """Without FWB, all memory that is mapped cacheable in the range of flush is cleaned to the point of coherency. With
    FWB the guest's accesses are coherent (Arm ARM, FEAT_S2FWB), and there is nothing to clean."""
    asked = asked_in(op)
    if asked is None or op.record.ret != 0 or op.machine.forces_write_back or op.machine["cmos"] not in _CLEANING:
        return None
    cached = [
        one
        for one in op.before.maplets(asked.start, asked.end)
        if one.memory is not None and any(word in one.memory.kind for word in _CACHEABLE)
    ]
    dcache = op.effects.dcache
    return (
        f"the memory of {one} is not cleaned"
        for one in cached
        if dcache.when(one.start + one.offset, one.end - one.start) is None
    )
