"""What goes wrong, or what others do meanwhile: allocations that fail, entries that somebody else writes."""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import LEVEL, NTH, PLANTED
from harness.program.kunit import Returns
from harness.program.ops.common import AT_IPA, BOTH_STAGES

OPS: Final = (
    OpDef(
        18,
        "fail_alloc",
        (Arg("nth", NTH),),
        "let the n-th page allocation from here on fail, in whatever op that is; 0 takes it back",
        weight=2,
        stages=BOTH_STAGES,
        kunit=Returns("s2_fail_alloc($nth)"),
        scenario="run_out",
    ),
    OpDef(
        19,
        "plant",
        (AT_IPA, Arg("level", LEVEL), Arg("pte", PLANTED)),
        "write an entry of the tree as somebody else would, with its page's references",
        weight=2,
        stages=BOTH_STAGES,
        scenario="tamper",
    ),
    OpDef(
        23,
        "race",
        (Arg("nth", NTH), Arg("pte", PLANTED)),
        "before the n-th cmpxchg from here on, in whatever op that is, the entry becomes pte; 0 takes it back",
        weight=3,
        functions={"KVM_PGTABLE_WALK_SHARED": ()},
        needs=("map flags shared",),
        scenario="race",
    ),
)
