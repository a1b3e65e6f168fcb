"""Compares two observations of one program, tier by tier.

Table pages are compared up to renaming: where a page lies does not matter, only what it holds and who points to it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Final

from harness.errors import BadInput
from harness.observation.descriptors import TABLE, AddressField, address_field, is_table_entry, root_field
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    EVENTS_BY_NUMBER,
    IN_CALL,
    MSR,
    STORE_KINDS,
    SYSREGS,
    TLB_CALLS,
    Event,
    common_events,
    each_event,
)
from harness.observation.layout import (
    EVENT_WORDS,
    LOCKING,
    LOCKING_REPORTS,
    NO_PAGE,
    POOL_MISUSE,
    UBSAN,
    UBSAN_REPORTS,
    Complaint,
    Observation,
    Page,
    Record,
    describe_return,
    signed,
)
from harness.observation.tables import leaked, paired_entries, paired_tables
from harness.program.definition import OpDef
from harness.program.machine import DEFAULT_MACHINE, MAX_POOL_PAGES, Machine
from harness.verdict.effects import lacks


class Tier(enum.IntEnum):
    """What is compared, in this order. EVENTS holds WARNs and UBSan reports as well as the boundary events; what TLB
    functions do once they are called is INSTRUCTIONS. EFFECTS is for sides that are meant to differ in both: what the
    events of an op come to, in whatever order (`harness.verdict.effects`)."""

    RESULTS = 1
    TABLES = 2
    ACCOUNTING = 3
    EVENTS = 4
    INSTRUCTIONS = 5
    EFFECTS = 6


ALL_TIERS: Final = frozenset(Tier)
DEFAULT_TIERS: Final = ALL_TIERS - {Tier.EFFECTS}
"""What is compared unless somebody says otherwise: equal events have equal effects."""
ORDERED_TIERS: Final = frozenset({Tier.EVENTS, Tier.INSTRUCTIONS})
"""In which one event sooner or later is a difference."""
ORDER_EXPECTED: Final = ALL_TIERS - ORDERED_TIERS
"""For a change that is to alter the order and the number of events, but nothing that they come to."""


def parse_tiers(text: str) -> frozenset[Tier]:
    """Tiers as people write them: `results,tables`. Raises BadInput."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name.upper() not in Tier.__members__ or not name.islower():
            raise BadInput(f"`{name}` is not a tier: expected some of {format_tiers(ALL_TIERS)}")
    return frozenset(Tier[name.upper()] for name in names)


def format_tiers(tiers: frozenset[Tier]) -> str:
    """What `parse_tiers` reads."""
    return ",".join(tier.name.lower() for tier in sorted(tiers))


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which the sides differ. `record` is the op's record (0: the implicit init), None where it is only
    known to hold at the end; `level` is the table level concerned, None where there is none."""

    tier: Tier
    record: int | None
    op: str
    what: str
    left: str
    right: str
    level: int | None = None

    @property
    def bucket(self) -> str:
        """What makes two divergences the same, in one word that suits a file name."""
        level = "" if self.level is None else f"-level{self.level}"
        return f"{self.tier.name.lower()}-{self.op}-{self.what}{level}".replace(" ", "_")


def differences(
    left: Observation, right: Observation, tiers: frozenset[Tier] = DEFAULT_TIERS, until: int | None = None
) -> list[Difference]:
    """Every difference in the chosen tiers, the earliest tier first; within a tier, in program or table order.

    With `until`, the record in which the sides were cut at different events (`harness.verdict.cuts`), only what lies
    before the cut: the records before that one, and of its own events those that came before a side was cut."""
    if left.words == right.words:
        return []
    if until is None:
        tables = [*_tables(left, right), *_dangling(left, right)]
        found = [*_results(left, right), *tables, *_accounting(left, right)]
        if tiers & ORDERED_TIERS:
            found += _events(left, right)
    else:
        before = (_before(left, until), _before(right, until))
        found = [*_results(*before), *_complaints(*before, Tier.ACCOUNTING), *_complaints(*before, Tier.EVENTS)]
        if tiers & ORDERED_TIERS:
            found += [*_first_event(left, right), *_first_instruction(left, right)]
    if Tier.EFFECTS in tiers:
        found += _effects(left, right)
    return sorted((one for one in found if one.tier in tiers), key=lambda one: one.tier)


def _before(side: Observation, record: int) -> Observation:
    """The observation without that record and those behind it. Its state is that at the end all the same."""
    return replace(side, records=side.records[:record], final_complaints=())


def _last_op(observation: Observation) -> str:
    return observation.records[-1].definition.name


def _results(left: Observation, right: Observation) -> Iterator[Difference]:
    addresses = address_field(left.machine)
    for index, (mine, theirs) in enumerate(zip_longest(left.records, right.records)):
        if mine is None or theirs is None:
            op = (mine or theirs).definition.name
            yield Difference(Tier.RESULTS, index, op, "ran", *_present(mine, theirs))
            return
        yield from _result(index, mine, theirs, addresses)


def _present(mine: Record | None, theirs: Record | None) -> tuple[str, str]:
    return "not run" if mine is None else "run", "not run" if theirs is None else "run"


def _result(index: int, mine: Record, theirs: Record, addresses: AddressField) -> Iterator[Difference]:
    name = mine.definition.name
    if mine.ret != theirs.ret:
        yield Difference(Tier.RESULTS, index, name, "return", describe_return(mine.ret), describe_return(theirs.ret))
    elif mine.definition.repeats:
        yield from _visits(index, mine, theirs, addresses)
    elif mine.outs != theirs.outs:
        for out, a, b in zip_longest(mine.definition.results, mine.outs, theirs.outs):
            if a != b:
                yield Difference(Tier.RESULTS, index, name, out.name, _hex(a), _hex(b))
                return


def _visits(index: int, mine: Record, theirs: Record, addresses: AddressField) -> Iterator[Difference]:
    """Visits carry entries, and so the addresses of tables: equal up to a renaming within this op."""
    width = len(mine.definition.results)
    renamed: dict[int, int] = {}
    pairs = zip_longest(_groups(mine.outs, width), _groups(theirs.outs, width))
    for number, (a, b) in enumerate(pairs):
        if a is None or b is None:
            yield Difference(
                Tier.RESULTS, index, mine.definition.name, "visits", _count(mine, width), _count(theirs, width)
            )
            return
        same_place = a[:3] == b[:3]
        if not same_place or not _same_entry(a[3], b[3], a[1], renamed, addresses):
            left, right = describe_results(mine.definition, a), describe_results(theirs.definition, b)
            yield Difference(
                Tier.RESULTS, index, mine.definition.name, "visit", f"#{number} {left}", f"#{number} {right}"
            )
            return


def _groups(values: Sequence[int], width: int) -> Iterator[tuple[int, ...]]:
    return (tuple(values[i : i + width]) for i in range(0, len(values), width))


def _count(record: Record, width: int) -> str:
    return f"{len(record.outs) // width} visits"


def describe_results(definition: OpDef, values: Sequence[int]) -> str:
    """Results in words, or one group of those that repeat: `leaf level=3 ipa=0x1000 pte=0x…`."""
    return " ".join(result.describe(value) for result, value in zip(definition.results, values, strict=False))


def _same_entry(a: int, b: int, level: int, renamed: dict[int, int], addresses: AddressField) -> bool:
    if not (is_table_entry(a, signed(level)) and is_table_entry(b, signed(level))):
        return a == b
    if (a ^ b) & ~addresses.bits:
        return False
    mine, theirs = addresses.address(a), addresses.address(b)
    if mine not in renamed and theirs in renamed.values():
        return False
    return renamed.setdefault(mine, theirs) == theirs


def _tables(left: Observation, right: Observation) -> Iterator[Difference]:
    if (left.root is None) != (right.root is None) or left.root_pages != right.root_pages:
        yield Difference(
            Tier.TABLES, None, _last_op(left), "root", f"{left.root_pages} pages", f"{right.root_pages} pages"
        )
        return
    addresses = address_field(left.machine).bits
    for where, level, a, b in paired_entries(left, right):
        if a != b and not (is_table_entry(a, level) and is_table_entry(b, level) and not (a ^ b) & ~addresses):
            yield Difference(
                Tier.TABLES, None, _last_op(left), "entry", f"{where:#x}: {a:#x}", f"{where:#x}: {b:#x}", level
            )


def _dangling(left: Observation, right: Observation) -> Iterator[Difference]:
    """Table entries that point to a page in use on one side only."""
    address = address_field(left.machine).address
    for where, level, a, b in paired_entries(left, right):
        if is_table_entry(a, level) and is_table_entry(b, level):
            in_use = address(a) in left.pages, address(b) in right.pages
            if in_use[0] != in_use[1]:
                mine, theirs = (f"{where:#x}: table {'in use' if used else 'freed'}" for used in in_use)
                yield Difference(Tier.TABLES, None, _last_op(left), "dangling table", mine, theirs, level)


def _accounting(left: Observation, right: Observation) -> Iterator[Difference]:
    op = _last_op(left)
    for what, a, b in (
        ("pages allocated", left.allocs, right.allocs),
        ("pages freed", left.frees, right.frees),
        ("memcache level", len(left.cache), len(right.cache)),
        ("split cache level", len(left.split_cache), len(right.split_cache)),
        ("unlinked tables", len(left.unlinked), len(right.unlinked)),
    ):
        if a != b:
            yield Difference(Tier.ACCOUNTING, None, op, what, str(a), str(b))
    for ipa, level, one, other in paired_tables(left, right):
        if one.refcount != other.refcount:
            yield Difference(
                Tier.ACCOUNTING,
                None,
                op,
                "refcount",
                f"table at {ipa:#x}: {one.refcount}",
                f"table at {ipa:#x}: {other.refcount}",
                level,
            )
    lost = [sorted(_held(side, page) for page in leaked(side)) for side in (left, right)]
    if lost[0] != lost[1]:
        yield Difference(Tier.ACCOUNTING, None, op, "leaked pages", _describe(lost[0]), _describe(lost[1]))
    for what, mine, theirs in (
        ("memcache", left.cache, right.cache),
        ("split cache", left.split_cache, right.split_cache),
    ):
        kept = [_kept(left, mine), _kept(right, theirs)]
        if len(mine) == len(theirs) and kept[0] != kept[1]:
            yield Difference(Tier.ACCOUNTING, None, op, f"{what} contents", _describe(kept[0]), _describe(kept[1]))
    yield from _complaints(left, right, Tier.ACCOUNTING)


def _kept(side: Observation, cache: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    return [_held(side, side.pages[pa]) for pa in cache if pa in side.pages]


def _held(side: Observation, page: Page) -> tuple[int, tuple[int, ...]]:
    """References and entries of a page outside the tree. Which level it had is not known, so whatever may point to a
    table counts without its address."""
    kept = ~address_field(side.machine).bits
    return page.refcount, tuple(e & kept if e & TABLE == TABLE else e for e in page.entries)


def _describe(pages: Sequence[tuple[int, tuple[int, ...]]]) -> str:
    """References and used entries of each page."""
    return ", ".join(f"{refcount} refs with {sum(map(bool, held))} used" for refcount, held in pages) or "none"


def _events(left: Observation, right: Observation) -> Iterator[Difference]:
    """In program order. What a WARN brings with it comes after it."""
    found = [*_complaints(left, right, Tier.EVENTS), *_first_event(left, right)]
    found += _first_instruction(left, right)
    yield from sorted(found, key=lambda one: len(left.records) if one.record is None else one.record)


def _effects(left: Observation, right: Observation) -> Iterator[Difference]:
    """In the order of how much they matter, within the first op whose effects differ."""
    for one in lacks(left, right):
        op = left.records[one.record].definition.name
        yield Difference(Tier.EFFECTS, one.record, op, one.what, one.left, one.right, one.level)


def _first_event(left: Observation, right: Observation) -> Iterator[Difference]:
    """The first boundary event that differs, not counting what TLB functions do."""
    parting = _parting(left, right, lambda kind: not kind & IN_CALL)
    if parting is not None:
        a, b = parting.left, parting.right
        first = a or b
        assert first is not None
        left_text, right_text = (f"#{parting.number} {event}" if event else "no more events" for event in (a, b))
        op = left.records[parting.record].definition.name
        yield Difference(Tier.EVENTS, parting.record, op, first.name, left_text, right_text, first.level)


def _first_instruction(left: Observation, right: Observation) -> Iterator[Difference]:
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


class Renaming:
    """Which table page of the left side is which of the right's: they are paired as they are allocated, in order.

    Equal addresses are taken to mean the same page until an allocation says otherwise.
    """

    def __init__(self, machine: Machine = DEFAULT_MACHINE) -> None:
        self._page = machine.granule.page
        self._addresses = address_field(machine)
        self._roots = root_field(machine)
        self._pages: dict[int, int] = {}
        self._back: dict[int, int] = {}

    @property
    def is_trivial(self) -> bool:
        """Whether every page has the same address on both sides."""
        return all(mine == theirs for mine, theirs in self._pages.items())

    def same(self, mine: Event, theirs: Event) -> bool:
        """Whether two events are the same but for where pages lie. An allocation on both sides makes a pair."""
        if mine.kind in (ALLOC, ALLOC_EXACT):
            return self._allocated(mine, theirs)
        if mine.kind in STORE_KINDS and mine.b == theirs.b and mine.b & ~self._addresses.bits != TABLE:
            return self.renamed(mine)._replace(b=mine.b) == theirs
        return self.renamed(mine) == theirs

    def renamed(self, event: Event) -> Event:
        """The left side's event with the right side's addresses."""
        if event.instruction == MSR and event.a == SYSREGS["vttbr_el2"]:
            return event._replace(b=self._roots.put(event.b, self._address(self._roots.address(event.b))))
        definition = EVENTS_BY_NUMBER.get(event.kind)
        if definition is None or not definition.table_address:
            return event
        if event.kind in STORE_KINDS:
            return event._replace(a=self._address(event.a), b=self._entry(event.b))
        return event._replace(a=self._address(event.a))

    def _allocated(self, mine: Event, theirs: Event) -> bool:
        if (mine.kind, mine.b) != (theirs.kind, theirs.b) or (mine.a == NO_PAGE) != (theirs.a == NO_PAGE):
            return False
        self.pair(mine, theirs)
        return True

    def pair(self, mine: Event, theirs: Event) -> None:
        """The pages of two allocations are the same from now on."""
        if NO_PAGE in (mine.a, theirs.a):
            return
        pages = 1 if mine.kind == ALLOC else -(-mine.b // self._page)
        for offset in range(0, min(pages, MAX_POOL_PAGES) * self._page, self._page):
            a, b = mine.a + offset, theirs.a + offset
            self._back.pop(self._pages.pop(a, NO_PAGE), None)
            self._pages.pop(self._back.pop(b, NO_PAGE), None)
            self._pages[a], self._back[b] = b, a

    def _address(self, address: int) -> int:
        page = address & -self._page
        return self._pages.get(page, page) + address - page

    def _entry(self, entry: int) -> int:
        """An entry that may point to a table. Its level is not known: at the last, a leaf has the same type bits."""
        if entry & TABLE != TABLE:
            return entry
        address = self._addresses.address(entry)
        return self._addresses.put(entry, self._pages[address]) if address in self._pages else entry


def _complaints(left: Observation, right: Observation, tier: Tier) -> Iterator[Difference]:
    """Misuse of the page pool counts as accounting, a WARN or a UBSan report as an event."""
    sides = [[*(r.complaints for r in side.records), side.final_complaints] for side in (left, right)]
    for index, (mine, theirs) in enumerate(zip(*sides, strict=False)):
        a, b = _of_tier(mine, tier), _of_tier(theirs, tier)
        if [(one.kind, one.code) for one in a] != [(one.kind, one.code) for one in b]:
            at_end = index >= len(left.records)
            op = _last_op(left) if at_end else left.records[index].definition.name
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


def _hex(value: int | None) -> str:
    return "none" if value is None else f"{value:#x}"
