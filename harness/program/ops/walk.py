"""The walker, with a visitor of ours."""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import VISIT_FLAGS, VISITOR
from harness.program.kunit import Returns
from harness.program.ops.common import BOTH_STAGES, C_RANGE, RANGE
from harness.program.results import Result, ResultType

OPS: Final = (
    OpDef(
        6,
        "walk",
        (*RANGE, Arg("flags", VISIT_FLAGS), Arg("visitor", VISITOR, default=0)),
        "walk the range, recording each visit; at one of them, or at all, the visitor does something",
        weight=18,
        results=(
            Result("visit", ResultType.VISIT),
            Result("level", ResultType.LEVEL),
            Result("ipa"),
            Result("pte", ResultType.ENTRY),
        ),
        repeats=True,
        stages=BOTH_STAGES,
        functions={"kvm_pgtable_walk": (f"int ({C_RANGE}, struct kvm_pgtable_walker *)",)},
        kunit=Returns("s2_walk($ipa, $size, $flags, $visitor)", visits="s2_visits"),
        scenario="look",
    ),
)
