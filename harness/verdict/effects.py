"""What the events of an op come to, in whatever order they come: for sides that are meant to differ in the order.

The stores of either side are replayed, so that each is known to concern the entry of a level for an IPA, wherever its
table lies. Of each op it is then asked, entry by entry,

- what a valid entry that goes or changes is given: a store that makes it invalid, or takes the way to it, then a DSB,
  a TLBI that hits it, and a DSB, before it is valid again, before the page of the table that it pointed to is free, and
  before the op ends (Arm ARM, "TLB maintenance requirements");
- what memory is given before an entry makes it reachable, or once it no longer is: data cache and instruction cache;
- whether a table's contents are visible before the entry that points to it, and what was made before the op ends;
- which pages and references each table has been given, and which WARNs and UBSan reports there were.

Two sides are compared in that. What holds on the left and not on the right is lacking. The reverse is, too, where the
architecture asks for it; else it is more than was asked for, and a note. Nothing is demanded of both: what both leave
out they leave to their caller. What a program itself does to an entry is only taken note of.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from harness.observation.descriptors import TABLE, address_field, is_table_entry, level_of
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    DCACHE,
    DOMAIN_NAMES,
    DSB,
    FREE_EXACT,
    GET,
    IC,
    ICACHE,
    ISB,
    PLANTED,
    PUT,
    STORE_CMPXCHG,
    STORE_KINDS,
    STORE_PLAIN,
    TLB_CALLS,
    TLBI,
    TLBI_KINDS,
    TLBI_TTL_UNKNOWN,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
    Event,
    each_event,
)
from harness.observation.layout import (
    MAX_ROOT_PAGES,
    NO_PAGE,
    POOL_MISUSE,
    UBSAN,
    UBSAN_REPORTS,
    WARN,
    Observation,
    Record,
)
from harness.observation.tlbi import BY_NAME, Invalidation, Target, decode
from harness.program.granule import LAST_LEVEL
from harness.program.machine import Machine
from harness.program.ops import INIT

_VALID: Final = 1
_MEMATTR_CACHEABLE: Final = 1 << 5
"""Of MemAttr without FEAT_S2FWB: write-through or write-back (Arm ARM, stage 2 MemAttr[3:2])."""
_XN: Final = 0b11 << 53
_NEVER_EXECUTED: Final = 0b10 << 53
_SOFTWARE: Final = 0x1FF << 55
"""Bits that the hardware ignores."""
_PERMISSIONS: Final = 0b11 << 6 | 1 << 10 | 1 << 51 | _XN
"""S2AP, AF, DBM and XN: what may change without break-before-make."""
_NO_STORE: Final = frozenset({"nshld", "ishld", "oshld", "ld"})
_LOCAL_BARRIERS: Final = frozenset({"nsh", "nshst"})
_FOR_TLB: Final = frozenset({"relax_perms", "tlb_flush_vmid_range", "flush_cpu_context", "flush_vm_context"})
"""Ops that are there to invalidate, whether or not an entry changes."""
_LEFT_TO_CALLERS: Final = frozenset({"set_owner"})
"""Ops whose stores are waited for only where an invalidation happens to."""
_WRONG_CALLER: Final = (WARN, zlib.crc32(b"enter_vmid_context"))
"""The WARN of a TLB function that is called while another stage 2's vCPU runs: where that is so, each call has one."""
_VA_MASK: Final = (1 << 56) - 1
"""What an operand has of hyp's address."""
_EVERYTHING: Final = 1 << 64
_NEVER: Final = -1

Place = tuple[int, int, int]
"""Of an entry: the number of its tree's root, its IPA and its level. Of a table: those of its first entry."""


class _Told(NamedTuple):
    """What a side did, and by which event of the op (None: by none)."""

    what: str
    number: int | None = None

    def __str__(self) -> str:
        return self.what if self.number is None else f"{self.what} #{self.number}"


class _Mark(NamedTuple):
    """Whether a relation holds on one side. `what` is lacking where it does not, in one phrase; `asked_for` says that
    the architecture asks for it."""

    holds: bool
    what: str
    asked_for: bool
    told: tuple[_Told, ...]


_NOTHING_DUE: Final = _Mark(True, "", False, (_Told("has nothing to do here"),))

_RELATIONS: Final = (
    *("complaint", "broken", "make", "free", "end", "everywhere", "visible", "cleaned", "icache"),
    *("cleaned after", "tlb", "flushed", "barrier", "isb", "pages", "references"),
)
"""What weighs most comes first."""
_OF_BREAKS: Final = frozenset(("broken", "make", "free", "end", "everywhere"))
_RANKS: Final[Mapping[str, int]] = {relation: rank for rank, relation in enumerate(_RELATIONS)}


@dataclass(frozen=True, slots=True)
class Lack:
    """What one side is without. `what` is short and stable, for a bucket; `left` and `right` say what either did, with
    the numbers of its events in the op, those within TLB functions not counted. `is_note`: it is the left side that
    does less, and the architecture does not ask for more."""

    record: int
    what: str
    level: int | None
    left: str
    right: str
    is_note: bool = False


def lacks(left: Observation, right: Observation) -> list[Lack]:
    """In what the effects differ, within the first op in which they do, what weighs most first; no notes. An op that
    either side did not finish is not compared, nor is what follows it."""
    for found in _by_op(left, right):
        lacking = [one for one in found if not one.is_note]
        if lacking:
            return lacking
    return []


def compared(left: Observation, right: Observation, record: int) -> list[Lack] | None:
    """What is lacking in one op, and notes on what the right side does beyond the left; None where either side did not
    finish it."""
    return next((found for at, found in enumerate(_by_op(left, right)) if at == record), None)


def _by_op(left: Observation, right: Observation) -> Iterator[list[Lack]]:
    sides = _Side(left.machine), _Side(right.machine)
    same = True
    for index, (mine, theirs) in enumerate(zip(left.records, right.records, strict=False)):
        if mine.ret is None or theirs.ret is None:
            return
        same = same and mine.events == theirs.events
        effects = [side.run(record) for side, record in zip(sides, (mine, theirs), strict=True)]
        found = list(_complaints(index, mine, theirs))
        if not same:
            found += _compared(index, effects[0].told(), effects[1].told())
            found += _flushed(index, mine, *effects)
            found += _held(index, *sides)
            found += _more(index, *effects)
        yield found


def _compared(index: int, mine: _Marks, theirs: _Marks) -> Iterator[Lack]:
    """Of each relation, entry by entry."""
    keys = [key for key in {**mine, **theirs} if mine.get(key, _NOTHING_DUE)[0] != theirs.get(key, _NOTHING_DUE)[0]]
    told: set[tuple[bool, Place | None]] = set()
    for key in sorted(keys, key=_order):
        # Of an entry that is not invalidated, what weighs most says it.
        group = (key[0] in _OF_BREAKS, key[1])
        if group[0] and group in told:
            continue
        told.add(group)
        a, b = mine.get(key, _NOTHING_DUE), theirs.get(key, _NOTHING_DUE)
        lacking = a if b.holds else b
        place = key[1]
        where = "" if place is None else f"{place[1]:#x}: "
        left, right = (where + ", ".join(map(str, one.told)) for one in (a, b))
        is_note = b.holds and not lacking.asked_for
        yield Lack(index, lacking.what, None if place is None else place[2], left, right, is_note)


_Key = tuple[str, Place | None]
_Marks = dict[_Key, _Mark]


def _order(key: _Key) -> tuple[int, Place]:
    relation, place = key
    return _RANKS[relation], place or (0, 0, 0)


def _complaints(index: int, mine: Record, theirs: Record) -> Iterator[Lack]:
    """Those of one side alone. A WARN is the same one wherever it stands, whenever it comes and however often. Misuse
    of the pool is accounting."""
    a, b = _complained(mine), _complained(theirs)
    if a != b:
        left, right = (", ".join(sorted(side)) or "none" for side in (a, b))
        yield Lack(index, min(a ^ b), None, left, right)


def _complained(record: Record) -> set[str]:
    return {
        UBSAN_REPORTS.get(one.code, "ubsan") if one.kind == UBSAN else "WARN"
        for one in record.complaints
        if one.kind != POOL_MISUSE and (one.kind, one.code) != _WRONG_CALLER
    }


class _Region(NamedTuple):
    """What one invalidation reaches: entries of either stage, of a level (None: of all)."""

    stage_1: bool
    stage_2: bool
    start: int
    end: int
    level: int | None
    everywhere: bool


def _flushed(index: int, record: Record, mine: _Effects, theirs: _Effects) -> Iterator[Lack]:
    """Of ops that are there for maintenance alone: what they reach."""
    if record.definition.name in _FOR_TLB:
        ours = theirs.regions()
        missing = next((one for one in mine.regions() if one not in ours and not _reached(one, ours)), None)
        if missing is not None:
            texts = [f"{len(one.tlbis)} invalidations" for one in (mine, theirs)]
            left = f"{missing.start:#x} to {missing.end - 1:#x}, {texts[0]}"
            yield Lack(index, "less invalidated", None, left, texts[1])
        if mine.ics - theirs.ics:
            yield Lack(index, "instruction cache not invalidated", None, "invalidated", "not invalidated")
    elif not mine.stores and not theirs.stores:
        for what, a, b in (
            ("less cleaned", mine.dcache, theirs.dcache),
            ("less of the instruction cache invalidated", mine.icache, theirs.icache),
        ):
            less = next(((start, size) for start, size in a.pieces() if b.when(start, size) is None), None)
            if less is not None:
                yield Lack(index, what, None, f"{less[0]:#x}, {less[1]:#x} bytes", "not all of it")


def _reached(wanted: _Region, regions: set[_Region]) -> bool:
    """Whether some regions together do what one does."""
    at = wanted.start
    for one in sorted(regions, key=lambda one: one.start):
        fits = one.stage_1 >= wanted.stage_1 and one.stage_2 >= wanted.stage_2 and one.everywhere >= wanted.everywhere
        if fits and one.level in (None, wanted.level) and one.start <= at:
            at = max(at, one.end)
    return at >= wanted.end


def _held(index: int, mine: _Side, theirs: _Side) -> Iterator[Lack]:
    """Pages and references once the op is over."""
    a, b = mine.loose(), theirs.loose()
    if a != b:
        left, right = (f"{pages} pages in no tree, {references} references" for pages, references in (a, b))
        yield Lack(index, "pages" if a[0] != b[0] else "references", None, left, right)
    ours, others = mine.held(), theirs.held()
    for place in sorted({**ours, **others}):
        if ours.get(place) != others.get(place):
            what = "references" if place in ours and place in others else "pages"
            left, right = (
                f"table at {place[1]:#x}: " + (f"{side[place]} references" if place in side else "none")
                for side in (ours, others)
            )
            yield Lack(index, what, place[2], left, right)
            return


def _more(index: int, mine: _Effects, theirs: _Effects) -> Iterator[Lack]:
    for what, a, b in (
        ("more invalidations", len(mine.tlbis), len(theirs.tlbis)),
        ("more bytes cleaned", mine.dcache.bytes, theirs.dcache.bytes),
        ("more bytes of the instruction cache invalidated", mine.icache.bytes, theirs.icache.bytes),
    ):
        if b > a:
            yield Lack(index, what, None, f"{a:,}", f"{b:,}", is_note=True)


class _Table:
    """A page of the pool that is in use. `ipa` and `level` are those of its first entry, once it has been linked;
    `root` is the number of the tree that it hangs in, 0 where it is in none."""

    __slots__ = ("entries", "freed", "freed_number", "index", "ipa", "level", "parent", "references", "root", "written")

    def __init__(self, written: int) -> None:
        self.root = 0
        self.ipa = 0
        self.level: int | None = None
        self.parent: _Table | None = None
        self.index = 0
        self.references = 1
        self.entries: dict[int, int] = {}
        self.written = written
        """When anything in it, or in a table below it, was stored last."""
        self.freed: int | None = None
        self.freed_number = 0


class _Break:
    """A store that takes something out of the hardware's sight. `at` is None where there was none: a table was freed as
    it was."""

    __slots__ = ("at", "is_direct", "made", "made_number", "number")

    def __init__(self, at: int | None, number: int, is_direct: bool = False) -> None:
        self.at = at
        self.number = number
        self.is_direct = is_direct
        """Without an invalid entry in between."""
        self.made: int | None = None
        self.made_number = 0


class _Gone(NamedTuple):
    """A valid entry that went. `child` is the table that it pointed to; `is_weaker` says that only permissions
    changed."""

    place: Place
    entry: int
    child: _Table | None
    cause: _Break
    is_weaker: bool = False


class _Made(NamedTuple):
    """A leaf that came. `is_stronger` says that its memory could be reached before, but not executed from."""

    place: Place
    entry: int
    at: int
    number: int
    is_stronger: bool


class _Tlbi:
    """One invalidation of stage 2, or of hyp's stage 1: the latest barrier for stores before it, and the first behind
    it that waits for it."""

    __slots__ = ("after", "at", "before", "everywhere", "number", "what")

    def __init__(self, at: int, number: int, before: int, everywhere: bool, what: Invalidation) -> None:
        self.at = at
        self.number = number
        self.before = before
        self.after: int | None = None
        self.everywhere = everywhere
        self.what = what


class _Maintained:
    """Memory that was maintained in an op, and when."""

    def __init__(self) -> None:
        self._pieces: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._in_order: list[tuple[int, int]] = []
        self._largest = 0
        self.bytes = 0

    def add(self, start: int, size: int, at: int, number: int) -> None:
        self._pieces.setdefault((start, size), []).append((at, number))
        self._largest = max(self._largest, size)
        self.bytes += size

    def pieces(self) -> Iterator[tuple[int, int]]:
        """(start, size) of each, once."""
        yield from self._pieces

    def when(self, start: int, size: int, after: int = _NEVER, before: int = _EVERYTHING) -> int | None:
        """The number of an event by which all of it was maintained between two times; None where it was not."""
        fitting = self._pieces.get((start, size))
        if fitting is not None:
            for time, number in fitting:
                if after < time < before:
                    return number
        if len(self._in_order) < len(self._pieces):
            self._in_order = sorted(self._pieces)
        reached, last = start, None
        for at in range(bisect_left(self._in_order, (start - self._largest, 0)), len(self._in_order)):
            first, length = piece = self._in_order[at]
            if first > reached:
                break
            numbers = [number for time, number in self._pieces[piece] if after < time < before]
            if numbers and first + length > reached:
                reached, last = first + length, numbers[0]
                if reached >= start + size:
                    return last
        return None


class _Effects:
    """What one op came to on one side."""

    def __init__(self, machine: Machine, op: str = INIT.name) -> None:
        self._op = op
        self._granule = machine.granule
        self._stage_1 = machine["stage"] == 1
        self._cleans = not self._stage_1 and not machine.forces_write_back
        self._address = address_field(machine).address
        self.gone: list[_Gone] = []
        self.made: list[_Made] = []
        self.links: list[tuple[Place, bool, int]] = []
        """Tables linked: where, whether their contents were visible, and by which event."""
        self.breaks: dict[Place, _Break] = {}
        """The last of each entry that is not valid again."""
        self.tlbis: list[_Tlbi] = []
        self.dcache, self.icache = _Maintained(), _Maintained()
        self.ics: set[int] = set()
        self.stores = 0
        """To entries that the hardware can reach."""
        self.last_made, self.last_made_number = _NEVER, 0
        self.last_barrier = self.last_isb = _NEVER
        self._by_address: list[_Tlbi] = []
        self._starts: list[int] = []
        self._others: list[_Tlbi] = []

    def regions(self) -> set[_Region]:
        """What was invalidated, and waited for."""
        found = set()
        for one in self.tlbis:
            what = one.what
            if what.flaw is None and one.after is not None:
                start, size = (0, _EVERYTHING) if what.start is None else (what.start, what.size or self._granule.page)
                target, level = what.operation.target, what.level
                is_stage_1 = target is not Target.STAGE_2
                is_stage_2 = target not in (Target.STAGE_1, Target.STAGE_1_OF_VMID)
                found.add(_Region(is_stage_1, is_stage_2, start, start + size, level, one.everywhere))
        return found

    def told(self) -> _Marks:
        """Every relation that the op had to do with."""
        marks: _Marks = {}
        useful = [one for one in self.tlbis if self._is_ours(one.what)]
        self._others = [one for one in useful if one.what.start is None or one.what.size is not None]
        self._by_address = sorted(
            (one for one in useful if one.what.start is not None and one.what.size is None), key=self._start
        )
        self._starts = [self._start(one) for one in self._by_address]
        for gone in self.gone:
            for relation, mark in self._of_gone(gone):
                _keep(marks, (relation, gone.place), mark)
        for made in self.made:
            for relation, mark in self._of_made(made):
                _keep(marks, (relation, made.place), mark)
        for place, is_visible, number in self.links:
            told = (
                _Told("linked", number),
                _Told("its contents visible" if is_visible else "its contents perhaps not"),
            )
            _keep(marks, ("visible", place), _Mark(is_visible, "table not visible before make", True, told))
        if self.last_made != _NEVER and self._op not in _LEFT_TO_CALLERS:
            made_told = _Told("last store", self.last_made_number)
            holds = self.last_barrier > self.last_made
            told = (made_told, _Told("a barrier behind it" if holds else "no barrier behind it"))
            marks["barrier", None] = _Mark(holds, "no barrier at end", False, told)
            if self._stage_1:
                holds = self.last_isb > self.last_made
                told = (made_told, _Told("an ISB behind it" if holds else "no ISB behind it"))
                marks["isb", None] = _Mark(holds, "no isb at end", False, told)
        return marks

    def _is_ours(self, what: Invalidation) -> bool:
        """Whether it is of the regime and stage of the table under test, and does anything."""
        if what.flaw is not None or what.operation.regime != (2 if self._stage_1 else 1):
            return False
        if what.page_shift is not None and what.page_shift != self._granule.shift:
            return False
        return self._stage_1 or what.operation.target not in (Target.STAGE_1, Target.STAGE_1_OF_VMID)

    def _start(self, one: _Tlbi) -> int:
        assert one.what.start is not None
        return one.what.start & _VA_MASK if self._stage_1 else one.what.start

    def _of_gone(self, gone: _Gone) -> Iterator[tuple[str, _Mark]]:
        cause, is_table = gone.cause, gone.child is not None
        done, status, everywhere, told = self._invalidated(gone.place, is_table, cause.at)
        start = _Told("left as it was") if cause.at is None else _Told("gone", cause.number)
        asked_for = not gone.is_weaker
        ends = (_Told("made", cause.made_number),) if cause.made is not None else ()
        if cause.made is not None and not gone.is_weaker:
            yield "broken", _Mark(not cause.is_direct, "not broken before make", True, (start, *ends))
            holds = done is not None and done < cause.made
            yield "make", _Mark(holds, _phrase(status, " before make"), True, (start, told, *ends))
        if gone.child is not None and gone.child.freed is not None:
            holds = done is not None and done < gone.child.freed
            freed = _Told("its table freed", gone.child.freed_number)
            yield "free", _Mark(holds, _phrase(status, " before free"), True, (start, told, freed))
        yield "end", _Mark(done is not None, _phrase(status, ""), asked_for, (start, told, *ends))
        lacking = _phrase(status, "") if done is None else "invalidated on this CPU alone"
        yield "everywhere", _Mark(everywhere, lacking, asked_for, (start, told))
        if is_table or cause.made is not None or gone.is_weaker:
            return
        if not self._cleans or not gone.entry & _MEMATTR_CACHEABLE:
            return
        memory, size = self._memory(gone.place[2], gone.entry)
        since = cause.at if done is None else done
        number = None if since is None else self.dcache.when(memory, size, after=since)
        if number is not None:
            yield "cleaned after", _Mark(True, "", False, (start, told, _Told("cleaned", number)))
            return
        early = self.dcache.when(memory, size)
        cleaned = _Told("not cleaned") if early is None else _Told("cleaned", early)
        what = "not cleaned" if early is None else "cleaned before invalidation"
        yield "cleaned after", _Mark(False, what, False, (start, told, cleaned))

    def _of_made(self, made: _Made) -> Iterator[tuple[str, _Mark]]:
        """What the memory of a leaf was given before it could be reached."""
        memory, size = self._memory(made.place[2], made.entry)
        needs_cleaning = self._cleans and not made.is_stronger and bool(made.entry & _MEMATTR_CACHEABLE)
        for relation, is_due, maintained, verb in (
            ("cleaned", needs_cleaning, self.dcache, "cleaned"),
            ("icache", made.entry & _XN != _NEVER_EXECUTED, self.icache, "instruction cache invalidated"),
        ):
            if not is_due or self._stage_1:
                continue
            number = maintained.when(memory, size, before=made.at)
            late = maintained.when(memory, size) if number is None else number
            act = _Told(f"not {verb}") if late is None else _Told(verb, late)
            what = f"{'' if verb == 'cleaned' else 'instruction cache '}not {verb.split()[-1]} before make"
            yield relation, _Mark(number is not None, what, True, (act, _Told("made", made.number)))

    def _memory(self, level: int, entry: int) -> tuple[int, int]:
        """Physical address and bytes of what a leaf maps."""
        return self._address(entry), 1 << self._granule.level_shift(level)

    def _invalidated(self, place: Place, is_table: bool, since: int | None) -> tuple[int | None, int, bool, _Told]:
        """When an entry that went at `since` was gone from all TLBs, None if never; how far it came; whether on all
        CPUs; and by what."""
        if since is None:
            return None, _NOT_AT_ALL, False, _Told("not invalidated")
        _, ipa, level = place
        size = 1 << self._granule.level_shift(level)
        done, status, everywhere, number = None, _NOT_AT_ALL, False, None
        for one in self._candidates(ipa & _VA_MASK if self._stage_1 else ipa, size):
            reached = self._progress(one, level, is_table, since)
            if reached == _DONE:
                everywhere |= one.everywhere
                if done is None or (one.after is not None and one.after < done):
                    done, number = one.after, one.number
            elif done is None and reached > status:
                number = one.number
            status = max(status, reached)
        return done, status, everywhere, _Told(_TOLD[status], number)

    def _candidates(self, ipa: int, size: int) -> Iterator[_Tlbi]:
        """Whatever reaches some of an entry's addresses."""
        for at in range(bisect_left(self._starts, ipa), len(self._starts)):
            if self._starts[at] >= ipa + size:
                break
            yield self._by_address[at]
        for one in self._others:
            if one.what.size is None or ((start := self._start(one)) < ipa + size and ipa < start + one.what.size):
                yield one

    @staticmethod
    def _progress(one: _Tlbi, level: int, is_table: bool, since: int) -> int:
        what = one.what
        # A hint is of the level of a leaf, so that one that hints any is not for tables.
        if (what.operation.last_level_only and is_table) or what.level not in (None, None if is_table else level):
            return _OTHER_LEVEL
        if one.at < since:
            return _TOO_EARLY
        if one.before < since:
            return _UNORDERED
        return _UNFINISHED if one.after is None else _DONE


_NOT_AT_ALL, _OTHER_LEVEL, _TOO_EARLY, _UNORDERED, _UNFINISHED, _DONE = range(6)
"""How far the invalidation of an entry came."""
_TOLD: Final = (
    "not invalidated",
    "invalidated at another level",
    "invalidated too early",
    "invalidated without a barrier before",
    "invalidated but not waited for",
    "invalidated",
)
_LACKING: Final = (
    "no invalidation",
    "invalidated at another level",
    "invalidated too early",
    "no barrier before invalidation",
    "invalidation not waited for",
    "no invalidation",
)


def _phrase(status: int, deadline: str) -> str:
    """What is lacking. One that is complete was too late for the deadline."""
    return _LACKING[status] + (deadline if status in (_NOT_AT_ALL, _DONE) else "")


def _keep(marks: _Marks, key: _Key, mark: _Mark) -> None:
    """Of several, the one that does not hold."""
    if key not in marks or marks[key].holds:
        marks[key] = mark


@lru_cache(maxsize=4096)
def _decoded(number: int, operand: int, lpa2: bool) -> Invalidation | None:
    return decode(number, operand, lpa2)


class _Side:
    """One side's tables, as its events have made them so far."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._granule = machine.granule
        self._mask = -machine.granule.page
        self._lpa2 = bool(machine["lpa2"])
        self._is_stage_1 = machine["stage"] == 1
        self._addresses = address_field(machine)
        self._tables: dict[int, _Table] = {}
        self._roots = 0
        """How many there were; the latest is the tree under test."""
        self._clock = 0
        self._barriers = [_NEVER, _NEVER]
        """The last barrier for stores: on this CPU at least, and in the whole domain."""
        self._number = 0
        self._effects = _Effects(machine)

    def held(self) -> dict[Place, int]:
        """References of each table of the tree."""
        return {
            (one.root, one.ipa, one.level): one.references
            for one in self._tables.values()
            if one.root and one.level is not None
        }

    def loose(self) -> tuple[int, int]:
        """Pages in use that are in no tree, and their references."""
        loose = [one.references for one in self._tables.values() if not one.root]
        return len(loose), sum(loose)

    def run(self, record: Record) -> _Effects:
        """Replay an op."""
        effects = self._effects = _Effects(self._machine, record.definition.name)
        self._number = -1
        words = record.events
        for index, event in enumerate(each_event(words)):
            self._clock += 1
            kind = event.kind
            if not event.is_in_call:
                self._number += 1
            if kind in STORE_KINDS:
                self._written(event, words, index)
            elif kind in _PAGES:
                self._page(event, record)
            elif kind in TLB_CALLS:
                following = next(each_event(words, index + 1), None)
                if following is None or not following.is_in_call:
                    self._call(event)
            elif kind == DCACHE:
                effects.dcache.add(event.a, event.b, self._clock, self._number)
            elif kind == ICACHE:
                effects.icache.add(event.a, event.b, self._clock, self._number)
            else:
                self._instruct(event)
        return effects

    def _written(self, event: Event, words: Sequence[int], index: int) -> None:
        if event.kind == PLANTED:
            self._plant(event)
        elif event.kind != STORE_CMPXCHG or self._succeeds(event, words, index):
            self._store(event, event.kind != STORE_PLAIN)

    def _page(self, event: Event, record: Record) -> None:
        """A page comes, is counted, or goes."""
        kind = event.kind
        if kind == GET:
            self._count(event.a, 1)
        elif kind == PUT:
            self._count(event.a, -1)
        elif kind == FREE_EXACT:
            self._free_exact(event)
        else:
            self._allocate(event, record, kind == ALLOC_EXACT or record.definition is INIT)

    def _instruct(self, event: Event) -> None:
        kind, effects = event.instruction, self._effects
        if kind == DSB:
            self._barrier(DOMAIN_NAMES.get(event.a, ""))
        elif kind == ISB:
            effects.last_isb = self._clock
        elif kind == IC:
            effects.ics.add(event.a)
        elif kind == TLBI:
            what = _decoded(event.a, event.b, self._lpa2)
            if what is not None:
                everywhere = what.operation.shareability != "non-shareable"
                before = self._barriers[everywhere]
                effects.tlbis.append(_Tlbi(self._clock, self._number, before, everywhere, what))

    def _barrier(self, domain: str) -> None:
        if domain in _NO_STORE:
            return
        is_local = domain in _LOCAL_BARRIERS
        self._barriers[False] = self._clock
        if not is_local:
            self._barriers[True] = self._effects.last_barrier = self._clock
        if domain.endswith("st"):
            return
        for one in reversed(self._effects.tlbis):
            if one.after is not None:
                break
            if not (is_local and one.everywhere):
                one.after = self._clock

    def _call(self, event: Event) -> None:
        """A TLB function of which the instructions are not told does what it is for."""
        name = _CALLED.get(event.kind)
        effects = self._effects
        if name is None or event.kind not in TLBI_KINDS:
            return
        everywhere = event.kind != TLBI_VMID_IPA_NSH
        start = size = level = None
        if event.kind != TLBI_VMID:
            start = event.a & self._mask
        if event.kind == TLBI_VMID_RANGE:
            size = event.b * self._granule.page
        elif event.kind != TLBI_VMID and event.b != TLBI_TTL_UNKNOWN:
            level = event.level
        # Level 0 has no leaves; it is what 6.1 says of a level that it does not know.
        what = Invalidation(BY_NAME[name], start, size, level if level in range(1, LAST_LEVEL + 1) else None)
        one = _Tlbi(self._clock, self._number, self._clock, everywhere, what)
        one.after = self._clock
        self._barriers[False] = self._clock
        if everywhere:
            self._barriers[True] = effects.last_barrier = self._clock
        effects.tlbis.append(one)

    def _allocate(self, event: Event, record: Record, is_root: bool) -> None:
        if is_root:
            self._forget_root()
        if event.a == NO_PAGE:
            return
        pages = 1 if event.kind == ALLOC else min(-(-event.b // self._granule.page), MAX_ROOT_PAGES)
        level = level_of(record.outs) if is_root else None
        for number in range(pages):
            table = self._tables[event.a + number * self._granule.page] = _Table(self._clock)
            if level is not None:
                table.root, table.level = self._roots, level
                table.ipa = number * self._granule.entries << self._granule.level_shift(level)
        if is_root:
            self._effects.last_made, self._effects.last_made_number = self._clock, self._number

    def _forget_root(self) -> None:
        """There is a new one: what hangs in the one before is no longer under test."""
        self._roots += 1
        for table in self._tables.values():
            table.root = 0

    def _free_exact(self, event: Event) -> None:
        if event.a == NO_PAGE:
            return
        for page in range(min(-(-event.b // self._granule.page), MAX_ROOT_PAGES)):
            self._free(event.a + page * self._granule.page)

    def _count(self, pa: int, by: int) -> None:
        page = pa & self._mask
        table = self._tables.get(page)
        if table is not None:
            table.references += by
            if not table.references:
                self._free(page)

    def _free(self, page: int) -> None:
        table = self._tables.pop(page, None)
        if table is None:
            return
        table.freed, table.freed_number = self._clock, self._number
        if not table.root:
            return
        cause, parent = _Break(None, self._number), table.parent
        if parent is not None and parent.freed is None and parent.level is not None:
            place = (table.root, table.ipa, parent.level)
            self._effects.gone.append(_Gone(place, parent.entries.get(table.index, 0), table, cause))
        self._leave(table, cause, below=False)

    def _succeeds(self, event: Event, words: Sequence[int], index: int) -> bool:
        """Whether a compare-and-exchange stores: somebody else may be faster, which is told behind it."""
        following = each_event(words, index + 1)
        other = next(following, None)
        if other is not None and other.kind == ALLOC:
            other = next(following, None)
        if other is None or other.kind != PLANTED or other.a != event.a:
            return True
        table = self._tables.get(event.a & self._mask)
        return table is None or table.entries.get((event.a & ~self._mask) // _ENTRY_BYTES, 0) == other.b

    def _plant(self, event: Event) -> None:
        """The program itself writes, with the references that this takes."""
        table = self._tables.get(event.a & self._mask)
        if table is None:
            return
        index = (event.a & ~self._mask) // _ENTRY_BYTES
        old = table.entries.get(index, 0)
        self._put(table, index, event.b)
        self._count(event.a, bool(event.b) - bool(old))

    def _put(self, table: _Table, index: int, new: int) -> None:
        """Change an entry and what hangs on it, and be done."""
        old = table.entries.get(index, 0)
        before, after = self._child(table, old), self._child(table, new)
        if before is not None and before is not after:
            self._leave(before, None)
            before.parent = None
        if new:
            table.entries[index] = new
        else:
            table.entries.pop(index, None)
        up: _Table | None = table
        while up is not None:
            up.written = self._clock
            up = up.parent
        if after is not None and after is not before:
            self._hang(after, table, index)

    def _store(self, event: Event, is_ordered: bool) -> None:
        """The code under test writes; `is_ordered`: everything before it is visible before it."""
        table = self._tables.get(event.a & self._mask)
        if table is None:
            return
        index = (event.a & ~self._mask) // _ENTRY_BYTES
        new = event.b
        if not table.root or table.level is None:
            self._put(table, index, new)
            return
        effects = self._effects
        effects.stores += 1
        old = table.entries.get(index, 0)
        level = table.level
        place = (table.root, table.ipa + (index << self._granule.level_shift(level)), level)
        child = self._child(table, new)
        if child is not None and child.parent is None:
            is_visible = is_ordered or self._barriers[True] > child.written
            effects.links.append((place, is_visible, self._number))
        if old & _VALID and old != new:
            self._take(place, table, old, new)
        self._put(table, index, new)
        if not new & _VALID:
            return
        effects.last_made, effects.last_made_number = self._clock, self._number
        cause = effects.breaks.pop(place, None)
        if cause is not None:
            cause.made, cause.made_number = self._clock, self._number
        if is_table_entry(new, level):
            return
        was_reached = bool(old & _VALID) and not (old ^ new) & ~(_PERMISSIONS | _SOFTWARE)
        if not was_reached or old & _XN == _NEVER_EXECUTED != new & _XN:
            effects.made.append(_Made(place, new, self._clock, self._number, was_reached))

    def _take(self, place: Place, table: _Table, old: int, new: int) -> None:
        """A valid entry of the tree goes, or changes."""
        effects = self._effects
        changed = (old ^ new) & ~_SOFTWARE
        if not changed:
            return
        is_weaker = not changed & ~_PERMISSIONS
        cause = _Break(self._clock, self._number, is_direct=bool(new & _VALID) and not is_weaker)
        if not is_weaker:
            effects.breaks[place] = cause
        is_table = is_table_entry(old, place[2])
        child = self._child(table, old) if is_table else None
        # A table that has been freed already, or is none of ours, is one all the same.
        effects.gone.append(_Gone(place, old, child or (_NO_TABLE if is_table else None), cause, is_weaker))
        if child is not None:
            self._leave(child, cause)

    def _child(self, table: _Table, entry: int) -> _Table | None:
        """The table in use that an entry points to. In a table that has no place yet, the level is not known: a fresh
        page tells."""
        if entry & TABLE != TABLE or table.level == LAST_LEVEL:
            return None
        child = self._tables.get(self._addresses.address(entry))
        if child is None or child is table:
            return None
        if table.level is None and child.parent is not table and (child.parent is not None or child.root):
            return None
        return child

    def _hang(self, child: _Table, table: _Table, index: int) -> None:
        """An entry points to a table now, so that it has a place, and all that hangs on it."""
        child.parent, child.index = table, index
        if table.level is None:
            return
        child.root, child.level = table.root, table.level + 1
        child.ipa = table.ipa + (index << self._granule.level_shift(table.level))
        if child.level == LAST_LEVEL:
            return
        for at, entry in child.entries.items():
            below = self._child(child, entry)
            if below is not None and below.parent in (None, child):
                self._hang(below, child, at)

    def _leave(self, table: _Table, cause: _Break | None, below: bool = True) -> None:
        """A table is out of the tree. With a cause, its valid entries are gone by that."""
        root, level = table.root, table.level
        if not root or level is None:
            return
        table.root = 0
        shift = self._granule.level_shift(level)
        for index, entry in table.entries.items():
            if not entry & _VALID:
                continue
            is_table = is_table_entry(entry, level)
            child = self._child(table, entry) if is_table else None
            if cause is not None:
                place = (root, table.ipa + (index << shift), level)
                self._effects.gone.append(_Gone(place, entry, child or (_NO_TABLE if is_table else None), cause))
            if child is not None and below:
                self._leave(child, cause)


_ENTRY_BYTES: Final = 8
_PAGES: Final = frozenset({GET, PUT, ALLOC, ALLOC_EXACT, FREE_EXACT})
_NO_TABLE: Final = _Table(_NEVER)
_CALLED: Final[Mapping[int, str]] = {
    TLBI_VMID: "vmalls12e1is",
    TLBI_VMID_IPA: "ipas2e1is",
    TLBI_VMID_IPA_NSH: "ipas2e1",
    TLBI_VMID_RANGE: "ripas2e1is",
}
"""The operation that each TLB function is there for."""
