"""The visitors that change a leaf in place: permissions and access flag, without break-before-make.

What a leaf translates to stays as it is, so that the architecture asks for no invalid entry in
between (Arm ARM, "TLB maintenance requirements"). Which TLB invalidation follows is the caller's.
"""

from pgtable import pte
from pgtable.entry import EntryWriter
from pgtable.errnos import EAGAIN
from pgtable.memory import MmOps
from pgtable.walker import Walk


class AttributeChanger:
    """Sets and clears attribute bits in valid leaves; of a bit in both, it is set.

    absent: what an invalid entry is to the walk, 0 or -errno.
    set_bits, clear_bits: bits of `pte.ATTR_LO` and `pte.ATTR_HI`, in place.
    """

    __slots__ = ("_absent", "_address", "_clear", "_entry", "_mm_ops", "_set", "level", "old")

    def __init__(
        self,
        entry: EntryWriter,
        mm_ops: MmOps,
        address: pte.AddressFormat,
        absent: int,
        *,
        set_bits: int = 0,
        clear_bits: int = 0,
    ) -> None:
        self._absent = absent
        self._entry = entry
        self._address = address
        self._mm_ops = mm_ops
        self._set = set_bits
        self._clear = clear_bits
        self.old = 0
        """The last valid leaf visited, as it was; 0 if there was none."""
        self.level = 0
        """Its level."""

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF. -EAGAIN where somebody else was faster."""
        old = walk.old
        if not pte.is_valid(old):
            return self._absent
        self.old, self.level = old, walk.level
        new = old & ~self._clear | self._set
        if new == old:
            return 0
        executable = pte.is_executable(new) and not pte.is_executable(old)
        if executable and (invalidate := self._mm_ops.icache_inval_pou):
            # Before the guest can fetch from the page, not after.
            phys = self._address.to_phys(new)
            self._mm_ops.follow(phys)
            invalidate(phys, walk.size)
        return 0 if self._entry.try_set(walk, new) else -EAGAIN


class Ager:
    """Looks for leaves with the access flag, and takes it away if make_old says so."""

    __slots__ = ("_entry", "_make_old", "young")

    def __init__(self, entry: EntryWriter, *, make_old: bool) -> None:
        self._entry = entry
        self._make_old = make_old
        self.young = False
        """Whether any leaf visited had been accessed."""

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF. -EAGAIN where somebody else was faster."""
        old = walk.old
        if not pte.is_valid(old) or not old & pte.AF:
            return 0
        self.young = True
        if self._make_old and not self._entry.try_set(walk, old & ~pte.AF):
            return -EAGAIN
        return 0


class Flusher:
    """Cleans and invalidates the data cache of cacheable memory, as seen without FWB."""

    __slots__ = ("_address", "_mm_ops")

    def __init__(self, mm_ops: MmOps, address: pte.AddressFormat) -> None:
        self._mm_ops = mm_ops
        self._address = address

    def visit(self, walk: Walk, visit: int) -> int:
        """The visitor, for LEAF; always 0. A block is flushed whole."""
        if pte.is_cacheable(walk.old, fwb=False) and (clean := self._mm_ops.dcache_clean_inval_poc):
            phys = self._address.to_phys(walk.old)
            self._mm_ops.follow(phys)
            clean(phys, walk.size)
        return 0
