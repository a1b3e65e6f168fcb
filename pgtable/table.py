"""What page tables of both stages have in common: a root, walks over it, and how to look at entries."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import ClassVar

from pgtable import pte
from pgtable.errnos import EINVAL, ENOENT, EPERM
from pgtable.geometry import ENTRY_SIZE, FIRST_LEVEL, LAST_LEVEL, Geometry
from pgtable.hooks import Hooks
from pgtable.memory import MmOps, WildAccess
from pgtable.objects import HOST, KernelObject
from pgtable.tree import TablePage, table_lines
from pgtable.versions import LinuxVersion
from pgtable.walker import HANDLE_FAULT, KEEPS_TABLES, LEAF, SHARED, Visitor, Walk, next_used


class PageTable(ABC):
    """struct kvm_pgtable. Without a successful init of the stage's own even address 0 is out of range.

    Addresses and sizes are u64, in bytes; larger ints are reduced modulo 2^64. -ERANGE and -EINVAL as in `Walk.run`
    are common to all operations that return an errno, and so is -EPERM for a shared walk in an object without.

    As text it is the tree, a line per table and per run of alike entries.
    """

    __slots__ = (
        "_address",
        "_geometry",
        "_hooks",
        "_implied_flags",
        "_mm_ops",
        "_refused_flags",
        "_version",
        "_walk_flags",
        "ia_bits",
        "root",
        "root_pages",
        "start_level",
        "warned",
    )

    _input: ClassVar[str]
    """What the addresses that it translates are called."""

    def __init__(
        self,
        mm_ops: MmOps,
        hooks: Hooks,
        version: LinuxVersion,
        geometry: Geometry,
        address: pte.AddressFormat,
        kernel_object: KernelObject = HOST,
    ) -> None:
        self.ia_bits = 0
        """These four are 0 and None, as in zeroed memory, until init has succeeded."""
        self.start_level = 0
        self.root: int | None = None
        self.root_pages = 0
        self._mm_ops = mm_ops
        self._hooks = hooks
        self._geometry = geometry
        self._address = address
        self._version = version
        self._walk_flags = int(version.walk_flags)
        # What ends a walk where nobody can say whether -EAGAIN should.
        self._implied_flags = HANDLE_FAULT & ~self._walk_flags
        self._refused_flags = 0 if kernel_object.shared_walks else SHARED & self._walk_flags
        self.warned: set[str] = set()
        """Of what it has warned that a kernel warns of once, whichever table it is: several tables share this."""

    def __str__(self) -> str:
        if self.root is None:
            return "no table"
        lines = [f"{self.ia_bits} bits of {self._input}"]
        level = self.start_level if self.start_level <= LAST_LEVEL else FIRST_LEVEL
        for page in range(self.root_pages):
            pa = self.root + page * self._geometry.page_size
            start = page * self._geometry.entries * self._geometry.level_size(level)
            lines += table_lines(pa, level, start, self._read, self._geometry, self._address, self._describe)
        return "\n".join(lines)

    def _read(self, pa: int) -> TablePage | None:
        try:
            return TablePage(self._mm_ops.table(pa))
        except WildAccess:
            return None

    @abstractmethod
    def _describe(self, entry: int, level: int) -> str:
        """An entry in words."""

    @abstractmethod
    def init(self) -> int:
        """Allocate an empty root. 0 or -errno."""

    @abstractmethod
    def destroy(self) -> None:
        """Free everything."""

    def locate(self, addr: int, level: int) -> tuple[int, int]:
        """Where the entry of this level is that translates addr: (0, its physical address), or (-errno, 0).

        -EINVAL where no such entry can be: without a root, above it, or for an addr beyond the limit; -ENOENT where
        the walk of addr ends above that level.
        """
        if self.root is None or not 0 <= addr < 1 << self.ia_bits or level < self.start_level:
            return -EINVAL, 0
        geometry = self._geometry
        page = geometry.root_index(addr, self.ia_bits, self.start_level)
        table = self.root + page * geometry.page_size
        for above in range(self.start_level, level):
            entry = self._mm_ops.table(table)[geometry.index_range(addr, addr + 1, above)[0]]
            if not pte.is_table(entry, above):
                return -ENOENT, 0
            table = self._address.to_phys(entry)
        return 0, table + geometry.index_range(addr, addr + 1, level)[0] * ENTRY_SIZE

    def get_leaf(self, addr: int) -> tuple[int, int, int]:
        """The entry, not a table, that decides about addr's page: (ret, pte, level).

        pte and level mean something only when ret is 0.
        """
        leaf = (0, 0)

        def remember(walk: Walk, visit: int) -> int:
            nonlocal leaf
            leaf = (walk.old, walk.level)
            return 0

        geometry = self._geometry
        start = geometry.page_align_down(addr)
        ret = self._run(remember, LEAF, start, geometry.page_size)
        return ret, *leaf

    def walk(self, addr: int, size: int, flags: int, visitor: Callable[[int, int, int, int], int | None]) -> int:
        """Show the entries of a range: visitor(visit, level, addr, pte). A negative errno from it ends the walk.

        flags choose the visits and the treatment of -EAGAIN (`WalkFlags`); visit is the one flag
        that the call is for.
        """
        return self.visit(addr, size, flags, lambda walk, visit: visitor(visit, walk.level, walk.addr, walk.old) or 0)

    def visit(self, addr: int, size: int, flags: int, visitor: Visitor) -> int:
        """The same with a visitor of Linux's kind, which is given the walk and may change the entry."""
        self._check_flags(flags)
        if not self._version.rereads_tables:
            flags |= KEEPS_TABLES
        return self._run(visitor, flags, addr, size)

    def steps(self, start: int, end: int, step: int, past_empty: bool = False) -> Iterator[tuple[int, int]]:
        """[start, end) in ranges up to the next multiples of `step`, a power of two, one after the other: as callers
        do that let go of their lock in between. `past_empty`: without those of which the root has only entries that are
        0, about which most walks do nothing; they may be very many."""
        while start < end:
            until = min((start + step) & -step, end)
            if not past_empty or self._first_used(start, until) < until:
                yield start, until
            elif (used := self._first_used(start, end)) < end:
                until = max(until, used & -step)
            else:
                return
            start = until

    def _first_used(self, start: int, end: int) -> int:
        """The first address of [start, end) of which the root has an entry that is not 0; `end`, if there is none."""
        if self.root is None:
            return end
        geometry, level = self._geometry, self.start_level
        size, end = geometry.level_size(level), min(end, 1 << self.ia_bits)
        at = start
        while at < end:
            table = self.root + geometry.root_index(at, self.ia_bits, level) * geometry.page_size
            index, stop = geometry.index_range(at, end, level)
            used = next_used(self._mm_ops.table(table), index, stop)
            if used < stop:
                return max(start, (at & -size) + (used - index) * size)
            at = (at & -size) + (stop - index) * size
        return end

    def _check_flags(self, flags: int) -> None:
        if flags & ~self._walk_flags:
            raise ValueError(f"Linux {self._version.name} has no walk flags {flags & ~self._walk_flags:#x}")

    def _run(self, visitor: Visitor, flags: int, addr: int, size: int, skip_empty: bool = False) -> int:
        if flags & self._refused_flags:
            return -EPERM
        walk = self._new_walk(visitor, flags, addr, size, skip_empty)
        if not walk.flags & SHARED:
            return walk.run(self.root, self.ia_bits, self.start_level)
        self._hooks.rcu_read_lock()
        ret = walk.run(self.root, self.ia_bits, self.start_level)
        self._hooks.rcu_read_unlock()
        return ret

    def _new_walk(self, visitor: Visitor, flags: int, addr: int, size: int, skip_empty: bool) -> Walk:
        flags = flags & (self._walk_flags | KEEPS_TABLES) | self._implied_flags
        return Walk(
            self._geometry, self._address, self._mm_ops, self._warn_once, visitor, flags, addr, size, skip_empty
        )

    def _warn_once(self, where: str) -> None:
        if where not in self.warned:
            self.warned.add(where)
            self._hooks.warn(where)
