"""What the code under test, its pool or its locks complain of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from harness.observation.layout import (
    LOCKING,
    LOCKING_REPORTS,
    POOL_MISUSE,
    UBSAN,
    UBSAN_REPORTS,
    Complaint,
    Observation,
)
from harness.verdict.compare.difference import Difference, last_op
from harness.verdict.tiers import Tier


def complaints(left: Observation, right: Observation, tier: Tier) -> Iterator[Difference]:
    """Misuse of the page pool counts as accounting, a WARN or a UBSan report as an event."""
    sides = [[*(r.complaints for r in side.records), side.final_complaints] for side in (left, right)]
    for index, (mine, theirs) in enumerate(zip(*sides, strict=False)):
        a, b = _of_tier(mine, tier), _of_tier(theirs, tier)
        if [(one.kind, one.code) for one in a] != [(one.kind, one.code) for one in b]:
            at_end = index >= len(left.records)
            op = last_op(left) if at_end else left.records[index].definition.name
            what = _first_complaint(a, b)
            yield Difference(tier, None if at_end else index, op, what, _list(a), _list(b))


def _of_tier(complaints: Sequence[Complaint], tier: Tier) -> list[Complaint]:
    return [one for one in complaints if (one.kind == POOL_MISUSE) == (tier is Tier.ACCOUNTING)]


def _first_complaint(a: Sequence[Complaint], b: Sequence[Complaint]) -> str:
    one = next(x or y for x, y in zip_longest(a, b) if x is None or y is None or (x.kind, x.code) != (y.kind, y.code))
    assert one is not None
    return str(one).split(" 0x")[0].replace(": ", "-") if one.kind == POOL_MISUSE else _event_name(one)


def _event_name(one: Complaint) -> str:
    if one.kind == LOCKING:
        return LOCKING_REPORTS.get(one.code, "locking")
    return UBSAN_REPORTS.get(one.code, "ubsan") if one.kind == UBSAN else "WARN"


def _list(complaints: Sequence[Complaint]) -> str:
    return ", ".join(map(str, complaints)) or "none"
