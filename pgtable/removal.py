"""The visitors that take mappings away: one from a live table, one from a table nobody walks."""

from collections.abc import Callable

from pgtable import pte
from pgtable.entry import EntryWriter
from pgtable.hooks import Hooks
from pgtable.memory import MmOps
from pgtable.walker import Walk


class Unmapper:
    """Clears leaves (LEAF), then the tables left without entries (TABLE_POST).

    Blocks go whole, even where the range covers only part. Owners are forgotten too.
    defer_tlbi: the caller invalidates the leaves' translations once the walk is over. Those of
    tables are never put off, as the table pages are freed at once.
    table_tlbi_level: what is hinted for these.
    """

    __slots__ = ("_address", "_defer_tlbi", "_entry", "_fwb", "_hooks", "_mm_ops", "_table_tlbi_level")

    def __init__(
        self,
        entry: EntryWriter,
        mm_ops: MmOps,
        hooks: Hooks,
        address: pte.AddressFormat,
        *,
        fwb: bool,
        defer_tlbi: bool,
        table_tlbi_level: int,
    ) -> None:
        self._entry = entry
        self._mm_ops = mm_ops
        self._hooks = hooks
        self._address = address
        self._fwb = fwb
        self._defer_tlbi = defer_tlbi
        self._table_tlbi_level = table_tlbi_level

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor; always 0."""
        old = walk.old
        if pte.is_table(old, walk.level):
            self._table(walk, self._address.to_phys(old))
        elif pte.is_valid(old):
            self._leaf(walk)
        elif pte.is_counted(old):
            self._entry.store(walk, 0, "plain")
            self._mm_ops.put_page(walk.pa)
        return 0

    def _table(self, walk: Walk, child: int) -> None:
        self._mm_ops.follow(child)
        # One reference is the table's own, each further one an entry in use.
        if self._mm_ops.page_count(child) != 1:
            return
        self._entry.store(walk, 0, "plain")
        self._hooks.tlbi_vmid_ipa(walk.addr, self._table_tlbi_level)
        self._mm_ops.put_page(walk.pa)
        self._mm_ops.put_page(child)

    def _leaf(self, walk: Walk) -> None:
        old = walk.old
        self._entry.store(walk, 0, "plain")
        if not self._defer_tlbi:
            self._hooks.tlbi_vmid_ipa(walk.addr, walk.level)
        self._mm_ops.put_page(walk.pa)
        # Without FWB the guest may have used the page uncached, and left stale lines behind.
        if not self._fwb and pte.is_cacheable(old, fwb=False) and (clean := self._mm_ops.dcache_clean_inval_poc):
            phys = self._address.to_phys(old)
            self._mm_ops.follow(phys)
            clean(phys, walk.size)


class Releaser:
    """Gives up the references of a table that no hardware walks any more; entries stay as is.

    is_counted: which entries hold one.
    """

    __slots__ = ("_address", "_is_counted", "_mm_ops")

    def __init__(
        self, mm_ops: MmOps, address: pte.AddressFormat, is_counted: Callable[[int], bool] = pte.is_counted
    ) -> None:
        self._mm_ops = mm_ops
        self._address = address
        self._is_counted = is_counted

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF and TABLE_POST; always 0."""
        old = walk.old
        if self._is_counted(old):
            self._mm_ops.put_page(walk.pa)
            if pte.is_table(old, walk.level):
                child = self._address.to_phys(old)
                self._mm_ops.follow(child)
                self._mm_ops.put_page(child)
        return 0
