"""What definitions of several families have in common."""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg
from harness.program.kinds import IPA, MEMCACHE, SIZE
from harness.program.results import Result, ResultType

PGT: Final = "struct kvm_pgtable *"
C_PROT: Final = "enum kvm_pgtable_prot"
C_RANGE: Final = f"{PGT}, u64, u64"
"""Parameters in C, as a signature spells them."""

BOTH_STAGES: Final = (1, 2)
HYP: Final = (1,)
"""Stages: hyp's own table is stage 1."""

AT_IPA: Final = Arg("ipa", IPA)
RANGE: Final = (AT_IPA, Arg("size", SIZE))
FROM_CACHE: Final = Arg("mc", MEMCACHE, default=0)
OUTCOME: Final = (
    Result("esr", ResultType.SYNDROME),
    Result("hpfar", ResultType.NUMBER),
    Result("value", ResultType.NUMBER),
)
"""Of a guest's access: the syndrome (EC, and of the ISS: WnR, S1PTW and the fault status; 0 for none), HPFAR_EL2 where
the architecture defines it (else 0), and what was read (else 0)."""
