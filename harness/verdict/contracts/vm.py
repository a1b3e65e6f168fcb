"""Several VMs, and several stage-2 MMUs of one: what happens under one is no other's affair, and what they share is
told to all.

That MMUs share a root is the design of seed 003, and not Linux's as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, combinations
from typing import Final

from harness.observation.events import (
    ALLOC_EXACT,
    FLUSH_VM_CONTEXT,
    FOR_MMU,
    TLBI,
    TLBI_KINDS,
    TLBI_VMID,
    Event,
    each_event,
)
from harness.observation.layout import FIRST_MMU
from harness.observation.mmus import named_by, vmid_made_by
from harness.observation.tlbi import Target, invalidation_of
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import State, Transition
from harness.verdict.maplets import Tree, changes, maplets

_SEED: Final = "seed 003 (kvm_s2_mmu)"
_MAKE: Final = ("mmu_init", "mmu_share", "vm_create")
"""Ops that make an MMU."""
_NO_TREE: Final = "it has none any more"


@contract(source=f"{_SEED}: the VMID and the pgd of a stage 2 are its MMU's own")
def other_tables_say_what_they_said(op: Transition) -> Iterator[str] | None:
    """An operation under one MMU changes nothing of what the tables of others say, and gives back none of their pages.
    Only what frees an MMU ends a table, its own, and what ends a VM, all of that; and memory slots are the VM's, whose
    tables they change all, and no other VM's."""
    kept = _kept(op)
    return None if op.record.ret is None or not kept else _differences(op, kept)


def _kept(op: Transition) -> dict[int, Tree]:
    """The other tables that there were, without those of which the last MMU is freed, and those that slots change."""
    if not op.before.others:
        return {}
    mmus = op.judged.mmus(op.number)
    ended, of_slots = mmus.ended_by(op.record), op.op.name.startswith("memslot_")
    return {
        table: tree
        for table, tree in op.before.others.items()
        if not (of_slots and mmus.vm_of_table(table) == mmus.vm)
        and not (ended and set(mmus.sharing(table)) <= set(ended))
    }


def _differences(op: Transition, kept: dict[int, Tree]) -> Iterator[str]:
    if op.before is op.after:
        return
    for number, tree in kept.items():
        now = op.after.others.get(number)
        yield from (f"of table {number}: {one}" for one in _changed(op.before, tree, op.after, now))


def _changed(before: State, tree: Tree, after: State, now: Tree | None) -> Iterator[str]:
    """What a tree says otherwise than it did."""
    if now is None:
        yield _NO_TREE
        return
    pages = before.reachable_in(tree)
    if all(before.tables[page] is after.tables.get(page) for page in pages):
        return
    yield from map(str, changes(maplets(tree, before.machine), maplets(now, after.machine)))
    yield from (f"the page {page:#x} is in use no more" for page in sorted(pages) if page not in after.tables)


@contract("mmu_free", source=f"{_SEED}: two of them can point to the same pgd; kvm_free_stage2_pgd() frees an MMU's")
def a_shared_table_outlives_the_mmu_that_is_freed(op: Transition) -> Iterator[str] | None:
    """Freeing an MMU leaves the table that another one shares, whole. The MMU whose table it was first is no
    exception."""
    mmu, mmus = named_by(op.record), op.judged.mmus(op.number)
    table = None if mmu is None else mmus.table_of(mmu)
    if table is None or len(mmus.sharing(table)) == 1:
        return None
    tree, now = (state.tree if table == mmus.table else state.others.get(table) for state in (op.before, op.after))
    return None if tree is None else _changed(op.before, tree, op.after, now)


@contract("mmu_free", source="kvm_free_stage2_pgd(): kvm_pgtable_stage2_destroy() of the MMU's table")
def the_last_mmu_of_a_table_takes_it_along(op: Transition) -> Iterator[str] | None:
    """When the last MMU that has a table is freed, none of the table's pages is in use, but for those that had a
    reference too many already."""
    mmu, mmus = named_by(op.record), op.judged.mmus(op.number)
    table = None if mmu is None else mmus.table_of(mmu)
    if table is None or len(mmus.sharing(table)) > 1 or op.tampered:
        return None
    tree = op.before.tree if table == mmus.table else op.before.others.get(table)
    if tree is None:
        return None
    left = [page for page in op.before.reachable_in(tree) if page in op.after.tables and not op.before.excess(page)]
    return (f"the table {page:#x} is still in use" for page in sorted(left))


@contract("vm_end", source="kvm_arch_flush_shadow_all() and kvm_uninit_stage2_mmu(): all of a VM's stage 2 is freed")
def a_vm_s_end_leaves_none_of_its_pages(op: Transition) -> Iterator[str] | None:
    """When a VM has ended, no page of any table of its MMUs is in use, but for those that had a reference too many
    already."""
    mmus = op.judged.mmus(op.number)
    tables = {mmus.table_of(mmu) for mmu in mmus.ended_by(op.record)}
    trees = [
        op.before.tree if table == mmus.table else op.before.others.get(table or 0) for table in sorted(tables, key=str)
    ]
    if not any(trees) or op.tampered:
        return None
    pages = {page for tree in trees if tree is not None for page in op.before.reachable_in(tree)}
    left = [page for page in pages if page in op.after.tables and not op.before.excess(page)]
    return (f"the table {page:#x} is still in use" for page in sorted(left))


@contract(source=f"{_SEED}: shared roots apart, an MMU has a stage-2 table of its own")
def a_table_page_is_in_one_tree(op: Transition) -> Iterator[str] | None:
    """No table page hangs in the trees of two tables."""
    if not op.after.others or op.after is op.before or op.tampered:
        return None
    trees = [op.after.reachable, *(op.after.reachable_in(tree) for tree in op.after.others.values())]
    return (
        f"the page {page:#x} is in two trees" for one, other in combinations(trees, 2) for page in sorted(one & other)
    )


@contract(source="Arm ARM, D8.14 (TLB maintenance): operations reach one VMID; seed 003: maintenance must reach both")
def each_mmu_that_shares_a_table_is_told(op: Transition) -> Iterator[str] | None:
    """What is invalidated for an MMU is invalidated for every MMU that shares its table, as often, and for no other:
    TLBs hold what the table says under the VMID of each; what changes memory slots does so table by table."""
    mmus = op.judged.mmus(op.number)
    if not mmus.are_several or op.record.ret is None:
        return None
    told: dict[int, list[Event]] = {}
    for call in op.judged.calls.get(op.number, ()):
        if call.event.kind in TLBI_KINDS:
            told.setdefault(mmus.in_use if call.mmu is None else call.mmu, []).append(call.event)
    if not told:
        return None
    if not op.op.name.startswith("memslot_"):
        return _told_apart(told, mmus.sharing(mmus.table))
    several = [mmus.sharing(table) for table in sorted({mmus.table_of(mmu) or FIRST_MMU for mmu in told})]
    return chain.from_iterable(
        _told_apart({mmu: events for mmu, events in told.items() if mmu in sharing}, sharing) for sharing in several
    )


def _told_apart(told: dict[int, list[Event]], sharing: list[int]) -> Iterator[str]:
    most = max(told.values(), key=len)
    for mmu in sorted({*told, *sharing}):
        if mmu not in sharing:
            yield f"MMU {mmu} is told, and does not share the table"
        elif told.get(mmu, []) != most:
            yield f"MMU {mmu} is told of {len(told.get(mmu, []))} invalidations, another of {len(most)}"


@contract(source=f"{_SEED}: TLB maintenance is addressed by MMU")
def maintenance_reaches_no_other_vmid(op: Transition) -> Iterator[str] | None:
    """Where a VM has several MMUs, nothing but a rollover's flush invalidates what is held under every VMID."""
    if not op.judged.mmus(op.number).are_several or op.record.ret is None:
        return None
    calls = [one for one in op.judged.calls.get(op.number, ()) if one.instructions]
    lpa2 = bool(op.machine["lpa2"])
    return (
        (
            f"{call.event}: {event}"
            for call in calls
            if call.event.kind != FLUSH_VM_CONTEXT
            for event in call.instructions
            if event.instruction == TLBI
            and (what := invalidation_of(event.a, event.b, lpa2)) is not None
            and (what.operation.regime, what.operation.target) == (1, Target.ALL)
        )
        if calls
        else None
    )


@contract(source=f"{_SEED}: TLB maintenance is addressed by MMU, each of which is one VM's")
def maintenance_is_for_the_vm_s_own_mmus(op: Transition) -> Iterator[str] | None:
    """What an op invalidates, it invalidates for MMUs of the VM in use, or of that whose vCPU it loads; a rollover's
    flush is for all."""
    mmus = op.judged.mmus(op.number)
    if not mmus.are_several or op.record.ret is None:
        return None
    loaded = mmus.loaded_by(op.record)
    vm = mmus.vm if loaded is None else mmus.vm_of(loaded)
    calls = [one for one in op.judged.calls.get(op.number, ()) if one.event.kind != FLUSH_VM_CONTEXT]
    if not calls:
        return None
    return (
        f"{one.event} is for MMU {mmu}, of another VM"
        for one in calls
        if mmus.vm_of(mmu := mmus.in_use if one.mmu is None else one.mmu) != vm
    )


@contract(*_MAKE, source="Arm ARM, D8.14: TLBs may hold what they found under a VMID until that is invalidated")
def the_vmid_of_what_has_ended_is_nobody_s(op: Transition) -> Iterator[str] | None:
    """An MMU that is made has no VMID that another one had when it was freed, or when its VM ended: nothing has
    invalidated what TLBs hold under that."""
    made, ended = named_by(op.record), op.judged.mmus(op.number).ended_vmids
    if made is None or not ended:
        return None
    vmid = vmid_made_by(op.record)
    return iter((f"MMU {made} has the VMID {vmid:#x}, which one that has ended had",) if vmid in ended else ())


@contract(*_MAKE, source="Arm ARM, D8.14: TLB entries are tagged with a VMID; seed 003")
def no_vmid_serves_two_mmus(op: Transition) -> Iterator[str] | None:
    """An MMU that is made has a VMID that no other MMU has, of whatever VM."""
    made, mmus = named_by(op.record), op.judged.mmus(op.number + 1)
    if made is None:
        return None
    others = [mmu for mmu in mmus if mmu != made and mmus.vmid(mmu) == mmus.vmid(made)]
    return (f"MMU {mmu} has the VMID {mmus.vmid(made)} as well" for mmu in others)


@contract("mmu_again", source="kvm_init_stage2_mmu(): if the page tables are in place, an error, or leave gracefully")
def what_is_initialised_again_stays(op: Transition) -> Iterator[str] | None:
    """An MMU that has a table keeps it, as it is, when it is initialised again. Of a VM's first MMU that is an
    error."""
    tree = op.before.tree
    if tree is None or op.record.ret is None:
        return None
    return _stays(op, tree)


def _stays(op: Transition, tree: Tree) -> Iterator[str]:
    if not op.record.ret and (mmus := op.judged.mmus(op.number)).in_use == mmus.first:
        yield "a VM's first MMU is initialised twice without an error"
    now = op.after.tree
    if now is not None and now.root != tree.root:
        yield f"its root was at {tree.root:#x}, and is at {now.root:#x}"
    yield from _changed(op.before, tree, op.after, now)


@contract("mmu_again", source="Arm ARM, D8.14: TLBs may hold what they found under a VMID until that is invalidated")
def another_table_comes_behind_an_invalidation(op: Transition) -> Iterator[str] | None:
    """Where an MMU that has lost its table is given another, everything under its VMID is invalidated first, and under
    those of all that share the table."""
    if op.record.ret != 0 or op.before.tree is not None:
        return None
    mmus, told = op.judged.mmus(op.number), set[int]()
    for event, other in _before_the_root(op):
        if event.kind == TLBI_VMID:
            told.add(mmus.in_use if other is None else other)
    return (f"nothing is invalidated for MMU {one}" for one in mmus.sharing(mmus.table) if one not in told)


def _before_the_root(op: Transition) -> Iterator[tuple[Event, int | None]]:
    """The events before the root is allocated, each with the MMU that it names as another than the one in use."""
    named = None
    for event in each_event(op.record.events):
        if event.kind == ALLOC_EXACT:
            return
        yield event, named
        named = event.a if event.kind == FOR_MMU else None
