"""What is wrong, and on whose word, in a few of the field's words."""

from __future__ import annotations

import re
from typing import NamedTuple

from fuzz.triage.recorded import Sides
from harness.findings.finding import Finding
from harness.program.ops import INIT


class Words(NamedTuple):
    """The mail's subject, its first sentence, and who says so and may be wrong."""

    subject: str
    opening: str
    judge: str


def words_on(finding: Finding, sides: Sides, names: tuple[str, str]) -> Words:
    """What is to be said of a finding. `names` are the sides' as the mail has them."""
    function, detail = _function(finding), _detail(finding)
    match finding.kind:
        case "crash":
            subject, does = f"{function} crashes in {detail}", f"{function} crashes, in {detail}"
        case "hang":
            subject, does = f"{function} hangs in {detail}", f"{function} does not return; it is found in {detail}"
        case "flood":
            subject, does = f"{function} does not end", f"{function} goes on where the other side has long finished"
        case "invalidation":
            subject = f"{function}: {detail}"
            does = f"a TLB function that {function} calls does not do what it is called for ({detail})"
        case "stale":
            subject = f"{function} leaves a stale translation: {detail}"
            does = f"a TLB may still hold what it must not, after what {function} does ({detail})"
        case "abort":
            subject = f"a guest's abort is not handled as it should be ({detail})"
            does = f"an abort of the guest's is not handled as it should be ({detail})"
        case "contract":
            subject = f"{function} breaks a promise: {detail.replace('-', ' ')}"
            does = f"{function} does not keep what is promised ({detail})"
        case "emulator":
            subject = f"QEMU differs from the architecture, or its model does ({detail})"
            does = f"QEMU's MMU does not do what is expected of it ({detail}), in the same tables"
        case _:
            other = "another kernel" if all(side.is_kernel for side in sides) else "a model"
            subject = f"{function} differs from {other} ({detail})"
            does = f"{function} does not do what is expected of it ({detail})"
    return Words(f"KVM: arm64: {subject}", f"In the program below, {does}:", _judge(finding, sides, names))


def _function(finding: Finding) -> str:
    """The C function at which it shows; the op where none carries that out."""
    record = finding.record
    known = 0 < record <= len(finding.program.ops)
    definition = finding.program.ops[record - 1].definition if known else INIT
    return next((f"{name}()" for name in definition.functions if name.islower()), definition.name)


def _detail(finding: Finding) -> str:
    """What the bucket says beyond its kind and op: the tier and what differs, the call and what is wrong with it, or
    the function that it ends in."""
    tier, _, rest = finding.bucket.partition("-")
    rest = re.sub(r"-level(-?\d+)$", r", level \1", rest.partition("-")[2])
    if finding.kind in ("divergence", "emulator"):
        return f"{tier}: {rest.replace('_', ' ')}" if rest else tier
    return rest.replace("-", ": ", 1) if finding.kind == "invalidation" else rest


def _judge(finding: Finding, sides: Sides, names: tuple[str, str]) -> str:
    if finding.kind in ("crash", "hang"):
        return "That takes no second opinion."
    if finding.kind == "invalidation":
        return (
            "The word is the architecture's, as s2fuzz reads it: what the instructions that were issued invalidate, "
            "against what the function is called for. The sides need not differ in that."
        )
    if finding.kind == "stale":
        return (
            "The word is the architecture's, as s2fuzz reads it: what the operations stored and invalidated, in their "
            "order, against what a TLB may hold. The sides need not differ in that."
        )
    if finding.kind == "abort":
        return (
            "The word is that of the rule by which the memcache is topped up, and of the guest, which must get on "
            "after a result of 0. The handler is s2fuzz's, in the place of user_mem_abort(). The sides need not differ."
        )
    if finding.kind == "contract":
        return (
            "The word is the documentation's: the contract and where it stands are in the report below. The sides need "
            "not differ in that."
        )
    if finding.kind == "emulator":
        return (
            "All else is the same, the tables bit by bit: pgtable.c has no part in it. Either the emulator is wrong, "
            "or what the model takes from the Arm ARM: rather a mail to QEMU's list, once that has been read again."
        )
    is_effect = finding.bucket.startswith("effects-")
    effects = " Compared is what an op has achieved at its end, in whatever order." if is_effect else ""
    if all(side.is_kernel for side in sides):
        return (
            f"Expected is what {names[0]} does. No model is in this comparison, and a difference that is meant is no "
            f"bug.{effects}"
        )
    model = names[0] if sides[1].is_kernel else names[1]
    return (
        f"Expected is what {model} does, a model of kvm_pgtable in Python. It may be the model that is wrong.{effects}"
    )
