"""Where the budget cuts the two sides of a comparison.

Cut at the same event, the sides can be compared as they are. Cut at different ones, or one side cut and the other not,
what they came to in that op cannot be: only what lies before. If one side did by far more than the other needed for
the whole op, that is a flood, and wrong in itself. `harness/observation/events.py` says what the budget counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Final

from harness.amounts import number
from harness.observation.events import COUNTED, IN_CALL, Event, common_events, each_event
from harness.observation.layout import EVENT_WORDS, Observation, Record
from harness.verdict.compare.renaming import Renaming

FLOOD_FACTOR: Final = 10
FLOOD_LEAST: Final = 1000
"""A flood is at least so many times what the other side needs for the op, and at least so many events."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The budget cut the sides at different events, or one of them alone. `record` is the first where it did (0: the
    implicit init), `op` its name; of each side, how many events the budget counted in it and all those before it, and
    whether that side finished it."""

    record: int
    op: str
    counted: tuple[int, int]
    before: tuple[int, int]
    finished: tuple[bool, bool]

    @property
    def flooded(self) -> int | None:
        """The side (0: left, 1: right) that was cut in what the other finished with far less; None where none was."""
        if self.finished[0] == self.finished[1]:
            return None
        flooded = int(self.finished[0])
        least = max(FLOOD_LEAST, FLOOD_FACTOR * self.counted[1 - flooded])
        return flooded if self.counted[flooded] >= least else None

    @property
    def flood_budget(self) -> int:
        """A budget with which a side must still be cut in that op for it to be a flood."""
        needed = min(counted for counted, finished in zip(self.counted, self.finished, strict=True) if finished)
        return max(self.before) + max(FLOOD_LEAST, FLOOD_FACTOR * needed)

    def describe(self, names: tuple[str, str]) -> str:
        """One line for people, with the names of the sides."""
        sides = zip(names, self.counted, self.finished, strict=True)
        said = [
            f"{name} {'finished with' if done else 'was cut after'} {number(events)}" for name, events, done in sides
        ]
        where = f"op {self.record}, {self.op}" if self.record else self.op
        return f"{where}: {said[0]} events, {said[1]}"


def unequal_cut(left: Observation, right: Observation) -> Cut | None:
    """Where the budget first cut the sides at different events; None where it cut neither, or both at the same."""
    first = min(_cut_at(left), _cut_at(right))
    if first >= len(left.records) or first >= len(right.records):
        return None  # neither was cut, or one ended before for another reason: an init that failed
    mine, theirs = left.records[first], right.records[first]
    if mine.ret is None and theirs.ret is None and _same_up_to(first, left, right):
        return None
    sides = (left, right)
    return Cut(
        first,
        mine.definition.name,
        (counted_in(mine), counted_in(theirs)),
        (_counted_before(left, first), _counted_before(right, first)),
        (sides[0].records[first].ret is not None, sides[1].records[first].ret is not None),
    )


def counted_in(record: Record) -> int:
    """How many events of an op the budget counted, the visits of a walk among them."""
    visits = len(record.outs) // len(record.definition.results) if record.definition.repeats else 0
    return visits + sum(kind & ~IN_CALL in COUNTED for kind in record.events[::EVENT_WORDS])


def _counted(record: Record, first: int) -> Iterator[Event]:
    return (event for event in each_event(record.events, first) if event.is_counted)


def _counted_before(side: Observation, record: int) -> int:
    return sum(map(counted_in, side.records[:record]))


def _cut_at(side: Observation) -> int:
    """The record that the budget cut, which is the last; one more where it cut none."""
    return len(side.records) - (side.records[-1].ret is None)


def _same_up_to(last: int, left: Observation, right: Observation) -> bool:
    """Whether what the budget counts is the same on both sides, up to and in that record."""
    renaming = Renaming(left.machine)
    for mine, theirs in zip(left.records[: last + 1], right.records[: last + 1], strict=True):
        if len(mine.outs) != len(theirs.outs):
            return False
        first = common_events(mine.events, theirs.events) if renaming.is_trivial else 0
        for a, b in zip_longest(_counted(mine, first), _counted(theirs, first)):
            if a is None or b is None or not renaming.same(a, b):
                return False
    return True
