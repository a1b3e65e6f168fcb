"""What every op owes to the pages it works with."""

from __future__ import annotations

from collections.abc import Iterator

from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition


@contract(source="asm/kvm_pgtable.h, struct kvm_pgtable_mm_ops: put_page frees a page that nothing counts any more")
def nothing_reachable_is_freed(op: Transition) -> Iterator[str] | None:
    """A table page is given back only when no entry leads to it any more, its root's own end apart."""
    if not op.freed or op.tampered or op.op.name == "destroy":
        return None
    return (f"the page {one.page:#x} was given back while an entry led to it" for one in op.freed if one.is_reachable)


@contract(source="asm/kvm_pgtable.h, struct kvm_pgtable_mm_ops: get_page and put_page for each valid or owned entry")
def references_are_entries(op: Transition) -> Iterator[str] | None:
    """A table page has one reference for itself and one for each entry that is not empty. Who has left a page with
    others answers for it, not who finds it so."""
    tree = op.after.tree
    if tree is None or op.op.name == "destroy" or op.tampered or op.record.ret is None or not op.machine["page_count"]:
        return None
    return (
        f"the page {page:#x} has {op.after.references[page]} references, and {len(entries)} entries that are not empty"
        for page, entries in sorted(op.after.tables.items())
        if (excess := op.after.excess(page)) and (page not in op.before.tables or op.before.excess(page) != excess)
    )
