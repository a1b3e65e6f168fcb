"""Calls of TLB functions, each with the instructions that follow it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.observation.events import TLB_CALLS, WARNED, Event, each_event
from harness.observation.layout import Observation


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a TLB function, with its instructions. `record` is the op's, 0 for the implicit init."""

    record: int
    event: Event
    instructions: tuple[Event, ...]


def calls_of(observation: Observation) -> Iterator[Call]:
    """Every call that ran to its end. The last one of an op that was cut by its budget may not have."""
    for index, record in enumerate(observation.records):
        calls = list(group(index, each_event(record.events)))
        yield from calls if record.ret is not None else calls[:-1]


def group(record: int, events: Iterable[Event]) -> Iterator[Call]:
    """The calls among an op's events."""
    call: Event | None = None
    inside: list[Event] = []
    for event in events:
        if event.is_in_call:
            inside.append(event)
        elif event.kind != WARNED:
            if call is not None:
                yield Call(record, call, tuple(inside))
            call, inside = (event, []) if event.kind in TLB_CALLS else (None, [])
    if call is not None:
        yield Call(record, call, tuple(inside))
