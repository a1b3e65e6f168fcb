"""What every op owes to the pages it works with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition


@contract(source="asm/kvm_pgtable.h, struct kvm_pgtable_mm_ops: put_page frees a page that nothing counts any more")
def nothing_reachable_is_freed(op: Transition) -> Iterator[str] | None:
    """A table page is given back only when no entry leads to it any more, its root's own end apart."""
    if not op.freed or op.tampered or op.op.name in ("destroy", "mmu_free", "vm_end"):
        return None
    return (f"the page {one.page:#x} was given back while an entry led to it" for one in op.freed if one.is_reachable)


@contract(source="asm/kvm_pgtable.h, struct kvm_pgtable_mm_ops: get_page and put_page for each valid or owned entry")
def references_are_entries(op: Transition) -> Iterator[str] | None:
    """A table page has one reference for itself and one for each entry that is not empty. Who has left a page with
    others answers for it, not who finds it so."""
    tree = op.after.tree
    if tree is None or op.op.name == "destroy" or op.tampered or op.record.ret is None or not op.machine["page_count"]:
        return None
    if op.before is op.after:
        return iter(())
    return (
        f"the page {page:#x} has {op.after.references[page]} references, and {len(entries)} entries that are not empty"
        for page, entries in sorted(op.after.tables.items())
        if (excess := op.after.excess(page)) and (page not in op.before.tables or op.before.excess(page) != excess)
    )


_OWN_TREES: Final = frozenset(
    ("create_unlinked", "free_unlinked", "link", "init", "mmu_init", "mmu_again", "vm_create")
)
"""Ops that make or end trees of their own, or leave one behind."""


@contract(
    source="kvm_pgtable_stage2_unmap(), _create_unlinked(): unreferenced pages are freed; an error leaves no structure"
)
def nothing_leaks(op: Transition) -> Iterator[str] | None:
    """A page that an operation took for a table, or that it took out of the tree, is in the tree or given back when it
    returns; where create_unlinked, mmu_init or vm_create fails, none of its pages is in use."""
    failed = op.op.name in ("create_unlinked", "mmu_init", "vm_create") and bool(op.record.ret)
    if op.record.ret is None or op.tampered or not op.machine["page_count"] or op.before is op.after:
        return None
    if op.after.tree is None or (op.op.name in _OWN_TREES and not failed):
        return None
    loose = op.after.loose - op.before.loose
    return (f"the page {page:#x} is in use, and in no tree" for page in sorted(loose))


@contract(
    *("init", "map", "unmap", "set_owner", "wrprotect", "relax_perms", "flush", "split", "walk", "get_leaf", "hyp_map"),
    source="asm/kvm_pgtable.h, each function: 0 on success, negative error code on failure",
)
def a_result_is_0_or_an_error(op: Transition) -> Iterator[str] | None:
    """What an operation returns is 0, or a negative error code."""
    if op.record.ret is None:
        return None
    return iter(() if -_MAX_ERRNO <= op.record.ret <= 0 else (f"it returned {op.record.ret}",))


_MAX_ERRNO: Final = 4095
"""include/linux/err.h."""
