"""A VM's memory slots and their dirty logs: Documentation/virt/kvm/api.rst, and the comments of arch/arm64/kvm/mmu.c.

That every MMU of the VM is reached is what the review of "KVM: arm64: Factor out stage 2 page table data from struct
kvm" asks for (seed 003, 2020-05-05): "Wouldn't something manipulating a memslot have to mess with a set of kvm_s2_mmu
once this is all assembled?" In the first MMU's table a slot is a range of addresses; in another one it is its memory,
which may be anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import Final

from harness.observation.events import LOG_CLEARED
from harness.program import syndromes
from harness.program.machine import Machine
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import is_only, is_warned, left_empty, slots_in_range, trees_of
from harness.verdict.maplets import Change, Maplet, Tree, at, changes, maplets, within
from harness.verdict.memslots import Slot, pages_told, wanted_by

_REVIEW: Final = "seed 003, review of 2020-05-05"
_REGION: Final = "Documentation/virt/kvm/api.rst, KVM_SET_USER_MEMORY_REGION"
_SHADOW: Final = "kvm_arch_flush_shadow_memslot(): the slot's memory is unmapped in every table"
_PROTECTED: Final = "kvm_mmu_wp_memory_region(): all present entries are write protected when it returns"
_GET: Final = "Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG: any pages dirtied since the last call"
_TAKEN: Final = "linux/mmu_notifier.h, invalidate_range_start(): references to the pages of the range are removed"
_YOUNG: Final = "linux/mmu_notifier.h, clear_flush_young(): the secondary MMU may map at a smaller granularity"
_CHANGES: Final = ("memslot_add", "memslot_remove", "memslot_move", "memslot_log")
_LOGS: Final = ("memslot_add", "memslot_log", "memslot_dirty", "memslot_clear")


def _slots(op: Transition, number: int) -> Slot | None:
    """The slot that an op names, after the record of that number."""
    return op.judged.slots[number].of.get(op.value("slot"))


def _of_memory(tree: Tree, machine: Machine, start: int, end: int) -> Iterator[Maplet]:
    """What of a tree is mapped to the memory [start, end)."""
    for one in maplets(tree, machine):
        if one.is_mapped and one.start + one.offset < end and start < one.end + one.offset:
            yield one


@contract("memslot_remove", "memslot_move", "memslot_flush", source=f"{_SHADOW}; {_REVIEW}")
def removed_memory_is_reached_by_no_mmu(op: Transition) -> Iterator[str] | None:
    """What a slot had is mapped in no table any more when the slot was removed, moved away or flushed: in the first
    MMU's nothing at its addresses, in another nothing to its memory."""
    slot, now = _slots(op, op.number - 1), _slots(op, op.number)
    if op.record.ret != 0 or slot is None or op.tampered:
        return None
    if op.op.name == "memslot_move" and now is not None and now.ipa == slot.ipa:
        return None
    return _still_reached(op, slot)


def _still_reached(op: Transition, slot: Slot) -> Iterator[str]:
    first, others = trees_of(op, op.after)
    if first is not None:
        for one in within(maplets(first, op.machine), slot.ipa, slot.end):
            if one.is_mapped:
                yield f"{one} is still there"
    for tree in others:
        for one in _of_memory(tree, op.machine, slot.phys, slot.phys + slot.size):
            yield f"another MMU's table still has {one}"


@contract("memslot_unmap", source=f"{_TAKEN}; {_REVIEW}")
def memory_taken_away_is_reached_by_no_mmu(op: Transition) -> Iterator[str] | None:
    """What the host takes away of a slot's memory is mapped in no table any more: in the first MMU's nothing at its
    addresses, in another nothing to its memory."""
    shares = slots_in_range(op)
    if op.record.ret != 0 or not shares or op.tampered:
        return None
    return chain.from_iterable(_still_reached(op, one) for one in shares)


@contract("memslot_age", "memslot_test_age", source=_YOUNG)
def ageing_slots_clears_access_flags_alone(op: Transition) -> Iterator[str] | None:
    """Ageing slots clears the access flags of all leaves of the range in the first MMU's table, and changes nothing
    else in any; to look at them changes nothing."""
    shares = _aged(op)
    if shares is None:
        return None
    ages = op.op.name == "memslot_age"
    first, others = trees_of(op, op.after)
    was, others_were = trees_of(op, op.before)
    kept = (f"{one} still has its access flag" for one in _young(first, op.machine, shares) if ages)
    changed = (one for one in _changes(was, first, op.machine) if not ages or not is_only(one, is_young=_is_cleared))
    beside = chain.from_iterable(map(_changes, others_were, others, [op.machine] * len(others)))
    return chain(kept, (f"{one}" for one in chain(changed, beside)))


@contract("memslot_age", "memslot_test_age", source=_YOUNG)
def ageing_slots_tells_whether_any_was_young(op: Transition) -> Iterator[str] | None:
    """It tells whether any leaf of the range had the access flag in the first MMU's table."""
    shares = _aged(op)
    if shares is None:
        return None
    first, _ = trees_of(op, op.before)
    told, is_so = bool(op.record.outs[0]), any(_young(first, op.machine, shares))
    return iter(()) if told == is_so else iter((f"it told {told}, and {is_so} is so",))


def _aged(op: Transition) -> list[Slot] | None:
    """What of slots an op asks for the age of; None where nothing is promised."""
    shares = slots_in_range(op)
    return shares if op.record.ret == 0 and shares and not op.tampered and not is_warned(op) else None


def _young(tree: Tree | None, machine: Machine, shares: list[Slot]) -> Iterator[Maplet]:
    for share in shares:
        for one in within(maplets(tree, machine), share.ipa, share.end):
            if one.memory is not None and one.memory.is_young:
                yield one


def _changes(was: Tree | None, now: Tree | None, machine: Machine) -> Iterator[Change]:
    return changes(maplets(was, machine), maplets(now, machine))


def _is_cleared(_: object, now: object) -> bool:
    return not now


@contract(
    *("memslot_remove", "memslot_flush", "memslot_unmap"),
    source="kvm_pgtable_stage2_unmap(): unreferenced pages are freed",
)
def a_flush_leaves_no_empty_table(op: Transition) -> Iterator[str] | None:
    """A table page that is left empty where a slot was removed or flushed, or its memory taken away, is freed."""
    of = slots_in_range(op) if op.op.name == "memslot_unmap" else _slots(op, op.number - 1)
    return left_empty(op) if op.record.ret == 0 and of else None


@contract(*_LOGS, source=f"{_PROTECTED}; KVM_CLEAR_DIRTY_LOG: re-enables dirty logging; {_REVIEW}")
def logged_memory_is_written_by_none_without_a_fault(op: Transition) -> Iterator[str] | None:
    """Of a slot whose log begins empty, and of pages that were taken out of a log, no MMU's table says that they may be
    written: the next write aborts."""
    pages = _protected(op)
    if pages is None or op.tampered:
        return None
    return _writable(op, pages)


def _protected(op: Transition) -> list[tuple[int, int, int]] | None:
    """What is write-protected after an op: addresses [start, end), and where its memory begins."""
    old, slot = _slots(op, op.number - 1), _slots(op, op.number)
    if op.record.ret != 0 or slot is None or not slot.is_logged:
        return None
    if op.op.name in ("memslot_dirty", "memslot_clear"):
        page = op.machine.granule.page
        pages = [(one, one + page, slot.phys + one - slot.ipa) for one in pages_told(op.record, LOG_CLEARED)]
        return pages or None
    if (old is not None and old.is_logged) or not slot.protects:
        return None
    return [(slot.ipa, slot.end, slot.phys)]


def _writable(op: Transition, pages: list[tuple[int, int, int]]) -> Iterator[str]:
    first, others = trees_of(op, op.after)
    of_first = [] if first is None else maplets(first, op.machine)
    for start, end, pa in pages:
        for one in within(of_first, start, end):
            if one.memory is not None and "w" in one.memory.allows:
                yield f"{one} may be written"
        for tree in others:
            for one in _of_memory(tree, op.machine, pa, pa + end - start):
                if one.memory is not None and "w" in one.memory.allows:
                    yield f"another MMU's table lets {one} be written"


@contract(*_LOGS, source=f"kvm_flush_remote_tlbs_memslot(): after write protection; {_REVIEW}")
def no_tlb_of_another_mmu_lets_logged_memory_be_written(op: Transition) -> Iterator[str] | None:
    """Of what was write-protected, no TLB holds that it may be written, also under the VMIDs of other MMUs than the
    first; under that, what goes is invalidated as everywhere."""
    pages = _protected(op)
    if pages is None or op.tampered:
        return None
    mmus = op.judged.mmus(op.number)
    return (
        f"MMU {one.mmu}: {one.text} may be cached"
        for one in op.judged.judgement.writable.get(op.number, ())
        if mmus.vm_of(one.mmu) == mmus.vm
        and mmus.table_of(one.mmu) != mmus.vm
        and any(pa < one.pa + one.size and one.pa < pa + end - start for start, end, pa in pages)
    )


@contract("memslot_dirty", source=_GET)
def the_log_tells_every_page_that_was_written(op: Transition) -> Iterator[str] | None:
    """The log names every page of its slot that a guest's access has written since the page was last taken out of it,
    whichever MMU the access went by, as long as nobody else lets memory be written."""
    missed = op.judged.logs.get(op.number)
    return None if missed is None else (f"the page at {page:#x} was written" for page in missed)


@contract("memslot_handle", source="user_mem_abort(): page mappings only while logging; mark_page_dirty_in_slot()")
def what_is_given_for_writing_is_logged(op: Transition) -> Iterator[str] | None:
    """While a slot is logged, an abort is handled with a single page, and that is marked where the guest may write it
    from then on."""
    abort = op.judged.handlings.get(op.number)
    slots = op.judged.slots[op.number]
    if op.record.ret != 0 or abort is None or not abort.size or op.tampered or slots.table != slots.vm:
        return None
    exception_class, writes, _ = syndromes.esr_fields(abort.esr)
    number = slots.logged_at(abort.access.value("ipa"))
    if exception_class != syndromes.DATA_ABORT or number is None or slots.of[number].is_readonly:
        return None
    there = at(op.before.all_maplets, abort.access.value("ipa"))
    if there is not None and there.memory is not None and "w" in there.memory.allows:
        return None  # somebody was faster, and has marked it
    given = at(op.after.all_maplets, abort.access.value("ipa"))
    may_write = given is not None and given.memory is not None and "w" in given.memory.allows
    return _unmarked(op, abort.size, bool(writes) and may_write)


def _unmarked(op: Transition, size: int, may_write: bool) -> Iterator[str]:
    if size != op.machine.granule.page:
        yield f"{size:#x} bytes were mapped, which is more than a page"
    if may_write and not op.record.outs[-1]:
        yield "the page may be written, and was not marked"


@contract(*_CHANGES, source=f"{_REGION}: slots must not overlap in guest physical address space")
def slots_do_not_overlap(op: Transition) -> Iterator[str] | None:
    """A slot that would overlap another one is neither made nor moved there."""
    before = op.judged.slots[op.number - 1]
    wanted = wanted_by(before, op.op)
    if op.record.ret is None or wanted is None or not wanted.size:
        return None
    slot = op.value("slot")
    over = [number for number, one in before.of.items() if number != slot and one.overlaps(wanted.ipa, wanted.size)]
    if not over:
        return None
    return iter(() if op.record.ret < 0 else (f"it overlaps slot {number}" for number in over))
