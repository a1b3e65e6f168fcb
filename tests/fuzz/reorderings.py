"""Changes of order to Linux's pgtable.c, made when a test runs: what an optimisation does on purpose, and what it may
forget meanwhile. Each finds its place by a function's name and one line in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from reference.build.sources import KernelChoice, prepare

LINUX = "6.12"


@dataclass(frozen=True)
class Edit:
    """In the body of a function, what becomes of the first line that contains `line`: `new`, in which `{}` is it."""

    function: str
    line: str
    new: str


@dataclass(frozen=True)
class Reordering:
    """A change, by name; `flagged` is how the bucket begins under --expect order, None where nothing is wrong."""

    name: str
    edits: tuple[Edit, ...]
    flagged: str | None = None

    def write(self, folder: Path) -> Path:
        """The changed pgtable.c, in a folder."""
        text = prepare(KernelChoice(LINUX)).pgtable.read_text()
        for edit in self.edits:
            start = text.index("\n{\n", text.index(f" {edit.function}("))
            end = text.index("\n}\n", start)
            lines = text[start:end].split("\n")
            at = next(number for number, line in enumerate(lines) if edit.line in line)
            lines[at] = edit.new.replace("{}", lines[at])
            text = text[:start] + "\n".join(lines) + text[end:]
        changed = folder / f"{self.name}.c"
        changed.write_text(text)
        return changed


_TEARDOWN = """
	if (kvm_pte_table(ctx->old, ctx->level)) {
		if (mm_ops->page_count(kvm_pte_follow(ctx->old, mm_ops)) != 1)
			return 0;
		mm_ops->put_page(ctx->ptep);
		mm_ops->put_page(kvm_pte_follow(ctx->old, mm_ops));
		kvm_clear_pte(ctx->ptep);
		return 0;
	}
{}"""
_WHOLE_TABLE = """{}
	u64 whole = kvm_granule_size(ctx->level);

	if (visit == KVM_PGTABLE_WALK_TABLE_PRE) {
		if (WHERE && IS_ALIGNED(ctx->addr, whole) && ctx->end - ctx->addr >= whole) {
			kvm_clear_pte(ctx->ptep);
			kvm_tlb_flush_vmid_range(mmu, ctx->addr, whole);
			mm_ops->put_page(ctx->ptep);
			mm_ops->free_unlinked_table(kvm_pte_follow(ctx->old, mm_ops), ctx->level);
		}
		return 0;
	}"""
_ALL_VISITS = "		.flags = KVM_PGTABLE_WALK_TABLE_PRE | KVM_PGTABLE_WALK_LEAF | KVM_PGTABLE_WALK_TABLE_POST,"
_CLEANS = """
	bool cleans = !kvm_pgtable_walk_skip_cmo(ctx) && mm_ops->dcache_clean_inval_poc;

	if (cleans && stage2_pte_cacheable(pgt, new))
		mm_ops->dcache_clean_inval_poc(kvm_pte_follow(new, mm_ops), granule);
{}"""


_DROP = "mm_ops->put_page(ctx->ptep);"
_DROPS = "\tif (stage2_pte_is_counted(ctx->old))\n\t\tmm_ops->put_page(ctx->ptep);\n{}"
_COUNTS = "{}\n\tif (stage2_pte_is_counted(new))\n\t\tmm_ops->get_page(ctx->ptep);"


def _fast_unmap(name: str, where: str, flagged: str | None = None, **other: tuple[str, str]) -> Reordering:
    """Unmap that takes whole tables out, where it may, instead of their entries one by one; `other` lines of it."""
    code = _WHOLE_TABLE.replace("WHERE", where)
    for line, new in other.values():
        code = code.replace(line, new)
    edits = (
        Edit("stage2_unmap_walker", "bool need_flush", code),
        Edit("kvm_pgtable_stage2_unmap", "KVM_PGTABLE_WALK_LEAF", _ALL_VISITS),
    )
    return Reordering(name, edits, flagged)


HARMLESS = (
    Reordering("teardown-clears-afterwards", (Edit("stage2_free_walker", "mm_ops->put_page(ctx->ptep)", _TEARDOWN),)),
    _fast_unmap("whole-tables-with-fwb", "stage2_has_fwb(pgt)"),
    Reordering(
        "cleaned-before-the-break",
        (
            Edit("stage2_map_walker_try_leaf", "mm_ops->dcache_clean_inval_poc &&", "\tif (0 &&"),
            Edit("stage2_map_walker_try_leaf", "try_break_pte(", _CLEANS),
        ),
    ),
    Reordering(
        "counted-after-the-store",
        (
            Edit("stage2_make_pte", "stage2_pte_is_counted(new)", "\tif (0)"),
            Edit("stage2_make_pte", "smp_store_release(", _COUNTS),
        ),
    ),
    Reordering(
        "uncounted-before-the-tlbi",
        (
            Edit("stage2_try_break_pte", "stage2_pte_is_counted(ctx->old)", "\tif (0)"),
            Edit("stage2_try_break_pte", "skip_bbm_tlbi(ctx)", _DROPS),
        ),
    ),
    Reordering(
        "all-of-the-vmid",
        (Edit("stage2_try_break_pte", "kvm_tlb_flush_vmid_range(", "\t\t\tkvm_call_hyp(__kvm_tlb_flush_vmid, mmu);"),),
    ),
    Reordering("barriers-around", (Edit("stage2_make_pte", "smp_store_release(", "\tdsb(ishst);\n{}\n\tdsb(ishst);"),)),
)
"""Nothing that they do later, sooner or more often is missed by anybody."""
BUGS = (
    _fast_unmap("whole-tables-not-cleaned", "true", "effects-unmap-not_cleaned"),
    _fast_unmap(
        "whole-tables-by-their-first-page",
        "stage2_has_fwb(pgt)",
        "effects-unmap-no_invalidation",
        tlbi=("kvm_tlb_flush_vmid_range(mmu, ctx->addr, whole)", "kvm_tlb_flush_vmid_range(mmu, ctx->addr, PAGE_SIZE)"),
    ),
    Reordering(
        "unmap-deferred-always",
        (Edit("stage2_unmap_defer_tlb_flush", "return", "\treturn system_supports_tlb_range();"),),
        "effects-unmap-cleaned_before_invalidation",
    ),
    Reordering(
        "teardown-forgets-a-reference",
        (Edit("stage2_free_walker", "mm_ops->put_page(ctx->ptep)", _TEARDOWN.replace(_DROP, "")),),
        "accounting-",
    ),
)
"""The same kind of change, with a mistake in it. `flagged` is how the bucket begins."""
