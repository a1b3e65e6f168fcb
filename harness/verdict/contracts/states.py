"""The tables before and after each op, as the stores among one side's events have made them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

from harness.observation.descriptors import address_field, is_table_entry, level_of
from harness.observation.events import ALLOC, Event
from harness.observation.layout import EVENT_WORDS, MAX_ROOT_PAGES, NO_PAGE, Observation, Record
from harness.program.definition import Op
from harness.program.machine import Machine
from harness.program.ops import INIT
from harness.program.program import Program
from harness.verdict.aborts import Handling
from harness.verdict.contracts.judged import Judged
from harness.verdict.effects.done import Effects
from harness.verdict.effects.relations import Marks
from harness.verdict.maplets import Change, Entries, Maplet, Tree, changes, maplets, within
from harness.verdict.tlb.problems import StaleProblem
from harness.verdict.trees import OF_TABLES, Table, Trees


@dataclass(frozen=True)
class State:
    """The pages in use and the tree under test, at one moment. `tables` has what each page holds, `references` how
    often each is counted."""

    machine: Machine
    tree: Tree | None
    tables: Mapping[int, Entries]
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
    """Whether the program itself has written entries, as another would, in this op or before."""
    judged: Judged
    """What other judges make of the whole."""

    @property
    def machine(self) -> Machine:
        return self.after.machine

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Addresses of which the tree says something else than before, in order."""
        if self.before is self.after:
            return ()
        return tuple(changes(self.before.all_maplets, self.after.all_maplets))

    @property
    def effects(self) -> Effects:
        """What the op's events come to."""
        return self.judged.done[self.number].effects

    @property
    def marks(self) -> Marks:
        """Which relations between the op's events hold, entry by entry."""
        return self.judged.done[self.number].marks

    @property
    def stale(self) -> Sequence[StaleProblem]:
        """What is wrong with how the op keeps TLBs and the table in step."""
        return self.judged.stale.get(self.number, ())

    @property
    def handling(self) -> Handling | None:
        """How the op handled an abort."""
        return self.judged.handlings.get(self.number)

    def value(self, name: str) -> int:
        """The op's argument of that name. StopIteration where it has none."""
        return self.op.value(name)


_IMPLICIT: Final = Op(INIT, ())


def transitions(program: Program, observation: Observation) -> Iterator[Transition]:
    """Each op that ran, in order; the implicit init first. The observation is of that program."""
    replay, judged = _Replay(observation.machine), Judged(program, observation)
    before = replay.state()
    for number, record in enumerate(observation.records):
        replay.run(record)
        after = replay.state()
        op = program.ops[number - 1] if number else _IMPLICIT
        yield Transition(number, op, record, before, after, tuple(replay.freed), replay.tampered, judged)
        before = after


class _Replay(Trees):
    """The pages, as the events so far have made them. What a state saw is kept: a table is copied when it was written
    to since."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.freed: list[Freed] = []
        """Of the op under way."""
        self.tampered = False
        self._root: tuple[int, int, int, int] | None = None
        self._told: dict[tuple[int, int], tuple[Entries, list[Maplet]]] = {}
        self._kept: dict[int, tuple[Table, int, Entries]] = {}
        """What the last state has of each page: of which table, as it was when, and its entries."""
        self._state: State | None = None
        """What there is, while nothing has changed since."""

    def state(self) -> State:
        """What there is now: the same object as before where nothing has changed."""
        if self._state is None:
            tables = {page: self._entries(page, table) for page, table in self._tables.items()}
            tree = None if self._root is None else Tree(*self._root, tables, self._told)
            references = {page: table.references for page, table in self._tables.items()}
            self._state = State(self._machine, tree, tables, references)
        return self._state

    def _entries(self, page: int, table: Table) -> Entries:
        kept = self._kept.get(page)
        if kept is not None and kept[0] is table and kept[1] == table.written:
            return kept[2]
        entries = kept[2] if kept is not None and kept[2] == table.entries else dict(table.entries)
        self._kept[page] = table, table.written, entries
        return entries

    def run(self, record: Record) -> None:
        """Replay an op."""
        self.freed, words = [], record.events
        for index, kind in enumerate(words[::EVENT_WORDS]):
            if kind in OF_TABLES:
                self._clock += 1
                self._state = None
                at = index * EVENT_WORDS
                self.follow(Event(kind, words[at + 1], words[at + 2]), record, index)

    def _allocate(self, event: Event, record: Record, is_root: bool) -> None:
        super()._allocate(event, record, is_root)
        if not is_root:
            return
        level = level_of(record.outs)
        pages = 1 if event.kind == ALLOC else min(-(-event.b // self._granule.page), MAX_ROOT_PAGES)
        is_there = event.a != NO_PAGE and level is not None
        self._root = (event.a, pages, level, record.outs[_IA_BITS]) if is_there and level is not None else None

    def _plant(self, event: Event) -> None:
        self.tampered = self.tampered or self._entry_at(event) is not None
        super()._plant(event)

    def _free(self, page: int) -> None:
        table = self._tables.get(page)
        if table is None:
            return
        parent = table.parent
        hangs = bool(table.root) and parent is not None and parent.freed is None
        self.freed.append(Freed(page, hangs))
        self._kept.pop(page, None)
        if self._root is not None and self._root[0] <= page < self._root[0] + self._root[1] * self._granule.page:
            self._root = None
        super()._free(page)


_IA_BITS: Final = [result.name for result in INIT.results].index("ia_bits")
