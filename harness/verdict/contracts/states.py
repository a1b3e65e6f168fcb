"""The tables before and after an op, and what a contract may ask of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from harness.observation.calls import calls_in
from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.events import TLB_CALLS
from harness.observation.layout import EVENT_WORDS, Record
from harness.program.definition import Op
from harness.program.machine import Machine
from harness.verdict.aborts import Handling
from harness.verdict.contracts.judged import Judged
from harness.verdict.effects.done import Effects
from harness.verdict.effects.relations import Marks
from harness.verdict.invalidation import Problem, problems
from harness.verdict.maplets import Change, Entries, Maplet, Tree, changes, maplets, within
from harness.verdict.tlb.problems import StaleProblem


@dataclass(frozen=True)
class State:
    """The pages in use and the tree under test, at one moment. `tables` has what each page holds, `references` how
    often each is counted. `others` are the trees of the VM's other tables, by number."""

    machine: Machine
    tree: Tree | None
    tables: Mapping[int, Entries]
    references: Mapping[int, int]
    others: Mapping[int, Tree]

    def maplets(self, start: int, end: int) -> list[Maplet]:
        """What the tree under test says of [start, end)."""
        return within(self.all_maplets, start, end)

    def excess(self, page: int) -> int:
        """How many references a page has beside the one for itself and those for its entries that are not empty."""
        return self.references[page] - 1 - len(self.tables[page])

    @cached_property
    def reachable(self) -> frozenset[int]:
        """The tables of the tree under test, its root included."""
        return self.reachable_in(self.tree)

    @cached_property
    def loose(self) -> frozenset[int]:
        """Pages in use that are in no tree of the VM's."""
        others = (self.reachable_in(tree) for tree in self.others.values())
        return frozenset(self.tables.keys() - self.reachable).difference(*others)

    def reachable_in(self, tree: Tree | None) -> frozenset[int]:
        """The tables of a tree, its root included."""
        if tree is None:
            return frozenset()
        page, address = self.machine.granule.page, address_field(self.machine).address
        todo = [(tree.root + number * page, tree.level) for number in range(tree.pages)]
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
    effects: Effects
    """What the op's events come to."""
    marks: Marks
    """Which relations between them hold, entry by entry."""
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

    @cached_property
    def misdirected(self) -> Sequence[Problem] | None:
        """What is wrong with the op's calls of TLB functions; None where there are none, or their instructions are not
        told."""
        if TLB_CALLS.isdisjoint(self.record.events[::EVENT_WORDS]):
            return None
        calls = [*calls_in(self.number, self.record, self.judged.mmus(self.number))]
        if not any(call.instructions for call in calls):
            return None
        return [one for call in calls for one in problems(call, self.machine)]

    @property
    def is_idle(self) -> bool:
        """Whether the op did nothing but tell something: no event, no complaint, and no table or page is another."""
        record = self.record
        return not (record.events or record.complaints or self.stale) and self.before is self.after

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
