"""VTCR_EL2, and what follows from it."""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import ID_REGISTER, PHYS_SHIFT, VTCR
from harness.program.kunit import Value
from harness.program.results import Result

OPS: Final = (
    OpDef(
        27,
        "get_vtcr",
        (Arg("mmfr0", ID_REGISTER), Arg("mmfr1", ID_REGISTER), Arg("phys_shift", PHYS_SHIFT)),
        "the VTCR_EL2 of a VM with such an address space, on a CPU with such ID_AA64MMFR{0,1}_EL1",
        weight=1,
        results=(Result("vtcr"),),
        functions={"kvm_get_vtcr": ("u64 (u64, u64, u32)",)},
        kunit=Value("kvm_get_vtcr($mmfr0, $mmfr1, $phys_shift)"),
        scenario="shape",
    ),
    OpDef(
        28,
        "pgd_size",
        (Arg("vtcr", VTCR),),
        "the bytes of a root that is shaped like this",
        weight=1,
        results=(Result("size"),),
        functions={"kvm_pgtable_stage2_pgd_size": ("size_t (u64)",)},
        kunit=Value("kvm_pgtable_stage2_pgd_size($vtcr)"),
        scenario="shape",
    ),
)
