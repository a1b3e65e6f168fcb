"""One side's tables, as the stores among its events have made them so far: each store is known to concern the entry of
a level for an IPA, wherever its table lies."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final, NamedTuple

from harness.observation.descriptors import TABLE, address_field, is_table_entry, level_of
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    FREE_EXACT,
    GET,
    PLANTED,
    PUT,
    STORE_CMPXCHG,
    STORE_KINDS,
    WALKER_AF,
    Event,
    each_event,
)
from harness.observation.layout import FIRST_MMU, MAX_ROOT_PAGES, NO_PAGE, Record
from harness.observation.mmus import MAKES_TABLE, Mmus, named_by
from harness.program.granule import LAST_LEVEL
from harness.program.machine import Machine
from harness.program.ops import INIT

VALID: Final = 1
ENTRY_BYTES: Final = 8
_PAGES: Final = frozenset({GET, PUT, ALLOC, ALLOC_EXACT, FREE_EXACT})
"""Events that concern tables."""

Place = tuple[int, int, int]
"""Of an entry: the number of its tree's root, its IPA and its level. Of a table: those of its first entry."""


class Table:
    """A page of the pool that is in use. `ipa` and `level` are those of its first entry, once it has been linked;
    `root` is the number of the tree that it hangs in, 0 where it is in none."""

    __slots__ = ("entries", "freed", "freed_number", "index", "ipa", "level", "parent", "references", "root", "written")

    def __init__(self, written: int) -> None:
        self.root = 0
        self.ipa = 0
        self.level: int | None = None
        self.parent: Table | None = None
        self.index = 0
        self.references = 1
        self.entries: dict[int, int] = {}
        self.written = written
        """When anything in it, or in a table below it, was stored last."""
        self.freed: int | None = None
        self.freed_number = 0


class Left(NamedTuple):
    """A valid entry that is out of the tree with its table. `child` is the table that it pointed to, if it is one of
    ours."""

    place: Place
    entry: int
    child: Table | None


class Trees:
    """One side's tables. Whoever wants to know what an event does to them overrides the methods for it."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._granule = machine.granule
        self._mask = -machine.granule.page
        self._addresses = address_field(machine)
        self._tables: dict[int, Table] = {}
        self._roots = 0
        """How many there were."""
        self._latest: dict[int | None, int] = {}
        """By table (as `Mmus` counts them), the number of its latest root: that is its tree."""
        self._mmus = Mmus(machine)
        self._only: int | None = None
        """The table whose tree alone counts; None where all do."""
        self._making: int | None = FIRST_MMU
        """The table whose root the op under way may make; None where it fails to make one."""
        self._clock = 0
        """How many events there were."""
        self._ahead = 0
        """How many of the events to come were taken in already."""

    def begin(self, record: Record) -> None:
        """An op's events are about to come. Each is begun and ended."""
        self._making = named_by(record) if record.definition in MAKES_TABLE else self._mmus.table

    def end(self, record: Record) -> None:
        """All of its events have come."""
        self._mmus.follow(record)

    def follow(self, event: Event, record: Record, index: int) -> bool:
        """Take in the event, which is the `index`-th of its record, if it concerns tables. Whether it did."""
        if self._ahead:
            self._ahead -= 1
            return True
        kind = event.kind
        if kind in STORE_KINDS:
            if kind == PLANTED:
                self._plant(event)
            elif kind != STORE_CMPXCHG or self._exchanges(event, record, index):
                self._store(event)
        elif kind in _PAGES:
            self._page(event, record)
        elif kind == WALKER_AF:
            at = self._entry_at(event)
            if at is not None:
                self._put(*at, event.b)
        else:
            return False
        return True

    # What may be overridden, to know more.

    def _store(self, event: Event) -> None:
        """The code under test writes."""
        at = self._entry_at(event)
        if at is not None:
            self._put(*at, event.b)

    def _plant(self, event: Event) -> None:
        """The program itself writes, with the references that this takes."""
        at = self._entry_at(event)
        if at is not None:
            table, index = at
            old = table.entries.get(index, 0)
            self._put(table, index, event.b)
            self._count(event.a, bool(event.b) - bool(old))

    def _freed(self, table: Table) -> None:
        """A page is in use no more. It may still hang in the tree."""

    def _rooted(self) -> None:
        """There is another root."""

    # What happens to tables.

    def _entry_at(self, event: Event) -> tuple[Table, int] | None:
        """The table that a store is to, and which of its entries; None where no table of ours is there."""
        table = self._tables.get(event.a & self._mask)
        return None if table is None else (table, (event.a & ~self._mask) // ENTRY_BYTES)

    def _place(self, table: Table, index: int) -> Place | None:
        """Of an entry of a table that is in a tree; None for one that is in none."""
        if not table.root or table.level is None:
            return None
        return table.root, table.ipa + (index << self._granule.level_shift(table.level)), table.level

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
            # Hyp's root is a page like any other. Another table that stage 2's init makes is for the guest's own page.
            is_root = kind == ALLOC_EXACT or (record.definition is INIT and self._machine["stage"] == 1)
            self._allocate(event, record, is_root and self._only in (None, self._making))

    def _allocate(self, event: Event, record: Record, is_root: bool) -> None:
        if is_root:
            self._forget_root()
        if event.a == NO_PAGE:
            return
        pages = 1 if event.kind == ALLOC else min(-(-event.b // self._granule.page), MAX_ROOT_PAGES)
        level = level_of(record.outs) if is_root else None
        for number in range(pages):
            table = self._tables[event.a + number * self._granule.page] = Table(self._clock)
            if level is not None:
                table.root, table.level = self._roots, level
                table.ipa = number * self._granule.entries << self._granule.level_shift(level)
        if is_root:
            self._rooted()

    def _forget_root(self) -> None:
        """There is a new one: what hangs in the one before is no longer under test."""
        self._roots += 1
        before = self._latest.get(self._making)
        for table in self._tables.values():
            if table.root == before:
                table.root = 0
        self._latest[self._making] = self._roots

    def _free_exact(self, event: Event) -> None:
        if event.a == NO_PAGE:
            return
        for page in range(min(-(-event.b // self._granule.page), MAX_ROOT_PAGES)):
            self._count(event.a + page * self._granule.page, -1)  # one that others count stays

    def _count(self, pa: int, by: int) -> None:
        page = pa & self._mask
        table = self._tables.get(page)
        if table is not None:
            table.references += by
            if not table.references:
                self._free(page)

    def _free(self, page: int) -> None:
        table = self._tables.pop(page, None)
        if table is not None:
            table.freed = self._clock
            self._freed(table)
            self._leave(table, below=False)

    def _exchanges(self, event: Event, record: Record, index: int) -> bool:
        """Whether a compare-and-exchange stores. Somebody else may be faster, which is told behind it, and happened
        before."""
        at = self._entry_at(event)
        old = None if at is None else at[0].entries.get(at[1], 0)
        following = [*islice(each_event(record.events, index + 1), 2)]
        raced = following[:1] if following and following[0].kind != ALLOC else following
        if not raced or (raced[-1].kind, raced[-1].a) != (PLANTED, event.a):
            return True
        for one in raced:
            self.follow(one, record, index)
        self._ahead = len(raced)
        return old is None or old == raced[-1].b

    def _put(self, table: Table, index: int, new: int) -> None:
        """Change an entry and what hangs on it, and be done."""
        old = table.entries.get(index, 0)
        before, after = self._child(table, old), self._child(table, new)
        if before is not None and before is not after:
            self._leave(before)
            before.parent = None
        if new:
            table.entries[index] = new
        else:
            table.entries.pop(index, None)
        up: Table | None = table
        while up is not None:
            up.written = self._clock
            up = up.parent
        if after is not None and after is not before:
            self._hang(after, table, index)

    def _child(self, table: Table, entry: int) -> Table | None:
        """The table in use that an entry points to. In a table that has no place yet, the level is not known: a fresh
        page tells."""
        if entry & TABLE != TABLE or table.level == LAST_LEVEL:
            return None
        child = self._tables.get(self._addresses.address(entry))
        if child is None:
            return None
        if table.level is None and child.parent is not table and (child.parent is not None or child.root):
            return None
        # Pages map memory, which may be that of a table; and a kernel with a bug may make a circle.
        up: Table | None = table
        while up is not None:
            if up is child:
                return None
            up = up.parent
        return child

    def _hang(self, child: Table, table: Table, index: int) -> None:
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

    def _leave(self, table: Table, below: bool = True) -> list[Left]:
        """A table is out of the tree, with those below it. Its valid entries, and theirs; none where it was in no
        tree."""
        return [*self._leaving(table, below)]

    def _leaving(self, table: Table, below: bool) -> Iterator[Left]:
        root, level = table.root, table.level
        if not root or level is None:
            return
        table.root = 0
        shift = self._granule.level_shift(level)
        for index, entry in table.entries.items():
            if not entry & VALID:
                continue
            child = self._child(table, entry) if is_table_entry(entry, level) else None
            yield Left((root, table.ipa + (index << shift), level), entry, child)
            if child is not None and below:
                yield from self._leaving(child, below)
