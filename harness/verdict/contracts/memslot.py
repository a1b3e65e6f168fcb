"""A VM's memory slots and their dirty logs: Documentation/virt/kvm/api.rst, and the comments of arch/arm64/kvm/mmu.c.

That every MMU of the VM is reached is what the review of "KVM: arm64: Factor out stage 2 page table data from struct
kvm" asks for (seed 003, 2020-05-05): "Wouldn't something manipulating a memslot have to mess with a set of kvm_s2_mmu
once this is all assembled?" In the first MMU's table a slot is a range of addresses; in another one it is its memory,
which may be anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.observation.events import LOG_CLEARED
from harness.program import syndromes
from harness.program.machine import Machine
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import State, Transition
from harness.verdict.contracts.terms import left_empty
from harness.verdict.maplets import Maplet, Tree, at, maplets, within
from harness.verdict.memslots import Slot, pages_told, wanted_by

_REVIEW: Final = "seed 003, review of 2020-05-05"
_REGION: Final = "Documentation/virt/kvm/api.rst, KVM_SET_USER_MEMORY_REGION"
_SHADOW: Final = "kvm_arch_flush_shadow_memslot(): the slot's memory is unmapped in every table"
_PROTECTED: Final = "kvm_mmu_wp_memory_region(): all present entries are write protected when it returns"
_GET: Final = "Documentation/virt/kvm/api.rst, KVM_GET_DIRTY_LOG: any pages dirtied since the last call"
_CHANGES: Final = ("memslot_add", "memslot_remove", "memslot_move", "memslot_log")
_LOGS: Final = ("memslot_add", "memslot_log", "memslot_dirty", "memslot_clear")


def _slots(op: Transition, number: int) -> Slot | None:
    """The slot that an op names, after the record of that number."""
    return op.judged.slots[number].of.get(op.value("slot"))


def _trees(op: Transition, state: State) -> tuple[Tree | None, list[Tree]]:
    """The tree of the first MMU of the VM in use, and those of its other tables."""
    mmus = op.judged.mmus(op.number)
    trees = {number: tree for number, tree in state.others.items() if mmus.vm_of_table(number) == mmus.vm}
    if state.tree is not None:
        trees[op.judged.slots[op.number - 1].table] = state.tree
    first = trees.pop(mmus.vm, None)
    return first, [trees[number] for number in sorted(trees)]


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
    first, others = _trees(op, op.after)
    if first is not None:
        for one in within(maplets(first, op.machine), slot.ipa, slot.end):
            if one.is_mapped:
                yield f"{one} is still there"
    for tree in others:
        for one in _of_memory(tree, op.machine, slot.phys, slot.phys + slot.size):
            yield f"another MMU's table still has {one}"


@contract("memslot_remove", "memslot_flush", source="kvm_pgtable_stage2_unmap(): unreferenced pages are freed")
def a_flush_leaves_no_empty_table(op: Transition) -> Iterator[str] | None:
    """A table page that a removed or flushed slot has left empty is freed."""
    return None if op.record.ret != 0 or _slots(op, op.number - 1) is None else left_empty(op)


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
    first, others = _trees(op, op.after)
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
