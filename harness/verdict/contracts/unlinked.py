"""Unlinked tables: the kernel-doc of kvm_pgtable_stage2_create_unlinked() and kvm_pgtable_stage2_free_unlinked() in
asm/kvm_pgtable.h of Linux 6.12."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.events import DCACHE, TLB_CALLS
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import events_in, unlike_prot
from harness.verdict.maplets import Tree, maplets


@contract("create_unlinked", source="kvm_pgtable_stage2_create_unlinked(): no TLB invalidation or CMOs are performed")
def an_unlinked_table_is_made_in_silence(op: Transition) -> Iterator[str] | None:
    """To make an unlinked table changes nothing of the tree, invalidates nothing and cleans nothing."""
    if op.record.ret is None or op.tampered:
        return None
    loud = events_in(op, {*TLB_CALLS, DCACHE})
    return chain((f"{change}" for change in op.changes), (f"{event}" for event in loud))


@contract("create_unlinked", source="kvm_pgtable_stage2_create_unlinked(): a fully populated structure")
def an_unlinked_table_is_full(op: Transition) -> Iterator[str] | None:
    """Where create_unlinked succeeds, the table that it makes translates all that an entry of its level does, to the
    memory asked for, with the permissions, memory type and software bits asked for."""
    tree = _made(op)
    if tree is None:
        return None
    size = 1 << op.machine.granule.level_shift(tree.level - 1)
    offset = op.value("phys") & -op.machine.granule.page
    return unlike_prot(maplets(tree, op.machine), 0, size, offset, op.value("prot"))


def _made(op: Transition) -> Tree | None:
    """The tree that the op has made."""
    level = op.value("level") + 1
    fresh = [page for page in op.after.tables if page not in op.before.tables]
    if op.record.ret != 0 or op.tampered or not fresh or not op.record.outs:
        return None
    address, below = address_field(op.machine).address, set[int]()
    for page in fresh:
        # Of which level a page is, is not known; what points to another fresh page is a table's entry.
        below.update(
            address(entry) for entry in op.after.tables[page].values() if is_table_entry(entry, level) or entry & 1
        )
    tops = [page for page in fresh if page not in below]
    if len(tops) != 1:
        return None
    bits = op.machine.granule.level_shift(level - 1)
    return Tree(tops[0], 1, level, bits, op.after.tables, {})


@contract("free_unlinked", source="kvm_pgtable_stage2_free_unlinked()")
def freeing_an_unlinked_table_leaves_the_tree_alone(op: Transition) -> Iterator[str] | None:
    """To free an unlinked table changes nothing of the tree, and invalidates nothing."""
    if op.record.ret is None or op.tampered:
        return None
    loud = events_in(op, TLB_CALLS)
    return chain((f"{change}" for change in op.changes), (f"{event}" for event in loud))
