"""The stand-alone table walker: a depth-first walk that shows entries to a visitor (seed 001).

The behaviour is that of kvm_pgtable_walk; the promises are in kvm_pgtable.h's documentation.
"""

import enum
from collections.abc import Callable
from itertools import compress
from typing import Final

from pgtable.errnos import EAGAIN, EINVAL, ERANGE
from pgtable.geometry import ENTRY_SIZE, FIRST_LEVEL, LAST_LEVEL, U64, Geometry
from pgtable.memory import Entries, MmOps
from pgtable.pte import is_table, to_phys


class WalkFlags(enum.IntFlag):
    """What a walk shows to its visitor, and how it behaves (enum kvm_pgtable_walk_flags).

    The first three choose visits: entries that are not tables (invalid ones too), tables before
    and tables after what is below them. A visitor is told which of them it is called for.

    SHARED: others may change entries meanwhile, so changes are made by compare-and-exchange.
    HANDLE_FAULT: a visitor's -EAGAIN ends the walk; without it the walk goes on, and forgets it.
    SKIP_BBM_TLBI, SKIP_CMO: no TLB invalidation when breaking entries, no cache maintenance.
    """

    LEAF = 1
    TABLE_PRE = 2
    TABLE_POST = 4
    SHARED = 8
    HANDLE_FAULT = 16
    SKIP_BBM_TLBI = 32
    SKIP_CMO = 64


# Plain ints: enum arithmetic would dominate the cost of a visit.
LEAF: Final = int(WalkFlags.LEAF)
TABLE_PRE: Final = int(WalkFlags.TABLE_PRE)
TABLE_POST: Final = int(WalkFlags.TABLE_POST)
SHARED: Final = int(WalkFlags.SHARED)
HANDLE_FAULT: Final = int(WalkFlags.HANDLE_FAULT)
SKIP_BBM_TLBI: Final = int(WalkFlags.SKIP_BBM_TLBI)
SKIP_CMO: Final = int(WalkFlags.SKIP_CMO)

Visitor = Callable[["Walk", int], int]
"""Called with the walk, standing on an entry, and the kind of visit; 0 or a negative errno."""


class Walk:
    """One walk over an address range; during a visit, also the description of the entry visited.

    The range starts at addr's page and ends with the page that (that start + size) falls into;
    both wrap at 64 bits, so that a size may well give an empty range.

    skip_empty promises that the visitor does nothing for entries that are 0; the walk may then pass
    over them quickly.
    """

    __slots__ = (
        "_cursor",
        "_geometry",
        "_mm_ops",
        "_skip_empty",
        "_visitor",
        "_warn_once",
        "addr",
        "end",
        "entries",
        "flags",
        "index",
        "level",
        "old",
        "pa",
        "start",
    )

    start: int
    """Where the walk began; end is where it stops. Input addresses."""
    addr: int
    """Input address of the visit: the entry's own start, except for the first entries visited."""
    level: int
    entries: Entries
    index: int
    """The entry visited is entries[index]."""
    pa: int
    """Its physical address."""
    old: int
    """What the walk read there. The entry itself may have changed since."""

    def __init__(
        self,
        geometry: Geometry,
        mm_ops: MmOps,
        warn_once: Callable[[str], None],
        visitor: Visitor,
        flags: int,
        addr: int,
        size: int,
        skip_empty: bool = False,
    ) -> None:
        self._geometry = geometry
        self._mm_ops = mm_ops
        self._warn_once = warn_once
        self._visitor = visitor
        self._skip_empty = skip_empty
        self.flags = int(flags)
        self.start = self._cursor = geometry.page_align_down(addr)
        self.end = geometry.page_align_up(self.start + size)

    def run(self, root: int | None, ia_bits: int, start_level: int) -> int:
        """Walk from a root of one or more concatenated pages.

        0; -ERANGE if the range leaves the ia_bits of input address; -EINVAL without a root; or what
        a visitor returned.

        An end equal to the limit 2^ia_bits is the last page and legal, and so is an empty range
        there: hence `>`, not `>=` (the objection in seed 001).
        """
        limit = 1 << ia_bits
        if self.start > limit or self.end > limit:
            return -ERANGE
        if root is None:
            return -EINVAL
        page = self._geometry.root_index(self.start, ia_bits, start_level)
        while self._cursor < self.end:
            ret = self.descend(root + page * self._geometry.page_size, start_level)
            if ret:
                return ret
            page += 1
        return 0

    def descend(self, table_pa: int, level: int) -> int:
        """Walk one table of this level and what is below, without checking the range."""
        if not FIRST_LEVEL <= level <= LAST_LEVEL:
            self._warn_once("__kvm_pgtable_walk")
            return -EINVAL
        entries = self._mm_ops.table(table_pa)
        index = self._geometry.index(self._cursor, level)
        count = self._geometry.entries
        while index < count and self._cursor < self.end:
            if self._skip_empty and not entries[index]:
                index = self._pass_empty(entries, index, level)
                continue
            ret = self._entry(entries, index, table_pa + index * ENTRY_SIZE, level)
            if ret:
                return ret
            index += 1
        return 0

    def _entry(self, entries: Entries, index: int, pa: int, level: int) -> int:
        addr = self._cursor
        old = entries[index]
        visit = TABLE_PRE if is_table(old, level) else LEAF
        if self.flags & visit:
            ret = self._visit(visit, entries, index, pa, level, addr, old)
            if ret:
                return ret
            # The visitor may have put a table here, or taken one away.
            old = entries[index]
        if not is_table(old, level):
            # addr may lie anywhere in the first entry's range; the next starts where this one ends.
            size = self._geometry.level_size(level)
            self._cursor = ((addr & -size) + size) & U64
            return 0
        child = to_phys(old)
        self._mm_ops.follow(child)
        ret = self.descend(child, level + 1)
        if ret == 0 and self.flags & TABLE_POST:
            ret = self._visit(TABLE_POST, entries, index, pa, level, addr, old)
        return ret

    def _visit(self, visit: int, entries: Entries, index: int, pa: int, level: int, addr: int, old: int) -> int:
        self.entries = entries
        self.index = index
        self.pa = pa
        self.level = level
        self.addr = addr
        self.old = old
        ret = self._visitor(self, visit)
        if ret == -EAGAIN and not self.flags & HANDLE_FAULT:
            return 0
        return ret

    def _pass_empty(self, entries: Entries, index: int, level: int) -> int:
        """Move to the next entry that is not 0, but not past the table or the range."""
        shift = self._geometry.level_shift(level)
        first = self._cursor >> shift
        last = (self.end - 1) >> shift
        stop = min(self._geometry.entries, index + last - first + 1)
        found = next(compress(range(index, stop), entries[index:stop]), stop)
        self._cursor = (first + found - index) << shift
        return found
