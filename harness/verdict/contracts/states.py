"""The tables before and after each op, as the stores among one side's events have made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from harness.observation.descriptors import address_field, is_table_entry, level_of
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
)
from harness.observation.layout import EVENT_WORDS, MAX_ROOT_PAGES, NO_PAGE, Observation, Record
from harness.program.definition import Op
from harness.program.granule import LAST_LEVEL
from harness.program.machine import Machine
from harness.program.ops import INIT
from harness.program.program import Program
from harness.verdict.maplets import Change, Maplet, Table, Tree, changes, maplets, within

_ENTRY_BYTES: Final = 8
_EMPTY: Final[Table] = {}


@dataclass(frozen=True)
class State:
    """The pages in use and the tree under test, at one moment. `tables` has what each page holds, `references` how
    often each is counted."""

    machine: Machine
    tree: Tree | None
    tables: Mapping[int, Table]
    references: Mapping[int, int]

    def maplets(self, start: int, end: int) -> list[Maplet]:
        """What the tree under test says of [start, end)."""
        return within(self.all_maplets, start, end)

    def excess(self, page: int) -> int:
        """How many references a page has beside the one for itself and those for its entries that are not empty."""
        return self.references[page] - 1 - len(self.tables[page])

    @cached_property
    def reachable(self) -> frozenset[int]:
        """The tables of the tree under test, its root included."""
        if self.tree is None:
            return frozenset()
        page, address = self.machine.granule.page, address_field(self.machine).address
        todo = [(self.tree.root + number * page, self.tree.level) for number in range(self.tree.pages)]
        found: set[int] = set()
        while todo:
            table, level = todo.pop()
            if table in found or table not in self.tables:
                continue
            found.add(table)
            todo += [
                (address(entry), level + 1) for entry in self.tables[table].values() if is_table_entry(entry, level)
            ]
        return frozenset(found)

    @cached_property
    def all_maplets(self) -> list[Maplet]:
        """What it says of everything."""
        return maplets(self.tree, self.machine)


class Freed(NamedTuple):
    """A page that was given back, and whether the tree still led to it."""

    page: int
    is_reachable: bool


@dataclass(frozen=True, eq=False)
class Transition:
    """What one op did: the states around it. `number` is its record's, 0 the implicit init's, whose `op` is an init as
    well."""

    number: int
    op: Op
    record: Record
    before: State
    after: State
    freed: tuple[Freed, ...]
    """Pages that were given back, in order."""
    tampered: bool
    """Whether the program itself has written entries, as another would, or a guest's walker access flags, in this op
    or before."""

    @property
    def machine(self) -> Machine:
        return self.after.machine

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Addresses of which the tree says something else than before, in order."""
        if self.before is self.after:
            return ()
        return tuple(changes(self.before.all_maplets, self.after.all_maplets))

    def value(self, name: str) -> int:
        """The op's argument of that name. StopIteration where it has none."""
        return self.op.value(name)


_IMPLICIT: Final = Op(INIT, ())


def transitions(program: Program, observation: Observation) -> Iterator[Transition]:
    """Each op that ran, in order; the implicit init first. The observation is of that program."""
    replay = _Replay(observation.machine)
    before = replay.state()
    for number, record in enumerate(observation.records):
        replay.run(record)
        after = replay.state()
        op = program.ops[number - 1] if number else _IMPLICIT
        yield Transition(number, op, record, before, after, tuple(replay.freed), replay.tampered)
        before = after


class _Replay:
    """The pages, as the events so far have made them. A table is copied before an op writes to it, so that a state
    keeps what it saw."""

    def __init__(self, machine: Machine) -> None:
        self.freed: list[Freed] = []
        """Of the op under way."""
        self.tampered = False
        self._machine = machine
        self._page = machine.granule.page
        self._address = address_field(machine).address
        self._tables: dict[int, Table] = {}
        self._references: dict[int, int] = {}
        self._root: tuple[int, int, int, int] | None = None
        self._told: dict[tuple[int, int], tuple[Table, list[Maplet]]] = {}
        self._own: dict[int, dict[int, int]] = {}
        """Tables that the op under way may write to: they are in no state yet."""
        self._state: State | None = None
        """What there is, while nothing has changed since."""

    def state(self) -> State:
        """What there is now: the same object as before where nothing has changed."""
        if self._state is None:
            tables = dict(self._tables)
            tree = None if self._root is None else Tree(*self._root, tables, self._told)
            self._state = State(self._machine, tree, tables, dict(self._references))
        return self._state

    def run(self, record: Record) -> None:
        """Replay an op."""
        self.freed, self._own = [], {}
        words, mask = record.events, -self._page
        columns = (words[column::EVENT_WORDS] for column in range(EVENT_WORDS))
        for number, (kind, a, b) in enumerate(zip(*columns, strict=True)):
            if kind in STORE_KINDS:
                if kind != STORE_CMPXCHG or self._succeeds(words, number * EVENT_WORDS):
                    self._store(a, b, is_planted=kind == PLANTED)
            elif kind == WALKER_AF:  # which nobody stores, but the MMU
                self._store(a, b, is_planted=False)
            elif kind == GET:
                self._count(a & mask, 1)
            elif kind == PUT:
                self._count(a & mask, -1)
            elif kind in (ALLOC, ALLOC_EXACT):
                self._allocate(record, kind, a, b)
            elif kind == FREE_EXACT and a != NO_PAGE:
                for page in range(min(-(-b // self._page), MAX_ROOT_PAGES)):
                    self._free(a + page * self._page)

    def _allocate(self, record: Record, kind: int, pa: int, size: int) -> None:
        self._state = None
        # In stage 1 the root is the one page that init takes.
        is_root = kind == ALLOC_EXACT or (record.definition is INIT and self._machine["stage"] == 1)
        if is_root:
            self._root = None
        if pa == NO_PAGE:
            return
        pages = 1 if kind == ALLOC else min(-(-size // self._page), MAX_ROOT_PAGES)
        for page in range(pages):
            own: dict[int, int] = {}
            self._own[pa + page * self._page] = self._tables[pa + page * self._page] = own
            self._references[pa + page * self._page] = 1
        level = level_of(record.outs) if is_root else None
        if level is not None:
            self._root = (pa, pages, level, record.outs[_IA_BITS])

    def _store(self, pa: int, new: int, *, is_planted: bool) -> None:
        page = pa & -self._page
        own = self._own.get(page)
        if own is None:
            if page not in self._tables:
                return
            self._state = None
            own = self._own[page] = dict(self._tables[page])
            self._tables[page] = own
        index = pa % self._page // _ENTRY_BYTES
        old = own.get(index, 0)
        if new:
            own[index] = new
        else:
            own.pop(index, None)
        if is_planted:  # which keeps the references by itself
            self.tampered = True
            self._count(page, bool(new) - bool(old))

    def _succeeds(self, words: Sequence[int], place: int) -> bool:
        """Whether a compare-and-exchange stores: somebody else may be faster, which is told behind it."""
        after = place + EVENT_WORDS
        if after < len(words) and words[after] == ALLOC:
            after += EVENT_WORDS
        if after >= len(words) or words[after] != PLANTED or words[after + 1] != words[place + 1]:
            return True
        pa = words[place + 1]
        now = self._tables.get(pa & -self._page, _EMPTY).get(pa % self._page // _ENTRY_BYTES, 0)
        return now == words[after + 2]

    def _count(self, page: int, by: int) -> None:
        if page in self._references:
            self._state = None
            self._references[page] += by
            if self._references[page] <= 0:
                self._free(page)

    def _free(self, page: int) -> None:
        if page not in self._tables:
            return
        self._state = None
        self.freed.append(Freed(page, self._is_reachable(page)))
        del self._tables[page], self._references[page]
        self._own.pop(page, None)
        if self._root is not None and self._root[0] <= page < self._root[0] + self._root[1] * self._page:
            self._root = None

    def _is_reachable(self, page: int) -> bool:
        """Whether the tree leads to a table, its root apart."""
        if self._root is None:
            return False
        pa, pages, level, _ = self._root
        todo = [(pa + number * self._page, level) for number in range(pages)]
        seen: set[int] = set()
        while todo:
            table, level = todo.pop()
            if table in seen or level >= LAST_LEVEL:
                continue
            seen.add(table)
            for entry in self._tables.get(table, _EMPTY).values():
                if is_table_entry(entry, level):
                    child = self._address(entry)
                    if child == page:
                        return True
                    todo.append((child, level + 1))
        return False


_IA_BITS: Final = [result.name for result in INIT.results].index("ia_bits")
