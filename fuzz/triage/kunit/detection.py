"""What a case can tell of a bug: whether an expectation fails with it, and what shows it where none does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fuzz.triage.kunit.expectations import is_sayable, seen_of, state_expected
from harness.observation.layout import LOCKING_REPORTS, UBSAN_REPORTS
from harness.program.definition import Op
from harness.program.ops import INIT
from harness.program.program import Program
from harness.verdict.tiers import Tier
from harness.verdict.verdicts import Verdict


def shown_instead(program: Program, verdict: Verdict) -> list[str]:
    """Where the test would pass on the kernel with the bug, that it would, and what shows the bug instead: one line
    each. Empty where an expectation fails."""
    beginning = program.prefix(verdict.record)
    if verdict.died is not None or _told_apart(beginning, verdict):
        return []
    if verdict.left is None or verdict.right is None:
        return ["IT MAY PASS with the bug: what the sides did was not kept.", _REPLAY]
    return [
        "IT CANNOT FAIL: it sees results, entries, and calls of mm_ops, all of which are the same with the bug.",
        "What shows the bug instead:",
        f"- {_REPLAY}",
        *(f"- {line}" for line in _instead(verdict)),
    ]


_REPLAY: Final = "`s2fuzz replay` of the finding's directory, whose report.txt has both sides' events"
_BY_EVENT: Final[Mapping[str, tuple[str, ...]]] = {
    "tlb": (
        "a trace of TLB maintenance, as of ftrace's function tracer with `__kvm_tlb_flush_*` as its filter",
        "a guest that accesses the range before the last operation and after it: it may still reach what was there",
    ),
    "dsb": ("nothing but the order of events: a barrier that is missing has an effect by chance alone",),
    "rcu": ("lockdep: the same calls on a kernel with CONFIG_PROVE_RCU and CONFIG_DEBUG_ATOMIC_SLEEP",),
    "WARN": ("the kernel's log, in which there is a warning of one of them only",),
    "cache": ("a guest whose caches or FWB are off, which reads the range's memory right after the last operation",),
}


def _instead(verdict: Verdict) -> tuple[str, ...]:
    if verdict.stale is not None:
        return _BY_EVENT["tlb"]
    if verdict.abort is not None:
        return ("a guest that makes that access, on a host that tells of its memcache",)
    if verdict.difference is not None and verdict.difference.tier is Tier.TRANSLATION:
        return ("a guest that accesses the address, or AT S12E1R and W at EL2 with that table",)
    if verdict.problem is not None or (verdict.difference and verdict.difference.tier is Tier.INSTRUCTIONS):
        return _BY_EVENT["tlb"]
    if verdict.difference is None:
        return ()
    what = verdict.difference.what
    texts = f"{what} {verdict.difference.left} {verdict.difference.right}"
    if what in ("WARN", *UBSAN_REPORTS.values()):
        return _BY_EVENT["WARN"]
    if "rcu_" in texts or what in LOCKING_REPORTS.values():
        return _BY_EVENT["rcu"]
    if "tlbi_" in texts or "flush_" in texts:
        return _BY_EVENT["tlb"]
    if "cache_" in texts:
        return _BY_EVENT["cache"]
    return _BY_EVENT["dsb"] if "dsb" in texts else ()


def _told_apart(program: Program, verdict: Verdict) -> bool:
    """Whether an expectation of the test is of something that is not the same on the right side."""
    left, right = verdict.left, verdict.right
    if left is None or right is None:
        return False
    ops = (Op(INIT, ()), *program.ops)
    for op, mine, theirs in zip(ops, left.records, right.records, strict=False):
        if is_sayable(op) and mine.ret is not None and theirs.ret is not None and seen_of(mine) != seen_of(theirs):
            return True
    return any(state_expected(program, verdict))
