"""Tables that no entry points to: made, linked into the tree, or freed."""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import LEVEL, PHYS, PROT, SWITCH, UNLINKED
from harness.program.kunit import Returns
from harness.program.ops.common import AT_IPA, C_PROT, FROM_CACHE, PGT
from harness.program.results import Result, ResultType

OPS: Final = (
    OpDef(
        16,
        "create_unlinked",
        (
            Arg("phys", PHYS),
            Arg("level", LEVEL),
            Arg("prot", PROT),
            FROM_CACHE,
            Arg("force_pte", SWITCH, default=0),
        ),
        "make a full table for an entry of that level, which no entry points to",
        weight=1,
        results=(Result("table", ResultType.HANDLE, UNLINKED),),
        functions={
            "kvm_pgtable_stage2_create_unlinked": (
                f"kvm_pte_t * ({PGT}, u64, s8, {C_PROT}, void *, bool)",
                f"kvm_pte_t * ({PGT}, u64, u32, {C_PROT}, void *, bool)",
            )
        },
        makes=UNLINKED,
        kunit=Returns("s2_create_unlinked($phys, $level, $prot, $mc, $mc_pages, $force_pte)"),
        scenario="detach",
    ),
    OpDef(
        17,
        "free_unlinked",
        (Arg("table", UNLINKED),),
        "free an unlinked table",
        weight=2,
        functions={
            "kvm_pgtable_stage2_free_unlinked": (
                "void (struct kvm_pgtable_mm_ops *, void *, s8)",
                "void (struct kvm_pgtable_mm_ops *, void *, u32)",
            )
        },
        ends=True,
        kunit=Returns("s2_free_unlinked($table)"),
        scenario="detach",
    ),
    OpDef(
        20,
        "link",
        (AT_IPA, Arg("table", UNLINKED)),
        "let the entry for ipa, of the level that the unlinked table was made for, point to it",
        weight=1,
        needs=("create_unlinked",),
        ends=True,
        scenario="detach",
    ),
)
