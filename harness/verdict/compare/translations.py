"""Translations: what the hardware makes of the tables, as the results of ops that ask it say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.observation.layout import Observation, Record, describe_return
from harness.program.results import Result, ResultType
from harness.verdict.compare.difference import Difference
from harness.verdict.tiers import Tier

_FAULT: Final = 1
"""PAR_EL1.F."""
_PAR_ADDRESS: Final = (1 << 52) - (1 << 12)
TRANSLATION_PARTS: Final = ("faults", "fault", "address", "attributes")
"""In what a translation may differ: in whether it faults, in the fault, in the address, or else in attributes."""


def translations(left: Observation, right: Observation) -> Iterator[Difference]:
    """In results of ops that ask the hardware. Where one side ran none, that is a difference in results."""
    for index, (mine, theirs) in enumerate(zip(left.records, right.records, strict=False)):
        definition = mine.definition
        if not definition.asks_hardware:
            continue
        if mine.ret != theirs.ret:
            texts = describe_return(mine.ret), describe_return(theirs.ret)
            yield Difference(Tier.TRANSLATION, index, definition.name, "return", *texts)
            continue
        for what, a, b in _differing(mine, theirs):
            yield Difference(Tier.TRANSLATION, index, definition.name, what, a, b)


def _differing(mine: Record, theirs: Record) -> Iterator[tuple[str, str, str]]:
    """The translations that differ, each by itself, or the first other value that does: what it is, and what the sides
    have there. With the same result both have all values, or neither has one."""
    for result, a, b in zip(mine.definition.results, mine.outs, theirs.outs, strict=False):
        if a != b:
            yield _what(result, a, b), result.describe(a), result.describe(b)
            if result.type is not ResultType.TRANSLATION:
                return


def _what(result: Result, a: int, b: int) -> str:
    if result.type is not ResultType.TRANSLATION:
        return result.name
    if (a ^ b) & _FAULT:
        part = "faults"
    elif a & _FAULT:
        part = "fault"
    else:
        part = "address" if (a ^ b) & _PAR_ADDRESS else "attributes"
    return f"{result.name} {part}"
