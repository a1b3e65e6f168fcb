"""Boundary events as text: with the place in the tree that a store concerns, and two sides aligned like a diff."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from itertools import takewhile

from harness.compare import Renaming
from harness.descriptors import address_field, is_table_entry, level_of, root_field
from harness.events import ALLOC, ALLOC_EXACT, MSR, STORE_KINDS, SYSREGS, TLBI, Event, events_of
from harness.machine import DEFAULT_MACHINE, Machine
from harness.observation import MAX_ROOT_PAGES, NO_PAGE, Observation, Record
from harness.ops import INIT
from harness.tlbi import decode
from harness.trees import describe_entry

CONTEXT = 3
"""Equal events shown around those that differ."""
_MOST = 400
"""Events of a side that are aligned, from the first that differs on: aligning is quadratic."""


def event_lines(observation: Observation, machine: Machine) -> list[list[str]]:
    """Each record's events, one a line."""
    places = _Places(machine)
    return [list(places.lines(record)) for record in observation.records]


class _Places:
    """Which entry of the tree each address is, learnt from the events themselves: tables come and go. A table that is
    filled before it is linked has no place yet."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._granule = machine.granule
        self._tables: dict[int, tuple[int, int]] = {}
        """IPA and level of the page's first entry."""

    def lines(self, record: Record) -> Iterator[str]:
        for event in events_of(record.events):
            if event.kind == ALLOC_EXACT or (event.kind == ALLOC and record.definition is INIT):
                self._root(event, record.outs)
            elif event.kind == ALLOC:
                self._tables.pop(event.a, None)
            yield self._store(event) if event.kind in STORE_KINDS else instruction_text(event, self._machine)

    def _root(self, event: Event, outs: Sequence[int]) -> None:
        granule, level = self._granule, level_of(outs)
        if event.a == NO_PAGE or level is None:
            return
        for page in range(min(max(event.b // granule.page, 1), MAX_ROOT_PAGES)):
            first = page * (granule.entries << granule.level_shift(level))
            self._tables[event.a + page * granule.page] = first, level

    def _store(self, event: Event) -> str:
        page = event.a & -self._granule.page
        if page not in self._tables:
            return str(event)
        ipa, level = self._tables[page]
        ipa += (event.a - page) // 8 << self._granule.level_shift(level)
        if is_table_entry(event.b, level):
            self._tables[address_field(self._machine).address(event.b)] = ipa, level + 1
        return f"{event}  level {level} ipa {ipa:#x}: {describe_entry(event.b, level, self._machine)}"


def instruction_text(event: Event, machine: Machine = DEFAULT_MACHINE) -> str:
    """An event in a line; an instruction that says something in its operand, in words as well."""
    if event.instruction == TLBI:
        invalidation = decode(event.a, event.b, bool(machine["lpa2"]))
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
    mine, theirs = (events_of(side.records[record].events) for side in (left, right))
    renamed = _renamed(left, right, record)
    first = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(renamed, theirs, strict=False)))
    if first == len(renamed) == len(theirs):
        return []
    texts = [event_lines(side, machine)[record] for side in (left, right)]
    start = max(first - CONTEXT, 0)
    stop = first + _MOST
    matcher = SequenceMatcher(None, renamed[start:stop], theirs[start:stop], autojunk=False)
    rows = [f"  - {names[0]}", f"  + {names[1]}", *_equal(start)]
    shown = start
    for group in matcher.get_grouped_opcodes(CONTEXT):
        rows += _equal(group[0][1] + start - shown)
        for tag, a, b, c, d in group:
            if tag == "equal":
                rows += [f"    {text}" for text in texts[0][start + a : start + b]]
                continue
            rows += [f"  - {text}" for text in texts[0][start + a : start + b]]
            rows += [f"  + {text}" for text in texts[1][start + c : start + d]]
        shown = group[-1][2] + start
    rest = max(len(mine) - shown, 0)
    if len(mine) > stop or len(theirs) > stop:
        return [*rows, f"    … {rest} more events, not aligned"]
    return [*rows, *_equal(rest)]


def _equal(count: int) -> list[str]:
    return [f"    … {count} equal {'event' if count == 1 else 'events'}"] if count > 0 else []


def _renamed(left: Observation, right: Observation, record: int) -> list[Event]:
    """The left side's events of a record with the right side's addresses."""
    renaming = Renaming(left.machine)
    for mine, theirs in zip(left.records[:record], right.records[:record], strict=True):
        for a, b in zip(events_of(mine.events), events_of(theirs.events), strict=False):
            renaming.same(a, b)
    allocated = [event for event in events_of(right.records[record].events) if event.kind in (ALLOC, ALLOC_EXACT)]
    renamed = []
    for event in events_of(left.records[record].events):
        if event.kind in (ALLOC, ALLOC_EXACT) and allocated and allocated[0].kind == event.kind:
            renaming.pair(event, allocated.pop(0))
        renamed.append(renaming.renamed(event))
    return renamed
