"""A table as a whole, its mappings, and the entries that end its walks."""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import MAP_FLAGS, OWNER, PAGEWISE_SIZE, PHYS, PROT, PTE, SPLIT_CACHE, SWITCH
from harness.program.kunit import Returns, Statement, Value
from harness.program.ops.common import AT_IPA, BOTH_STAGES, C_PROT, C_RANGE, FROM_CACHE, PGT, RANGE
from harness.program.results import Result, ResultType

OPS: Final = (
    OpDef(
        1,
        "init",
        (),
        "allocate an empty table for the header's ia_bits, or va_bits in stage 1 (every program begins with one)",
        weight=3,
        results=(
            Result("vtcr"),
            Result("ia_bits"),
            Result("start_level", ResultType.LEVEL),
            Result("root_pages"),
        ),
        stages=BOTH_STAGES,
        kunit=Returns("s2_init()"),
    ),
    OpDef(
        2,
        "map",
        (*RANGE, Arg("phys", PHYS), Arg("prot", PROT), FROM_CACHE, Arg("flags", MAP_FLAGS, default=0)),
        "map [ipa, ipa+size) to phys, splitting blocks and merging tables as needed",
        weight=80,
        functions={
            "kvm_pgtable_stage2_map": (
                f"int ({C_RANGE}, u64, {C_PROT}, void *, enum kvm_pgtable_walk_flags)",
                f"int ({C_RANGE}, u64, {C_PROT}, void *)",
            )
        },
        kunit=Returns(
            "${mc_topup}kvm_pgtable_stage2_map(&s2_pgt, $ipa, $size, $phys, $prot, $mc, $flags)",
            lacking={"MAP_FLAGS": "${mc_topup}kvm_pgtable_stage2_map(&s2_pgt, $ipa, $size, $phys, $prot, $mc)"},
        ),
        scenario="fault",
    ),
    OpDef(
        3,
        "unmap",
        RANGE,
        "remove every mapping and owner annotation in the range",
        weight=28,
        functions={"kvm_pgtable_stage2_unmap": (f"int ({C_RANGE})",)},
        kunit=Returns("kvm_pgtable_stage2_unmap(&s2_pgt, $ipa, $size)"),
        scenario="shrink",
    ),
    OpDef(
        4,
        "set_owner",
        (AT_IPA, Arg("size", PAGEWISE_SIZE), FROM_CACHE, Arg("owner", OWNER)),
        "unmap the range and annotate its entries with an owner id",
        weight=30,
        functions={"kvm_pgtable_stage2_set_owner": (f"int ({C_RANGE}, void *, u8)",)},
        kunit=Returns("${mc_topup}kvm_pgtable_stage2_set_owner(&s2_pgt, $ipa, $size, $mc, $owner)"),
        scenario="share",
    ),
    OpDef(
        5,
        "get_leaf",
        (AT_IPA,),
        "the entry that ends the walk of ipa, and its level",
        weight=16,
        results=(Result("pte", ResultType.ENTRY), Result("level", ResultType.LEVEL)),
        stages=BOTH_STAGES,
        functions={
            "kvm_pgtable_get_leaf": (f"int ({PGT}, u64, kvm_pte_t *, s8 *)", f"int ({PGT}, u64, kvm_pte_t *, u32 *)")
        },
        kunit=Returns("s2_get_leaf($ipa)", results={"pte": "s2_leaf", "level": "(int)s2_leaf_level"}),
        scenario="look",
    ),
    OpDef(
        7,
        "destroy",
        (),
        "tear the table down and free its pages",
        weight=3,
        stages=BOTH_STAGES,
        functions={
            "kvm_pgtable_stage2_destroy": (f"void ({PGT})",),
            "kvm_pgtable_hyp_destroy": (f"void ({PGT})",),
        },
        kunit=Statement("kvm_pgtable_stage2_destroy(&s2_pgt)", hyp="kvm_pgtable_hyp_destroy(&s2_pgt)"),
    ),
    OpDef(
        8,
        "wrprotect",
        RANGE,
        "take write permission from the range, leaving the TLB alone",
        weight=12,
        functions={"kvm_pgtable_stage2_wrprotect": (f"int ({C_RANGE})",)},
        kunit=Returns("kvm_pgtable_stage2_wrprotect(&s2_pgt, $ipa, $size)"),
        scenario="protect",
    ),
    OpDef(
        9,
        "mkyoung",
        (AT_IPA,),
        "set the access flag of the leaf that translates ipa",
        weight=8,
        results=(Result("pte", ResultType.ENTRY),),
        functions={"kvm_pgtable_stage2_mkyoung": (f"kvm_pte_t ({PGT}, u64)",)},
        kunit=Value("kvm_pgtable_stage2_mkyoung(&s2_pgt, $ipa)"),
        scenario="age",
    ),
    OpDef(
        10,
        "test_clear_young",
        (*RANGE, Arg("mkold", SWITCH, default=0)),
        "look for access flags in the range, and clear them if so asked",
        weight=12,
        results=(Result("young"),),
        functions={"kvm_pgtable_stage2_test_clear_young": (f"bool ({C_RANGE}, bool)",)},
        kunit=Value("kvm_pgtable_stage2_test_clear_young(&s2_pgt, $ipa, $size, $mkold)"),
        scenario="age",
    ),
    OpDef(
        11,
        "relax_perms",
        (AT_IPA, Arg("prot", PROT)),
        "add permissions to the leaf that translates ipa, as a permission fault does",
        weight=14,
        functions={"kvm_pgtable_stage2_relax_perms": (f"int ({PGT}, u64, {C_PROT})",)},
        kunit=Returns("kvm_pgtable_stage2_relax_perms(&s2_pgt, $ipa, $prot)"),
        scenario="permit",
    ),
    OpDef(
        12,
        "flush",
        RANGE,
        "clean the data cache of the range's memory; nothing with FWB",
        weight=5,
        functions={"kvm_pgtable_stage2_flush": (f"int ({C_RANGE})",)},
        kunit=Returns("kvm_pgtable_stage2_flush(&s2_pgt, $ipa, $size)"),
        scenario="clean",
    ),
    OpDef(
        14,
        "pte_prot",
        (Arg("pte", PTE),),
        "the permissions in an entry's bits",
        weight=2,
        results=(Result("prot"),),
        functions={"kvm_pgtable_stage2_pte_prot": (f"{C_PROT} (kvm_pte_t)",)},
        kunit=Value("kvm_pgtable_stage2_pte_prot($pte)"),
    ),
    OpDef(
        15,
        "split",
        (*RANGE, Arg("mc", SPLIT_CACHE)),
        "split the blocks of the range into pages, with tables from the split cache",
        weight=3,
        functions={"kvm_pgtable_stage2_split": (f"int ({C_RANGE}, struct kvm_mmu_memory_cache *)",)},
        kunit=Returns("s2_split($ipa, $size, $mc)"),
        scenario="split",
    ),
    OpDef(
        29,
        "mkold",
        (AT_IPA,),
        "clear the access flag of the leaf that translates ipa",
        weight=8,
        results=(Result("pte", ResultType.ENTRY),),
        functions={"kvm_pgtable_stage2_mkold": (f"kvm_pte_t ({PGT}, u64)",)},
        kunit=Value("kvm_pgtable_stage2_mkold(&s2_pgt, $ipa)"),
        scenario="age_one",
    ),
    OpDef(
        30,
        "is_young",
        (AT_IPA,),
        "whether the leaf that translates ipa has the access flag",
        weight=6,
        results=(Result("young"),),
        functions={"kvm_pgtable_stage2_is_young": (f"bool ({PGT}, u64)",)},
        kunit=Value("kvm_pgtable_stage2_is_young(&s2_pgt, $ipa)"),
        scenario="age_one",
    ),
)
