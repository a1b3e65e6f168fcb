"""Compares two observations of one program, tier by tier."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from harness.observation.layout import Observation
from harness.verdict.compare.accounting import accounting
from harness.verdict.compare.complaints import complaints
from harness.verdict.compare.difference import Difference
from harness.verdict.compare.events import first_event, first_instruction
from harness.verdict.compare.results import results
from harness.verdict.compare.tables import dangling, tables
from harness.verdict.compare.translations import translations
from harness.verdict.tiers import DEFAULT_TIERS, Tier


def differences(
    left: Observation, right: Observation, tiers: frozenset[Tier] = DEFAULT_TIERS, until: int | None = None
) -> list[Difference]:
    """Every difference in the chosen tiers, the earliest tier first; within a tier, in program or table order.

    With `until`, the record in which the sides were cut at different events (`harness.verdict.cuts`), only what lies
    before the cut: the records before that one, and of its own events those that came before a side was cut."""
    if left.words == right.words:
        return []
    return [found for tier in sorted(tiers) for found in _of_tier(tier, left, right, until)]


def _of_tier(tier: Tier, left: Observation, right: Observation, until: int | None) -> Iterator[Difference]:
    is_whole = until is None
    records = (left, right) if until is None else (_before(left, until), _before(right, until))
    if tier is Tier.RESULTS:
        yield from results(*records)
    elif tier is Tier.TABLES and is_whole:
        yield from tables(left, right)
        yield from dangling(left, right)
    elif tier is Tier.ACCOUNTING:
        if is_whole:
            yield from accounting(left, right)
        yield from complaints(*records, tier)
    elif tier is Tier.TRANSLATION:
        yield from translations(*records)
    elif tier is Tier.EVENTS:
        # In program order. What a WARN brings with it comes after it.
        found = [*complaints(*records, tier), *first_event(left, right)]
        yield from sorted(found, key=lambda one: len(left.records) if one.record is None else one.record)
    elif tier is Tier.INSTRUCTIONS:
        yield from first_instruction(left, right)
    elif tier is Tier.EFFECTS:
        from harness.verdict.effects.lacking import lacks  # noqa: PLC0415  (few runs compare them)

        # In the order of how much they matter, within the first op whose effects differ.
        for one in lacks(left, right):
            op = left.records[one.record].definition.name
            yield Difference(Tier.EFFECTS, one.record, op, one.what, one.left, one.right, one.level)


def _before(side: Observation, record: int) -> Observation:
    """The observation without that record and those behind it. Its state is that at the end all the same."""
    return replace(side, records=side.records[:record], final_complaints=())
