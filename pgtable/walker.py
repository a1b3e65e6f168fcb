"""The stand-alone table walker: a depth-first walk that shows entries to a visitor.

The behaviour is that of kvm_pgtable_walk; the promises are in kvm_pgtable.h's documentation. The code was reviewed in
the thread "KVM: arm64: Add stand-alone page-table walker infrastructure", 2020-09.
"""

import enum
import re
from collections.abc import Callable
from typing import Final

from pgtable.errnos import EAGAIN, EINVAL, ERANGE
from pgtable.geometry import ENTRY_SIZE, FIRST_LEVEL, LAST_LEVEL, U64, Geometry
from pgtable.memory import Entries, MmOps
from pgtable.pte import AddressFormat, is_table


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
KEEPS_TABLES: Final = 1 << 16
"""How a walk is made, not what a caller asks for: a table is gone into as it was read, whatever its visitor made of the
entry, and shown afterwards as the entry is then (6.1)."""

Visitor = Callable[["Walk", int], int]
"""Called with the walk, standing on an entry, and the kind of visit; 0 or a negative errno.

In a visit of LEAF it may deal with entries that follow as well, if they are not tables either and
lie before the walk's `stop`; it then moves the walk's `index` to the last of them.
"""


_ZEROS: Final = re.compile(rb"\0*")


class Walk:
    """One walk over an address range; during a visit, also the description of the entry visited.

    The range starts at addr's page and ends with the page that (that start + size) falls into;
    both wrap at 64 bits, so that a size may well give an empty range.

    skip_empty promises that the visitor does nothing for entries that are 0; the walk may then pass
    over them quickly.
    """

    __slots__ = (
        "_address",
        "_cursor",
        "_forgiven",
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
        "size",
        "start",
        "stop",
    )

    start: int
    """Where the walk began; end is where it stops. Input addresses."""
    addr: int
    """Input address of the visit: the entry's own start, except for the first entries visited."""
    level: int
    size: int
    """Bytes that an entry of this level maps."""
    entries: Entries
    index: int
    """The entry visited is entries[index]; those of the range end before entries[stop]."""
    stop: int
    pa: int
    """Its physical address."""
    old: int
    """What the walk read there. The entry itself may have changed since."""

    def __init__(
        self,
        geometry: Geometry,
        address: AddressFormat,
        mm_ops: MmOps,
        warn_once: Callable[[str], None],
        visitor: Visitor,
        flags: int,
        addr: int,
        size: int,
        skip_empty: bool = False,
    ) -> None:
        self._geometry = geometry
        self._address = address
        self._mm_ops = mm_ops
        self._warn_once = warn_once
        self._visitor = visitor
        self._skip_empty = skip_empty
        self.flags = int(flags)
        # A visit's result that does not end the walk.
        self._forgiven = 0 if self.flags & HANDLE_FAULT else -EAGAIN
        self.start = self._cursor = geometry.page_align_down(addr)
        self.end = geometry.page_align_up(self.start + size)

    def run(self, root: int | None, ia_bits: int, start_level: int) -> int:
        """Walk from a root of one or more concatenated pages.

        0; -ERANGE if the range leaves the ia_bits of input address; -EINVAL without a root; or what
        a visitor returned.

        An end equal to the limit 2^ia_bits is the last page and legal, and so is an empty range
        there: hence `>`, not the `>=` that the review asked for.
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

    def admits_leaf(self, phys: int, first_level: int, phys_end: int) -> bool:
        """Whether the entry visited may map to phys: if its level has leaves, here from first_level on, and they lie
        within the range and are aligned on both sides. A page always does.

        A phys at or beyond phys_end, which no machine has, is not asked for its alignment.
        """
        level = self.level
        if level == LAST_LEVEL:
            return True
        size, addr = self.size, self.addr
        if level < first_level or size > self.end - addr or addr & (size - 1):
            return False
        return phys >= phys_end or not phys & (size - 1)

    def descend(self, table_pa: int, level: int) -> int:
        """Walk one table of this level and what is below, without checking the range."""
        if not FIRST_LEVEL <= level <= LAST_LEVEL:
            self._warn_once("__kvm_pgtable_walk")
            return -EINVAL
        # What holds for the whole table is settled before the loop, where the model spends its time.
        flags, visitor, forgiven, skip_empty = self.flags, self._visitor, self._forgiven, self._skip_empty
        may_have_tables, keeps_tables = level != LAST_LEVEL, flags & KEEPS_TABLES
        entries = self._mm_ops.table(table_pa)
        size = self._geometry.level_size(level)
        index, stop = self._geometry.index_range(self._cursor, self.end, level)
        addr = self._cursor
        table_addr = (addr & -size) - index * size
        self.entries, self.level, self.size, self.stop = entries, level, size, stop
        while index < stop:
            old = entries[index]
            if skip_empty and not old:
                index = next_used(entries, index, stop)
                addr = table_addr + index * size
                continue
            visit = TABLE_PRE if may_have_tables and is_table(old, level) else LEAF
            if flags & visit:
                self.index = index
                self.pa = table_pa + index * ENTRY_SIZE
                self.addr = addr
                self.old = old
                ret = visitor(self, visit)
                if ret and ret != forgiven:
                    return ret
                # The visitor may have gone further, put a table here or taken one away.
                index = self.index
                if visit == LEAF or not keeps_tables:
                    old = entries[index]
            if may_have_tables and is_table(old, level):
                ret = self._below(entries, index, table_pa + index * ENTRY_SIZE, addr, old)
                if ret:
                    return ret
                self.entries, self.level, self.size, self.stop = entries, level, size, stop
            index += 1
            # addr may lie anywhere in the first entry's range; the next starts where that one ends.
            addr = table_addr + index * size
        self._cursor = addr & U64
        return 0

    def explore(self, table_pa: int, visitor: Visitor, flags: int) -> int:
        """Walk, with another visitor, a table that the entry visited has pointed to, past entries that are 0."""
        start = self.addr & -self.size
        walk = Walk(
            self._geometry, self._address, self._mm_ops, self._warn_once, visitor, flags, start, self.size, True
        )
        return walk.descend(table_pa, self.level + 1)

    def _below(self, entries: Entries, index: int, pa: int, addr: int, old: int) -> int:
        """Walk the table that the entry points to, then show the entry once more."""
        level, size = self.level, self.size
        child = self._address.to_phys(old)
        self._mm_ops.follow(child)
        self._cursor = addr
        ret = self.descend(child, level + 1)
        if ret or not self.flags & TABLE_POST:
            return ret
        self.entries, self.index, self.pa = entries, index, pa
        self.level, self.size, self.addr = level, size, addr
        self.old = entries[index] if self.flags & KEEPS_TABLES else old
        ret = self._visitor(self, TABLE_POST)
        return 0 if ret == self._forgiven else ret


def next_used(entries: Entries, index: int, stop: int) -> int:
    """The first entry from index on that is not 0, or stop."""
    # Tables are mostly empty, and nothing in Python gets past zeros as fast as this.
    zeros = _ZEROS.match(entries[index:stop])
    return index + zeros.end() // ENTRY_SIZE if zeros else stop
