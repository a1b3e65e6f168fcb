"""What one execution of a program shows: results, tables, accounting, complaints.

Both sides lay it out as the same stream of 64-bit words, so that equal executions are equal bytes:

    record*  0  complaints  roots  allocs frees  caches  n_pages page*
    record:     op_number  over_budget  ret  n_outs out*  complaints  events
    complaints: n (kind code value)*
    events:     n (kind a b)*             as harness/observation/events.py defines them
    roots:      n root*                   what holds a tree: each tree once, whoever holds it
    root:       pa pages level ia_bits n_holders (kind number)*       see HOLDERS
    caches:     n (kind number n pa*)*    see CACHES: the memcache, and the split cache of each MMU, by number
    page:       pa refcount table entry*  pages in use, in ascending order; a granule's entries

The reference builds it in `reference/kernel/program.c` and `observe.c`, the model in `harness/model/run.py`. `ret` is a
two's complement 64-bit value, as a `level` is. After an op that ran over budget, and after an `init` that failed, the
remaining ops are not run and have no record.

The first roots are those of the VM's MMUs, by number, as far as they have a table (`FIRST_MMU`; most programs have no
other one); then come those of unlinked tables, by number, which have no `ia_bits` (0). `table` is the number of the
MMU for whose table a page was allocated; a table that several share is that of the one whose it was first.
"""

from __future__ import annotations

import errno
import zlib
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.errors import ToolFailure
from harness.program.definition import OpDef
from harness.program.kinds import MMU, UNLINKED
from harness.program.machine import DEFAULT_MACHINE, Machine
from harness.program.ops import OPS, OPS_BY_NUMBER
from harness.program.results import signed

NO_PAGE: Final = (1 << 64) - 1
"""Stands for the address of a page that is not there."""
MAX_ROOT_PAGES: Final = 16
"""The architecture concatenates no more tables at the start level of stage 2."""
UNDER_TEST: Final = 1
FIRST_MMU: Final = 0
"""The number of the MMU that a VM has from the start. Of one that an op made it is one more than its handle's."""
_HANDLES: Final = {UNLINKED.number: UNLINKED}
"""Kinds of handles that hold tables."""
HOLDERS: Final = {UNDER_TEST: "under test", **{number: kind.name for number, kind in _HANDLES.items()}}
"""What may hold a root, by kind: the table under test, or a handle's object, of the kind's number."""
MEMCACHE: Final = 1
SPLIT_CACHE: Final = 2
CACHES: Final = {MEMCACHE: "memcache", SPLIT_CACHE: "split cache"}
"""What holds pages that are no tables yet, by kind. The memcache is the vCPU's (number 0); each MMU has a split cache
of its own, with the MMU's number."""
MAX_COMPLAINTS: Final = 16
"""Complaints kept of one op; both sides drop the rest."""
EVENT_WORDS: Final = 3
"""Of a boundary event: its kind and two arguments."""
MAX_OUTS: Final = max(len(op.results) for op in OPS)
"""Out-values of an op, or of each visit of one that repeats."""

WARN: Final = 1
POOL_MISUSE: Final = 2
UBSAN: Final = 3
LOCKING: Final = 4
"""Kinds of complaints."""

POOL_MISUSES: Final = {
    1: "bad-get",
    2: "bad-put",
    3: "bad-count",
    4: "bad-free",
    5: "poison",
}
UBSAN_HANDLERS: Final = {
    "add_overflow": "add-overflow",
    "sub_overflow": "sub-overflow",
    "mul_overflow": "mul-overflow",
    "negate_overflow": "negate-overflow",
    "divrem_overflow": "divrem-overflow",
    "shift_out_of_bounds": "shift-out-of-bounds",
    "out_of_bounds": "out-of-bounds",
    "pointer_overflow": "pointer-overflow",
    "type_mismatch_v1": "type-mismatch",
    "load_invalid_value": "invalid-value",
    "alignment_assumption": "alignment-assumption",
    "vla_bound_not_positive": "vla-bound",
    "nonnull_arg": "nonnull-argument",
    "nonnull_return_v1": "nonnull-return",
    "invalid_builtin": "invalid-builtin",
}
"""What clang calls (`__ubsan_handle_…`), and what we call that. A report's number is its place here, from 1."""
UBSAN_REPORTS: Final = dict(enumerate(UBSAN_HANDLERS.values(), 1))
LOCKING_REPORTS: Final = {
    1: "sleeps-in-atomic",
    2: "suspicious-rcu",
    3: "unbalanced-unlock",
    4: "left-held",
    5: "lock-not-held",
    6: "deadlock",
}
"""What lockdep or CONFIG_DEBUG_ATOMIC_SLEEP would object to in Linux: something that may sleep where that is forbidden;
RCU's pointers read without its lock; a lock dropped that is not held, held when the operation ends, not held where code
asserts it, or taken twice."""


@dataclass(frozen=True, slots=True)
class Digest:
    """Length in words and CRC-32 of the words in little-endian order: what travels instead of an observation."""

    words: int
    crc: int

    @classmethod
    def of(cls, words: array[int]) -> Digest:
        return cls(len(words), zlib.crc32(words))


@dataclass(frozen=True, slots=True)
class Complaint:
    """A WARN-class event: a WARN of the code under test, a misuse of the page pool, a UBSan report, or a breach of the
    rules about locks.

    `code` of a WARN is the CRC-32 of the name of the function that it stands in. `value` is the address concerned for
    pool misuse, else 0.
    """

    kind: int
    code: int
    value: int

    def __str__(self) -> str:
        if self.kind == WARN:
            return "WARN"
        if self.kind == POOL_MISUSE:
            return f"pool: {POOL_MISUSES.get(self.code, self.code)} {self.value:#x}"
        if self.kind == LOCKING:
            return f"locking: {LOCKING_REPORTS.get(self.code, self.code)}"
        return f"UBSan: {UBSAN_REPORTS.get(self.code, self.code)}"


@dataclass(frozen=True, slots=True)
class Record:
    """What one op did. `ret` is its result code: 0, a negative errno, or None when it ran over budget. `events` are
    words, which `harness.observation.events.events_of` decodes."""

    definition: OpDef
    ret: int | None
    outs: tuple[int, ...]
    complaints: tuple[Complaint, ...]
    events: Sequence[int]


@dataclass(frozen=True, slots=True)
class Holder:
    """What holds a root: a kind of HOLDERS, and the number of the MMU (whose table is under test) or handle."""

    kind: int
    number: int

    def __str__(self) -> str:
        """What holds it, a handle by its name in text: `table 0 under test`, `unlinked table t1`; of an MMU that an op
        made its name as well, `table 1 under test (m1)`."""
        if self.kind == UNDER_TEST:
            return f"table {self.number} under test{f' ({MMU.format(self.number - 1)})' if self.number else ''}"
        return f"{HOLDERS[self.kind]} {_HANDLES[self.kind].format(self.number)}"


@dataclass(frozen=True, slots=True)
class Root:
    """The root of a tree of tables: `pages` tables of `level` side by side, from `pa` on. The tree translates addresses
    of `ia_bits` bits; 0 is one that no table under test holds, which translates what is below one entry. What a kernel
    with a bug says of itself may be nonsense: see `harness.observation.tables.sane_level`."""

    pa: int
    pages: int
    level: int
    ia_bits: int
    holders: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class Cache:
    """Pages that wait for being tables: a kind of CACHES, and whose it is."""

    kind: int
    number: int
    pages: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A page in use at the end: its address, reference count, the table under test that it was allocated for, and its
    words."""

    pa: int
    refcount: int
    table: int
    entries: Sequence[int]


@dataclass(frozen=True, slots=True)
class Note:
    """Where a complaint came from, or what the code under test printed, for people; never compared. `record` counts
    records from 0 (the implicit init). `place` tells where in the source; it is asked late, for to tell it an image has
    to be read, and few notes are."""

    record: int
    what: str
    is_printed: bool = False
    place: Callable[[], str] | None = field(default=None, compare=False)

    @property
    def text(self) -> str:
        """What, and where."""
        return self.what if self.place is None else f"{self.what} at {self.place()}"


@dataclass(frozen=True, slots=True)
class Witness:
    """What the guest's access, in that record, came to by a translation that a TLB still held; the record has what it
    came to afresh. `esr` is 0 where it succeeded. `told` is HPFAR_EL2 of an abort, as the record has it; of a read, the
    word that was read; of a write or exec, the address of the piece of the window, or of the stub's page, that it
    reached."""

    record: int
    esr: int
    told: int


@dataclass(frozen=True, slots=True)
class Observation:
    """One execution, decoded. `records[0]` is the implicit init; `pages` maps addresses to the pages in use; `machine`
    is the program's."""

    words: array[int]
    records: tuple[Record, ...]
    final_complaints: tuple[Complaint, ...]
    roots: tuple[Root, ...]
    allocs: int
    frees: int
    caches: tuple[Cache, ...]
    pages: dict[int, Page]
    notes: tuple[Note, ...] = ()
    machine: Machine = DEFAULT_MACHINE
    witnesses: tuple[Witness, ...] = ()
    """Of an emulator, whose TLBs may hold more or less when the same runs again: never compared."""

    @property
    def root(self) -> Root | None:
        """Of the table under test, while there is one."""
        return self.held(UNDER_TEST).get(0)

    def held(self, kind: int) -> dict[int, Root]:
        """The roots that holders of a kind hold, by the holders' numbers."""
        return {holder.number: root for root in self.roots for holder in root.holders if holder.kind == kind}

    @property
    def memcache(self) -> tuple[int, ...]:
        return self._cached(MEMCACHE)

    @property
    def split_cache(self) -> tuple[int, ...]:
        return self._cached(SPLIT_CACHE)

    def _cached(self, kind: int) -> tuple[int, ...]:
        return next((cache.pages for cache in self.caches if (cache.kind, cache.number) == (kind, 0)), ())

    @property
    def digest(self) -> Digest:
        return Digest.of(self.words)


def describe_return(ret: int | None) -> str:
    """A record's result for people: `0`, `-EINVAL`, `budget`."""
    if ret is None:
        return "budget"
    return f"-{errno.errorcode.get(-ret, -ret)}" if ret < 0 else str(ret)


class _Reader:
    def __init__(self, words: array[int]) -> None:
        self.words = words
        self.at = 0

    def word(self) -> int:
        if self.at >= len(self.words):
            raise ToolFailure("the observation ends too early")
        self.at += 1
        return self.words[self.at - 1]

    def several(self, count: int) -> array[int]:
        if count > len(self.words) - self.at:
            raise ToolFailure("the observation ends too early")
        self.at += count
        return self.words[self.at - count : self.at]

    def complaints(self) -> tuple[Complaint, ...]:
        return tuple(Complaint(self.word(), self.word(), self.word()) for _ in range(self.word()))


def observation_of(
    words: array[int],
    notes: Sequence[Note] = (),
    machine: Machine = DEFAULT_MACHINE,
    witnesses: Sequence[Witness] = (),
) -> Observation:
    """The observation that `words` lay out, of a program for `machine`. Raises ToolFailure when they are not one."""
    reader = _Reader(words)
    records = []
    while number := reader.word():
        records.append(_record(reader, number))
    final_complaints = reader.complaints()
    roots = tuple(_root(reader) for _ in range(reader.word()))
    allocs, frees = reader.word(), reader.word()
    caches = tuple(_cache(reader) for _ in range(reader.word()))
    if [cache.kind for cache in caches] != [MEMCACHE, *[SPLIT_CACHE] * (len(caches) - 1)] or len(caches) < len(CACHES):
        raise ToolFailure("the observation has other caches than it should")
    pages = {}
    for _ in range(reader.word()):
        page = Page(reader.word(), reader.word(), reader.word(), reader.several(machine.granule.entries))
        pages[page.pa] = page
    if reader.at != len(words):
        raise ToolFailure(f"{len(words) - reader.at} words follow the observation's end")
    return Observation(
        words,
        tuple(records),
        final_complaints,
        roots,
        allocs,
        frees,
        caches,
        pages,
        tuple(notes),
        machine,
        tuple(witnesses),
    )


def _root(reader: _Reader) -> Root:
    pa, pages, level, ia_bits = reader.word(), reader.word(), signed(reader.word()), reader.word()
    if pages > MAX_ROOT_PAGES:
        raise ToolFailure(f"the observation has a root of {pages} pages")
    holders = tuple(Holder(reader.word(), reader.word()) for _ in range(reader.word()))
    for holder in holders:
        if holder.kind not in HOLDERS:
            raise ToolFailure(f"the observation has a holder of an unknown kind {holder.kind}")
    return Root(pa, pages, level, ia_bits, holders)


def _cache(reader: _Reader) -> Cache:
    return Cache(reader.word(), reader.word(), tuple(reader.several(reader.word())))


def _record(reader: _Reader, number: int) -> Record:
    definition = OPS_BY_NUMBER.get(number)
    if definition is None:
        raise ToolFailure(f"the observation has a record of an unknown op {number}")
    over_budget, ret = reader.word(), reader.word()
    outs = tuple(reader.several(reader.word()))
    width = len(definition.results)
    if outs and (not width or len(outs) % width or (len(outs) != width and not definition.repeats)):
        raise ToolFailure(f"the observation has {len(outs)} out-values of {definition.name}")
    complaints = reader.complaints()
    events = reader.several(EVENT_WORDS * reader.word())
    return Record(definition, None if over_budget else signed(ret), outs, complaints, events)
