"""One side of a comparison: its tables, as the stores among its events have made them."""

from __future__ import annotations

from functools import lru_cache

from harness.observation.calls import asked_for
from harness.observation.descriptors import is_table_entry
from harness.observation.events import (
    DCACHE,
    DSB,
    IC,
    ICACHE,
    ISB,
    STORE_PLAIN,
    TLB_CALLS,
    TLBI,
    TLBI_VMID_IPA_NSH,
    Event,
    each_event,
)
from harness.observation.layout import Record
from harness.observation.tlbi import Invalidation, invalidation_of
from harness.program.machine import Machine
from harness.verdict.effects.done import NEVER_EXECUTED, NO_TABLE, XN, Break, Effects, Gone, Made, Tlbi
from harness.verdict.effects.maintained import NEVER
from harness.verdict.tlb.rules import PERMISSIONS, SOFTWARE, barrier_of
from harness.verdict.trees import VALID, Place, Table, Trees


@lru_cache(maxsize=4096)
def _decoded(number: int, operand: int, lpa2: bool) -> Invalidation | None:
    return invalidation_of(number, operand, lpa2)


class Side(Trees):
    """One side's tables, as its events have made them so far, and what each op came to."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine)
        self._lpa2 = bool(machine["lpa2"])
        self._barriers = [NEVER, NEVER]
        """The last barrier for stores: on this CPU at least, and in the whole domain."""
        self._number = 0
        self._effects = Effects(machine)

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

    def run(self, record: Record) -> Effects:
        """Replay an op."""
        effects = self._effects = Effects(self._machine, record.definition)
        self._number = -1
        words = record.events
        self.begin(record)
        for index, event in enumerate(each_event(words)):
            self._clock += 1
            kind = event.kind
            if not event.is_in_call:
                self._number += 1
            if self.follow(event, record, index):
                continue
            if kind in TLB_CALLS:
                following = next(each_event(words, index + 1), None)
                if following is None or not following.is_in_call:
                    self._call(event)
            elif kind == DCACHE:
                effects.dcache.add(event.a, event.b, self._clock, self._number)
            elif kind == ICACHE:
                effects.icache.add(event.a, event.b, self._clock, self._number)
            else:
                self._instruct(event)
        self.end(record)
        return effects

    def _instruct(self, event: Event) -> None:
        kind, effects = event.instruction, self._effects
        if kind == DSB:
            self._barrier(event.a)
        elif kind == ISB:
            effects.last_isb = self._clock
        elif kind == IC:
            effects.ics.add(event.a)
        elif kind == TLBI:
            what = _decoded(event.a, event.b, self._lpa2)
            if what is not None:
                everywhere = what.operation.shareability != "non-shareable"
                before = self._barriers[everywhere]
                effects.tlbis.append(Tlbi(self._clock, self._number, before, everywhere, what))

    def _barrier(self, domain: int) -> None:
        barrier = barrier_of(domain)
        if not barrier.has_stores:
            return
        self._barriers[False] = self._clock
        if barrier.is_everywhere:
            self._barriers[True] = self._effects.last_barrier = self._clock
        if not barrier.has_loads:
            return
        for one in reversed(self._effects.tlbis):
            if one.after is not None:
                break
            if barrier.is_everywhere or not one.everywhere:
                one.after = self._clock

    def _call(self, event: Event) -> None:
        """A TLB function of which the instructions are not told does what it is for."""
        effects = self._effects
        what = asked_for(event, self._granule)
        if what is None:
            return
        everywhere = event.kind != TLBI_VMID_IPA_NSH
        one = Tlbi(self._clock, self._number, self._clock, everywhere, what)
        one.after = self._clock
        self._barriers[False] = self._clock
        if everywhere:
            self._barriers[True] = effects.last_barrier = self._clock
        effects.tlbis.append(one)

    def _rooted(self) -> None:
        self._effects.last_made, self._effects.last_made_number = self._clock, self._number

    def _freed(self, table: Table) -> None:
        table.freed_number = self._number
        if not table.root:
            return
        cause, parent = Break(None, self._number), table.parent
        if parent is not None and parent.freed is None and parent.level is not None:
            place = (table.root, table.ipa, parent.level)
            self._effects.gone.append(Gone(place, parent.entries.get(table.index, 0), table, cause))
        self._take_with(table, cause, below=False)

    def _store(self, event: Event) -> None:
        at = self._entry_at(event)
        if at is None:
            return
        table, index = at
        new, place = event.b, self._place(table, index)
        if place is None:
            self._put(table, index, new)
            return
        effects = self._effects
        effects.stores += 1
        old, level = table.entries.get(index, 0), place[2]
        child = self._child(table, new)
        if child is not None and child.parent is None:
            # One that is ordered has everything before it visible before it.
            is_visible = event.kind != STORE_PLAIN or self._barriers[True] > child.written
            effects.links.append((place, is_visible, self._number))
        if old & VALID and old != new:
            self._take(place, table, old, new)
        self._put(table, index, new)
        if not new & VALID:
            return
        effects.last_made, effects.last_made_number = self._clock, self._number
        cause = effects.breaks.pop(place, None)
        if cause is not None:
            cause.made, cause.made_number = self._clock, self._number
        if is_table_entry(new, level):
            return
        was_reached = bool(old & VALID) and not (old ^ new) & ~(PERMISSIONS | SOFTWARE)
        if not was_reached or old & XN == NEVER_EXECUTED != new & XN:
            effects.made.append(Made(place, new, self._clock, self._number, was_reached))

    def _take(self, place: Place, table: Table, old: int, new: int) -> None:
        """A valid entry of the tree goes, or changes."""
        effects = self._effects
        changed = (old ^ new) & ~SOFTWARE
        if not changed:
            return
        is_weaker = not changed & ~PERMISSIONS
        cause = Break(self._clock, self._number, is_direct=bool(new & VALID) and not is_weaker)
        if not is_weaker:
            effects.breaks[place] = cause
        is_table = is_table_entry(old, place[2])
        child = self._child(table, old) if is_table else None
        # A table that has been freed already, or is none of ours, is one all the same.
        effects.gone.append(Gone(place, old, child or (NO_TABLE if is_table else None), cause, is_weaker))
        if child is not None:
            self._take_with(child, cause)

    def _take_with(self, table: Table, cause: Break, below: bool = True) -> None:
        """A table is out of the tree: its valid entries are gone by that."""
        for place, entry, child in self._leave(table, below):
            is_table = is_table_entry(entry, place[2])
            self._effects.gone.append(Gone(place, entry, child or (NO_TABLE if is_table else None), cause))
