"""One side of a comparison: its tables, as the stores among its events have made them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

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
from harness.observation.layout import MAX_ROOT_PAGES, NO_PAGE, Record
from harness.observation.tlbi import BY_NAME, Invalidation, invalidation_of
from harness.program.granule import LAST_LEVEL
from harness.program.machine import Machine
from harness.program.ops import INIT
from harness.verdict.effects.done import (
    NEVER_EXECUTED,
    NO_TABLE,
    XN,
    Break,
    Effects,
    Gone,
    Made,
    Place,
    Table,
    Tlbi,
)
from harness.verdict.effects.maintained import NEVER

_VALID: Final = 1
_SOFTWARE: Final = 0x1FF << 55
"""Bits that the hardware ignores."""
_PERMISSIONS: Final = 0b11 << 6 | 1 << 10 | 1 << 51 | XN
"""S2AP, AF, DBM and XN: what may change without break-before-make."""
_NO_STORE: Final = frozenset({"nshld", "ishld", "oshld", "ld"})
_LOCAL_BARRIERS: Final = frozenset({"nsh", "nshst"})


@lru_cache(maxsize=4096)
def _decoded(number: int, operand: int, lpa2: bool) -> Invalidation | None:
    return invalidation_of(number, operand, lpa2)


class Side:
    """One side's tables, as its events have made them so far."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._granule = machine.granule
        self._mask = -machine.granule.page
        self._lpa2 = bool(machine["lpa2"])
        self._is_stage_1 = machine["stage"] == 1
        self._addresses = address_field(machine)
        self._tables: dict[int, Table] = {}
        self._roots = 0
        """How many there were; the latest is the tree under test."""
        self._clock = 0
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
                effects.tlbis.append(Tlbi(self._clock, self._number, before, everywhere, what))

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
        one = Tlbi(self._clock, self._number, self._clock, everywhere, what)
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
            table = self._tables[event.a + number * self._granule.page] = Table(self._clock)
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
        cause, parent = Break(None, self._number), table.parent
        if parent is not None and parent.freed is None and parent.level is not None:
            place = (table.root, table.ipa, parent.level)
            self._effects.gone.append(Gone(place, parent.entries.get(table.index, 0), table, cause))
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

    def _put(self, table: Table, index: int, new: int) -> None:
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
        up: Table | None = table
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
        if not was_reached or old & XN == NEVER_EXECUTED != new & XN:
            effects.made.append(Made(place, new, self._clock, self._number, was_reached))

    def _take(self, place: Place, table: Table, old: int, new: int) -> None:
        """A valid entry of the tree goes, or changes."""
        effects = self._effects
        changed = (old ^ new) & ~_SOFTWARE
        if not changed:
            return
        is_weaker = not changed & ~_PERMISSIONS
        cause = Break(self._clock, self._number, is_direct=bool(new & _VALID) and not is_weaker)
        if not is_weaker:
            effects.breaks[place] = cause
        is_table = is_table_entry(old, place[2])
        child = self._child(table, old) if is_table else None
        # A table that has been freed already, or is none of ours, is one all the same.
        effects.gone.append(Gone(place, old, child or (NO_TABLE if is_table else None), cause, is_weaker))
        if child is not None:
            self._leave(child, cause)

    def _child(self, table: Table, entry: int) -> Table | None:
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

    def _leave(self, table: Table, cause: Break | None, below: bool = True) -> None:
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
                self._effects.gone.append(Gone(place, entry, child or (NO_TABLE if is_table else None), cause))
            if child is not None and below:
                self._leave(child, cause)


_ENTRY_BYTES: Final = 8
_PAGES: Final = frozenset({GET, PUT, ALLOC, ALLOC_EXACT, FREE_EXACT})
_CALLED: Final[Mapping[int, str]] = {
    TLBI_VMID: "vmalls12e1is",
    TLBI_VMID_IPA: "ipas2e1is",
    TLBI_VMID_IPA_NSH: "ipas2e1",
    TLBI_VMID_RANGE: "ripas2e1is",
}
"""The operation that each TLB function is there for."""
