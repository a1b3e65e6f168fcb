"""Boundary events as text: with the place in the tree that a store concerns, and two sides aligned like a diff."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest

from harness.amounts import counted, number
from harness.findings.trees import describe_entry
from harness.observation.descriptors import address_field, is_table_entry, level_of, root_field
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    MSR,
    STORE_KINDS,
    SYSREGS,
    TLBI,
    Event,
    common_events,
    each_event,
    events_of,
)
from harness.observation.layout import EVENT_WORDS, MAX_ROOT_PAGES, NO_PAGE, Observation, Record
from harness.observation.tlbi import invalidation_of
from harness.program.machine import DEFAULT_MACHINE, Machine
from harness.program.ops import INIT
from harness.verdict.compare.renaming import Renaming

CONTEXT = 3
"""Equal events shown around those that differ."""
_MOST = 400
"""Events of a side that are aligned, from the first that differs on: aligning is quadratic."""
_TELLING = frozenset({ALLOC, ALLOC_EXACT, *STORE_KINDS})
"""Kinds of events that say where tables lie."""


def event_lines(observation: Observation, machine: Machine, most: int | None = None) -> list[list[str]]:
    """Each record's events, one a line. Of a record with more than `most`, as many at its beginning and at its end."""
    places = _Places(machine)
    lines = []
    for record in observation.records:
        count = len(record.events) // EVENT_WORDS
        if most is None or count <= most:
            lines.append(list(places.lines(record)))
            continue
        ends = range(most // 2), range(count - most // 2, count)
        said = list(places.lines(record, *ends))
        said.insert(most // 2, f"… {number(count - len(said))} more events")
        lines.append(said)
    return lines


class _Places:
    """Which entry of the tree each address is, learnt from the events themselves: tables come and go. A table that is
    filled before it is linked has no place yet."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._granule = machine.granule
        self._field = address_field(machine)
        self._tables: dict[int, tuple[int, int]] = {}
        """IPA and level of the page's first entry."""

    def lines(self, record: Record, *wanted: range) -> Iterator[str]:
        """A record's events: those in the `wanted` ranges, or all."""
        words = record.events
        for nth, kind in enumerate(words[::EVENT_WORDS]):
            is_wanted = not wanted or any(nth in one for one in wanted)
            if not is_wanted and kind not in _TELLING:
                continue
            at = EVENT_WORDS * nth
            event = Event(kind, words[at + 1], words[at + 2])
            place = self._learn(event, record)
            if is_wanted:
                yield instruction_text(event, self._machine) if place is None else self._store_text(event, *place)

    def _learn(self, event: Event, record: Record) -> tuple[int, int] | None:
        """The IPA and level of the entry that a store is to, where they are known."""
        if event.kind == ALLOC_EXACT or (event.kind == ALLOC and record.definition is INIT):
            self._root(event, record.outs)
        elif event.kind == ALLOC:
            self._tables.pop(event.a, None)
        return self._store(event) if event.kind in STORE_KINDS else None

    def _root(self, event: Event, outs: Sequence[int]) -> None:
        granule, level = self._granule, level_of(outs)
        if event.a == NO_PAGE or level is None:
            return
        for page in range(min(max(event.b // granule.page, 1), MAX_ROOT_PAGES)):
            first = page * (granule.entries << granule.level_shift(level))
            self._tables[event.a + page * granule.page] = first, level

    def _store(self, event: Event) -> tuple[int, int] | None:
        page = event.a & -self._granule.page
        if page not in self._tables:
            return None
        ipa, level = self._tables[page]
        ipa += (event.a - page) // 8 << self._granule.level_shift(level)
        if is_table_entry(event.b, level):
            self._tables[self._field.address(event.b)] = ipa, level + 1
        return ipa, level

    def _store_text(self, event: Event, ipa: int, level: int) -> str:
        return f"{event}  level {level} ipa {ipa:#x}: {describe_entry(event.b, level, self._machine)}"


def instruction_text(event: Event, machine: Machine = DEFAULT_MACHINE) -> str:
    """An event in a line; an instruction that says something in its operand, in words as well."""
    if event.instruction == TLBI:
        invalidation = invalidation_of(event.a, event.b, bool(machine["lpa2"]))
        return f"{event}" if invalidation is None else f"{event}: {invalidation}"
    if event.instruction == MSR and event.a == SYSREGS["vttbr_el2"]:
        return f"{event}: VMID {event.b >> 48:#x}, root {root_field(machine).address(event.b):#x}"
    return str(event)


def aligned_events(
    left: Observation, right: Observation, record: int, machine: Machine, names: tuple[str, str]
) -> list[str]:
    """Both sides' events of a record like a diff, with some that agree around those that do not. Empty when they
    agree, up to where pages lie."""
    if record >= min(len(left.records), len(right.records)):
        return []
    words = [side.records[record].events for side in (left, right)]
    counts = [len(of_side) // EVENT_WORDS for of_side in words]
    renamed = _renamed(left, right, record)
    if renamed is None:
        return []
    first, differing = renamed
    start, stop = max(first - CONTEXT, 0), first + _MOST
    texts = [list(_texts(side, machine, record, range(start, stop))) for side in (left, right)]
    theirs = events_of(words[1][EVENT_WORDS * start : EVENT_WORDS * stop])
    matcher = SequenceMatcher(None, [*theirs[: first - start], *differing], theirs, autojunk=False)
    rows = [f"  - {names[0]}", f"  + {names[1]}", *_equal(start)]
    shown = start
    for group in matcher.get_grouped_opcodes(CONTEXT):
        rows += _equal(group[0][1] + start - shown)
        for tag, a, b, c, d in group:
            if tag == "equal":
                rows += [f"    {text}" for text in texts[0][a:b]]
                continue
            rows += [f"  - {text}" for text in texts[0][a:b]]
            rows += [f"  + {text}" for text in texts[1][c:d]]
        shown = group[-1][2] + start
    rest = max(counts[0] - shown, 0)
    if max(counts) > stop:
        return [*rows, f"    … {counted(rest, 'more event', 'more events')}, not aligned"]
    return [*rows, *_equal(rest)]


def _equal(count: int) -> list[str]:
    return [f"    … {counted(count, 'equal event')}"] if count > 0 else []


def _texts(side: Observation, machine: Machine, record: int, wanted: range) -> Iterator[str]:
    """The wanted ones of a record's events, as `event_lines` has them."""
    places = _Places(machine)
    for one in side.records[:record]:
        deque(places.lines(one, range(0)), maxlen=0)
    return places.lines(side.records[record], wanted)


def _renamed(left: Observation, right: Observation, record: int) -> tuple[int, list[Event]] | None:
    """Which event of a record is the first that differs, and what there is to align from there on: the left side's
    events with the right side's addresses. None where none differs."""
    renaming = Renaming(left.machine)
    for mine, theirs in zip(left.records[:record], right.records[:record], strict=True):
        same = common_events(mine.events, theirs.events) if renaming.is_trivial else 0
        for a, b in zip(each_event(mine.events, same), each_event(theirs.events, same), strict=False):
            renaming.same(a, b)
    words = [side.records[record].events for side in (left, right)]
    first = common_events(*words) if renaming.is_trivial else 0
    allocated = (event for event in each_event(words[1], first) if event.kind in (ALLOC, ALLOC_EXACT))
    fresh = next(allocated, None)
    differing: list[Event] = []
    for event, other in zip_longest(*(each_event(of_side, first) for of_side in words)):
        if event is None or len(differing) == _MOST:
            break
        if event.kind in (ALLOC, ALLOC_EXACT) and fresh is not None and fresh.kind == event.kind:
            renaming.pair(event, fresh)
            fresh = next(allocated, None)
        renamed = renaming.renamed(event)
        if not differing and renamed == other:
            first += 1
        else:
            differing.append(renamed)
    return (first, differing) if differing or len(words[1]) > EVENT_WORDS * first else None
