"""Kernel trees with a few lines changed, for tests that need a kernel to be wrong in a certain way."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from reference.build.tree import KernelTree

# Lines of pgtable.c that changes are made at.
MAP_SIGNATURE: Final = "int kvm_pgtable_stage2_map(struct kvm_pgtable *pgt, u64 addr, u64 size,"
IN_MAP: Final = "	if (WARN_ON((pgt->flags & KVM_PGTABLE_S2_IDMAP) && (addr != phys)))"
IN_CLEAR_PTE: Final = "	WRITE_ONCE(*ptep, 0);"
CLEAR_PTE_SIGNATURE: Final = "static void kvm_clear_pte(kvm_pte_t *ptep)"
AFTER_TABLE_IS_FREED: Final = "	mm_ops->free_unlinked_table(childp, ctx->level);"
IN_UNMAP: Final = "	stage2_unmap_put_pte(ctx, mmu, mm_ops);"

HANGS_SOON: Final = 0.25
"""`Reference.work` of a kernel that hangs on purpose: some forty times what a program takes, and no longer."""


def with_pgtable(tree: KernelTree, path: Path, text: str) -> KernelTree:
    """`tree` with `text` as its pgtable.c, written to `path`."""
    path.write_text(text)
    return replace(tree, pgtable=path, pgtable_sha256=hashlib.sha256(text.encode()).hexdigest())


def with_changes(tree: KernelTree, path: Path, changes: Mapping[str, str]) -> KernelTree:
    """`tree` with another pgtable.c: each key, a line that occurs once, becomes its value."""
    lines = tree.pgtable.read_text().split("\n")
    for anchor, replacement in changes.items():
        assert lines.count(anchor) == 1, f"the anchor does not occur once: {anchor}"
        lines[lines.index(anchor)] = replacement
    return with_pgtable(tree, path, "\n".join(lines))


def before(line: str, code: str) -> dict[str, str]:
    """The change that puts `code` before `line`, without moving what follows."""
    return {line: f"	{code}{line}"}


def line_of(tree: KernelTree, text: str) -> int:
    """The number of the only line of the tree's pgtable.c that holds `text`."""
    numbers = [number for number, line in enumerate(tree.pgtable.read_text().split("\n"), 1) if text in line]
    assert len(numbers) == 1, f"not on one line: {text}"
    return numbers[0]
