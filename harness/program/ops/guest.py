"""What a guest's hardware makes of the table: translations, accesses at EL1, and their aborts.

The hardware walks tables only where they really lie, and only as the architecture defines it: another `pool_base`, or a
VTCR_EL2 that the architecture does not define, makes every op of this family -ENODEV, and so does what a guest needs
and the machine has not (the knob `guest`). `probe` needs no guest.

An access reaches the data or the code of the 4K piece that `ipa` lies in (`harness/program/guest.py`), whatever bits
below 12 it has. Both sides first walk the table themselves: where that leads to memory outside the window, the access
does not happen, and the result is -ENXIO (no memory). One that aborts is -EFAULT.
"""

from __future__ import annotations

from typing import Final

from harness.program.definition import Arg, OpDef
from harness.program.kinds import ACCESS, BACKING, DATA, FEW_PAGES, PHYS, SWITCH
from harness.program.ops.common import AT_IPA, BOTH_STAGES, OUTCOME
from harness.program.results import Result, ResultType

OPS: Final = (
    OpDef(
        32,
        "probe",
        (AT_IPA,),
        "ask the MMU for the translation of ipa, for a read and for a write: AT S12E1R and W (stage 1: AT S1E2R and W)",
        weight=1,
        results=(Result("read", ResultType.TRANSLATION), Result("write", ResultType.TRANSLATION)),
        stages=BOTH_STAGES,
    ),
    OpDef(
        33,
        "read",
        (AT_IPA,),
        "the guest reads the word of data at ipa's piece",
        weight=1,
        results=OUTCOME,
        scenario="access",
    ),
    OpDef(
        34,
        "write",
        (AT_IPA, Arg("value", DATA)),
        "the guest writes the word of data at ipa's piece",
        weight=1,
        results=OUTCOME,
        scenario="access",
    ),
    OpDef(
        35,
        "exec",
        (AT_IPA,),
        "the guest jumps to the code at ipa's piece, which returns to the host",
        weight=1,
        results=OUTCOME,
        scenario="access",
    ),
    OpDef(
        36,
        "fault",
        (AT_IPA, Arg("access", ACCESS)),
        "the guest makes the access; where it aborts, the vCPU keeps the syndrome for the next `handle`",
        weight=1,
        results=OUTCOME,
        scenario="abort",
    ),
    OpDef(
        37,
        "handle",
        (
            Arg("phys", PHYS),
            Arg("backing", BACKING, default=0),
            Arg("hva", FEW_PAGES, default=0),
            Arg("thp", SWITCH, default=0),
            Arg("logging", SWITCH, default=0),
            Arg("readonly", SWITCH, default=0),
            Arg("device", SWITCH, default=0),
        ),
        "handle the abort that the vCPU keeps, as user_mem_abort() does, with such memory behind its page: phys",
        weight=1,
        results=(Result("size"), Result("topped_up"), Result("added"), Result("used")),
        needs=("map", "relax_perms", "mkyoung"),
        scenario="abort",
    ),
)
