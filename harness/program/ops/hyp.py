"""Hyp's own stage 1."""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import HYP_PROT, IPA, PHYS, PTE, SIZE
from harness.program.kunit import Returns, Value
from harness.program.ops.common import C_PROT, C_RANGE, HYP
from harness.program.results import Result

_RANGE: Final = (Arg("va", IPA), Arg("size", SIZE))

OPS: Final = (
    OpDef(
        24,
        "hyp_map",
        (*_RANGE, Arg("phys", PHYS), Arg("prot", HYP_PROT)),
        "map [va, va+size) to phys in hyp's stage 1",
        weight=110,
        stages=HYP,
        functions={"kvm_pgtable_hyp_map": (f"int ({C_RANGE}, u64, {C_PROT})",)},
        kunit=Returns("kvm_pgtable_hyp_map(&s2_pgt, $va, $size, $phys, $prot)"),
        scenario="hyp_map",
    ),
    OpDef(
        25,
        "hyp_unmap",
        _RANGE,
        "unmap the range from hyp's stage 1, up to what is not mapped",
        weight=60,
        results=(Result("unmapped"),),
        stages=HYP,
        functions={"kvm_pgtable_hyp_unmap": (f"u64 ({C_RANGE})",)},
        kunit=Value("kvm_pgtable_hyp_unmap(&s2_pgt, $va, $size)"),
        scenario="hyp_unmap",
    ),
    OpDef(
        26,
        "hyp_pte_prot",
        (Arg("pte", PTE),),
        "the permissions in a stage-1 entry's bits",
        weight=6,
        results=(Result("prot"),),
        stages=HYP,
        functions={"kvm_pgtable_hyp_pte_prot": (f"{C_PROT} (kvm_pte_t)",)},
        kunit=Value("kvm_pgtable_hyp_pte_prot($pte)"),
        scenario="hyp_read_permissions",
    ),
)
