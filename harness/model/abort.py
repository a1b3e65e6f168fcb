"""A guest's access that stage 2 aborted, and how the host handles it.

What KVM's user_mem_abort() decides, and what was said of its memcache in the thread "KVM: arm64: Distinguish cases of
memcache allocations completely", 2021-02 and 03. The memory behind the page is the program's to choose.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final, NamedTuple

from harness.program import syndromes
from harness.program.kinds import BACKING
from harness.program.kinds.flags import MAP_FLAG_BITS, PROT_BITS
from harness.program.machine import KNOBS_BY_NAME
from pgtable.geometry import LAST_LEVEL

if TYPE_CHECKING:
    from harness.model.run import ProgramRun

_KIND: Final = 0b111100
_LEVEL: Final = 0b11
_TRANSLATION, _ACCESS_FLAG, _PERMISSION = 0x04, 0x08, 0x0C
"""Fault status codes without their level (Arm ARM, ESR_EL2)."""
_RULES: Final = KNOBS_BY_NAME["topup_rule"].names
_ATOMIC: Final = KNOBS_BY_NAME["empty_cache"].names.index("atomic")
_HUGE: Final = {BACKING.words.index(name) for name in ("block", "cont_block", "gigabyte")}
_GIGABYTE: Final = BACKING.words.index("gigabyte")
_PAGE: Final = BACKING.words.index("page")
_R, _W, _X, _DEVICE = (PROT_BITS[name] for name in ("r", "w", "x", "device"))
_OF_A_HANDLER: Final = MAP_FLAG_BITS["handle_fault"] | MAP_FLAG_BITS["shared"]


class Abort(NamedTuple):
    """A stage-2 abort: the syndrome, as `fault` yields it, and the page of IPA."""

    esr: int
    ipa: int


class Memory(NamedTuple):
    """What lies behind the page: the arguments of `handle`, which docs/memcache.md explains."""

    phys: int
    backing: int
    hva: int
    thp: int
    logging: int
    readonly: int
    device: int


class Handler:
    """Handles one abort, by `run`. What it then tells: `size` of the mapping that it decided on (0: it came to none),
    whether it `topped_up` the memcache, how many pages that `added`, how many the walk `used`, and whether it mapped
    memory that the guest may write now."""

    def __init__(self, run: ProgramRun, abort: Abort, memory: Memory) -> None:
        self.size = self.added = self.used = 0
        self.topped_up = self.is_writable = False
        self._run, self._abort, self._memory = run, abort, memory
        self._geometry = run.fixed.geometry
        exception_class, self._writes, status = syndromes.esr_fields(abort.esr)
        self._executes = exception_class == syndromes.INSTRUCTION_ABORT
        self._kind = status & _KIND
        self._is_permission = self._kind == _PERMISSION
        self._granule = self._geometry.level_size(status & _LEVEL)
        """What an entry of the level that the fault was reported at translates."""
        self._rule = _RULES[run.program.machine["topup_rule"]]

    def run(self) -> int:
        """0 where the guest may try again: that need not mean that anything was mapped.

        -EFAULT for an abort that no mapping mends, and where there is no memory: a write to what is read-only, which
        user space gets to see; -ERANGE beyond the guest's addresses; -ENOEXEC for instructions in a device's memory;
        -ENOMEM."""
        abort, boundary, pgt = self._abort, self._run.boundary, self._run.stage2
        if self._kind not in (_TRANSLATION, _ACCESS_FLAG, _PERMISSION):
            return -errno.EFAULT
        if abort.ipa >> pgt.ia_bits:
            return -errno.ERANGE
        if self._writes and self._memory.readonly:
            return -errno.EFAULT
        if self._kind == _ACCESS_FLAG:
            boundary.holds_lock = True
            pgt.mkyoung(abort.ipa)
            boundary.holds_lock = False
            return 0
        if self._is_permission and not self._writes and not self._executes:
            return -errno.EFAULT  # whatever stage 2 maps can be read
        return self._give_memory()

    def _give_memory(self) -> int:
        abort, memory, machine = self._abort, self._memory, self._run.program.machine
        if self._rule == "fault_status" and (not self._is_permission or (memory.logging and self._writes)):
            ret = self._top_up()
            if ret:
                return ret
        size, is_forced = self._backing_size()
        if memory.phys >> machine.phys_bits:
            return -errno.EFAULT
        if memory.device and self._executes:
            return -errno.ENOEXEC
        ipa = abort.ipa & -size
        if size == self._geometry.page_size and not is_forced and not memory.device:
            if self._is_permission and self._granule > size:
                size = self._granule  # a block is mapped, so one lies behind it
            elif memory.thp and self._is_aligned(self._geometry.level_size(2)):
                size = self._geometry.level_size(2)
                ipa &= -size
        self.size = size
        needs_table = self._granule > size
        if self._rule == "fault_granule" and needs_table:
            ret = self._top_up()
            if ret:
                return ret
        self._run.boundary.holds_lock = True
        if self._rule == "posted" and needs_table:
            ret = self._top_up()
            if ret:
                return ret  # as it was posted: the lock is kept
        prot = self._prot()
        ret = self._change(ipa, prot)
        self._run.boundary.holds_lock = False
        self.is_writable = not ret and bool(prot & _W)
        return 0 if ret == -errno.EAGAIN else ret

    def _backing_size(self) -> tuple[int, bool]:
        """How much one mapping can be of, by what the host has mapped there; and whether it must be a page."""
        memory, page = self._memory, self._geometry.page_size
        if memory.logging or memory.backing == _PAGE:
            return page, bool(memory.logging)
        if memory.backing == _GIGABYTE and self._geometry.min_block_level == 1:
            large = self._geometry.level_size(1)
            if self._is_aligned(large):
                return large, False
        if memory.backing in _HUGE:
            block = self._geometry.level_size(2)
            if self._is_aligned(block):
                return block, False
        return page, True

    def _is_aligned(self, size: int) -> bool:
        """Whether host addresses are to blocks of that size as guest addresses are."""
        return self._memory.hva * self._geometry.page_size % size == 0

    def _top_up(self) -> int:
        """Fill the memcache with as many pages as a walk may need: a table for each level below the root."""
        run = self._run
        run.boundary.might_sleep()
        before = len(run.cache.pages)
        ret = run.cache.topup(run.pool, LAST_LEVEL - run.stage2.start_level)
        self.topped_up, self.added = True, len(run.cache.pages) - before
        return ret

    def _prot(self) -> int:
        """What the guest may do with the memory from now on."""
        memory, prot = self._memory, _R
        if not memory.readonly and (self._writes or memory.device or not memory.logging):
            prot |= _W
        if self._executes:
            prot |= _X
        if memory.device:
            prot |= _DEVICE
        return prot

    def _change(self, ipa: int, prot: int) -> int:
        """Change the table, under the lock."""
        run, memory = self._run, self._memory
        if self._is_permission and self.size == self._granule:
            return run.stage2.relax_perms(ipa, prot)
        boundary, before = run.boundary, len(run.cache.pages)
        boundary.allocates_when_empty = run.program.machine["empty_cache"] == _ATOMIC
        boundary.allocated_when_empty = 0
        flags = _OF_A_HANDLER & int(run.version.walk_flags)
        ret = run.stage2.map(ipa, self.size, memory.phys & -self.size, prot, run.cache, flags)
        boundary.allocates_when_empty = False
        self.used = before - len(run.cache.pages) + boundary.allocated_when_empty
        return ret
