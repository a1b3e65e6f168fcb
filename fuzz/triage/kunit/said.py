"""Until the definitions say it themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.program.definition import CACHE_CAPACITY, FLAG_NAMES, VISITOR_BITS, VISITORS, Kind, OpDef
from harness.program.kunit import UNSAYABLE, CForm, KUnit, Returns, Statement, Value, c_flags, c_number

_MAP = "${mc_topup}kvm_pgtable_stage2_map(&s2_pgt, $ipa, $size, $phys, $prot, $mc"

_SAID: Final[Mapping[str, KUnit]] = {
    "init": Returns("s2_init()"),
    "map": Returns(f"{_MAP}, $flags)", lacking={"MAP_FLAGS": f"{_MAP})"}),
    "unmap": Returns("kvm_pgtable_stage2_unmap(&s2_pgt, $ipa, $size)"),
    "set_owner": Returns("${mc_topup}kvm_pgtable_stage2_set_owner(&s2_pgt, $ipa, $size, $mc, $owner)"),
    "get_leaf": Returns("s2_get_leaf($ipa)", results={"pte": "s2_leaf", "level": "(int)s2_leaf_level"}),
    "walk": Returns("s2_walk($ipa, $size, $flags, $visitor)", visits="s2_visits"),
    "wrprotect": Returns("kvm_pgtable_stage2_wrprotect(&s2_pgt, $ipa, $size)"),
    "relax_perms": Returns("kvm_pgtable_stage2_relax_perms(&s2_pgt, $ipa, $prot)"),
    "flush": Returns("kvm_pgtable_stage2_flush(&s2_pgt, $ipa, $size)"),
    "split": Returns("s2_split($ipa, $size, $mc)"),
    "create_unlinked": Returns("s2_create_unlinked($phys, $level, $prot, $mc, ${mc_pages}, $force_pte)"),
    "free_unlinked": Returns("s2_free_unlinked($table)"),
    "fail_alloc": Returns("s2_fail_alloc($nth)"),
    "hyp_map": Returns("kvm_pgtable_hyp_map(&s2_pgt, $va, $size, $phys, $prot)"),
    "mkyoung": Value("kvm_pgtable_stage2_mkyoung(&s2_pgt, $ipa)"),
    "mkold": Value("kvm_pgtable_stage2_mkold(&s2_pgt, $ipa)"),
    "is_young": Value("kvm_pgtable_stage2_is_young(&s2_pgt, $ipa)"),
    "test_clear_young": Value("kvm_pgtable_stage2_test_clear_young(&s2_pgt, $ipa, $size, $mkold)"),
    "pte_prot": Value("kvm_pgtable_stage2_pte_prot($pte)"),
    "hyp_pte_prot": Value("kvm_pgtable_hyp_pte_prot($pte)"),
    "hyp_unmap": Value("kvm_pgtable_hyp_unmap(&s2_pgt, $va, $size)"),
    "get_vtcr": Value("kvm_get_vtcr($mmfr0, $mmfr1, $phys_shift)"),
    "pgd_size": Value("kvm_pgtable_stage2_pgd_size($vtcr)"),
    "destroy": Statement("kvm_pgtable_stage2_destroy(&s2_pgt)", hyp="kvm_pgtable_hyp_destroy(&s2_pgt)"),
    "tlb_flush_vmid_range": Statement("kvm_tlb_flush_vmid_range(&s2_mmu, $ipa, $size)"),
    "flush_cpu_context": Statement("kvm_call_hyp(__kvm_flush_cpu_context, &s2_mmu)"),
    "flush_vm_context": Statement("kvm_call_hyp(__kvm_flush_vm_context)"),
}


def kunit_of(definition: OpDef) -> KUnit:
    return _SAID.get(definition.name, UNSAYABLE)


def c_form(kind: Kind, value: int) -> CForm | None:
    if kind in (Kind.PROT, Kind.HYP_PROT):
        return CForm(c_flags(value, FLAG_NAMES[kind], "KVM_PGTABLE_PROT_", {"nc": "NORMAL_NC"}))
    if kind in FLAG_NAMES:
        return CForm(c_flags(value, FLAG_NAMES[kind], "KVM_PGTABLE_WALK_"))
    if kind is Kind.SWITCH:
        return CForm(("false", "true")[value])
    if kind is Kind.CACHE:
        topup = f"s2_topup(&s2_cache, {value - 1}) ?: " if value else ""
        parts = {"pages": str(max(0, value - 1)), "topup": topup}
        return CForm("&s2_cache" if value else "NULL", parts, CACHE_CAPACITY)
    if kind is Kind.SPLIT_CACHE:
        return CForm(str(value), pages=value)
    if kind is Kind.VISITOR:
        action = VISITORS[value & (1 << VISITOR_BITS) - 1]
        if action in ("clear", "lock", "table"):
            return None
        result = "0" if action == "look" else f"-{action.upper()}"
        return CForm(f"{result}, {value >> VISITOR_BITS}")
    return CForm(c_number(value))
