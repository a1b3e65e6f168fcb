"""A program's ops one by one, with the tables before and after each, as the stores among one side's events have made
them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.observation.descriptors import level_of
from harness.observation.events import ALLOC, Event
from harness.observation.layout import MAX_ROOT_PAGES, NO_PAGE, Observation, Record
from harness.program.definition import Op
from harness.program.machine import Machine
from harness.program.ops import INIT
from harness.program.program import Program
from harness.verdict.contracts.judged import Judged
from harness.verdict.contracts.states import Freed, State, Transition
from harness.verdict.effects.done import Effects
from harness.verdict.effects.relations import relations
from harness.verdict.effects.replay import Side
from harness.verdict.maplets import Entries, Maplet, Tree
from harness.verdict.tlb.judge import Judgement
from harness.verdict.trees import Table

_IMPLICIT: Final = Op(INIT, ())
_IA_BITS: Final = [result.name for result in INIT.results].index("ia_bits")


def transitions(program: Program, observation: Observation, judgement: Judgement | None = None) -> Iterator[Transition]:
    """Each op that ran, in order; the implicit init first. The observation is of that program, and so is the
    judgement, if there is one already."""
    replay, judged = Replay(observation.machine), Judged(program, observation, judgement)
    for number, record in enumerate(observation.records):
        before = replay.state()
        effects = replay.run(record)
        # At once: what becomes of its tables later is not its own.
        marks = relations(effects) if record.events else {}
        op = program.ops[number - 1] if number else _IMPLICIT
        freed, after = tuple(replay.freed), replay.after
        yield Transition(number, op, record, before, after, freed, replay.tampered, effects, marks, judged)


class Replay(Side):
    """The pages as well, as the events so far have made them. What a state saw is kept: a table is copied when it was
    written to since."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self.freed: list[Freed] = []
        """Of the op under way."""
        self.tampered = False
        self._trees: dict[int, tuple[int, int, int, int]] = {}
        """Root, pages, level and bits of address of those that there are, by table."""
        self._told: dict[tuple[int, int], tuple[Entries, list[Maplet]]] = {}
        self._kept: dict[int, tuple[Table, int, Entries]] = {}
        """What the last state has of each page: of which table, as it was when, and its entries."""
        self._state: State | None = None
        """What there is, while nothing has changed since."""
        self.after = self.state()
        """What there was when the last op ended, with the tree that it was on."""

    def state(self) -> State:
        """What there is now: the same object as before where nothing has changed. The tree under test is that of the
        MMU in use when the op began."""
        if self._state is None:
            tables = {page: self._entries(page, table) for page, table in self._tables.items()}
            trees = {number: Tree(*one, tables, self._told) for number, one in self._trees.items()}
            tree = trees.pop(self._mmus.table, None)
            references = {page: table.references for page, table in self._tables.items()}
            self._state = State(self._machine, tree, tables, references, trees)
        return self._state

    def _entries(self, page: int, table: Table) -> Entries:
        kept = self._kept.get(page)
        if kept is not None and kept[0] is table and kept[1] == table.written:
            return kept[2]
        entries = kept[2] if kept is not None and kept[2] == table.entries else dict(table.entries)
        self._kept[page] = table, table.written, entries
        return entries

    def run(self, record: Record) -> Effects:
        """Replay an op."""
        self.freed = []
        return super().run(record)

    def follow(self, event: Event, record: Record, index: int) -> bool:
        is_of_tables = super().follow(event, record, index)
        if is_of_tables:
            self._state = None
        return is_of_tables

    def end(self, record: Record) -> None:
        self.after, table = self.state(), self._mmus.table
        super().end(record)
        if self._mmus.table != table:
            self._state = None

    def _allocate(self, event: Event, record: Record, is_root: bool) -> None:
        super()._allocate(event, record, is_root)
        if not is_root:
            return
        level = level_of(record.outs)
        pages = 1 if event.kind == ALLOC else min(-(-event.b // self._granule.page), MAX_ROOT_PAGES)
        if self._making is None:
            return
        self._trees.pop(self._making, None)
        if event.a != NO_PAGE and level is not None:
            self._trees[self._making] = (event.a, pages, level, record.outs[_IA_BITS])

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
        for number, (root, pages, _, _) in [*self._trees.items()]:
            if root <= page < root + pages * self._granule.page:
                del self._trees[number]
        super()._free(page)
