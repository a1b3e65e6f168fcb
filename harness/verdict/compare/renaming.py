"""Which table page of one side is which of the other's."""

from __future__ import annotations

from harness.observation.descriptors import TABLE, address_field, root_field
from harness.observation.events import (
    ALLOC,
    ALLOC_EXACT,
    EVENTS_BY_NUMBER,
    MSR,
    STORE_KINDS,
    SYSREGS,
    Event,
)
from harness.observation.layout import NO_PAGE
from harness.program.machine import DEFAULT_MACHINE, MAX_POOL_PAGES, Machine


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
