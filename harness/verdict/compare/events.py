"""Boundary events and the instructions of TLB functions, in order: the first that differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from harness.observation.events import EVENTS_BY_NUMBER, IN_CALL, TLB_CALLS, Event, common_events, each_event
from harness.observation.layout import EVENT_WORDS, Observation
from harness.verdict.compare.difference import Difference
from harness.verdict.compare.renaming import Renaming
from harness.verdict.tiers import Tier


def first_event(left: Observation, right: Observation) -> Iterator[Difference]:
    """The first boundary event that differs, not counting what TLB functions do."""
    parting = _parting(left, right, lambda kind: not kind & IN_CALL)
    if parting is not None:
        a, b = parting.left, parting.right
        first = a or b
        assert first is not None
        left_text, right_text = (f"#{parting.number} {event}" if event else "no more events" for event in (a, b))
        op = left.records[parting.record].definition.name
        yield Difference(Tier.EVENTS, parting.record, op, first.name, left_text, right_text, first.level)


def first_instruction(left: Observation, right: Observation) -> Iterator[Difference]:
    """The first instruction of a TLB function that differs, where all that was before is the same."""
    parting = _parting(left, right, lambda _kind: True)
    if parting is None:
        return
    a, b = parting.left, parting.right
    inside = next((event for event in (a, b) if event and event.is_in_call), None)
    if inside is None:
        return
    kinds = left.records[parting.record].events[: EVENT_WORDS * parting.number : EVENT_WORDS]
    call = next((EVENTS_BY_NUMBER[kind].name for kind in reversed(kinds) if kind in TLB_CALLS), "no call")
    left_text, right_text = (str(one).strip() if one and one.is_in_call else f"no more of {call}" for one in (a, b))
    op = left.records[parting.record].definition.name
    yield Difference(Tier.INSTRUCTIONS, parting.record, op, f"{call} {inside.name}", left_text, right_text)


@dataclass(frozen=True, slots=True)
class _Parting:
    """Where two streams of events part: at the `number`-th of a record; None for a side that has no more."""

    record: int
    number: int
    left: Event | None
    right: Event | None


def _parting(left: Observation, right: Observation, chosen: Callable[[int], bool]) -> _Parting | None:
    """Where the events of `chosen` kinds of each record first differ; beyond it, pages cannot be told apart any more. A
    side that the budget cut may have had more."""
    renaming = Renaming(left.machine)
    for index, (mine, theirs) in enumerate(zip(left.records, right.records, strict=False)):
        same = common_events(mine.events, theirs.events) if renaming.is_trivial else 0
        first = sum(map(chosen, mine.events[: EVENT_WORDS * same : EVENT_WORDS]))
        sides = [(one for one in each_event(record.events, same) if chosen(one.kind)) for record in (mine, theirs)]
        for number, (a, b) in enumerate(zip_longest(*sides), start=first):
            if (a is None and mine.ret is None) or (b is None and theirs.ret is None):
                return None
            if a is None or b is None or not renaming.same(a, b):
                return _Parting(index, number, a, b)
    return None
