"""The guest as the model sees it: the MMU that walks its table (`pgtable.translate`), and the memory it can reach."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from harness.model.abort import Abort
from harness.observation.events import WALKER_AF
from harness.program import syndromes
from harness.program.guest import DATA, PIECE, STUB, VCPU_REACH, WINDOW, WINDOW_SIZE
from harness.program.machine import POOL_BASE
from pgtable import (
    Access,
    Fault,
    FaultKind,
    Stage1Registers,
    Stage2Registers,
    Translation,
    WildAccess,
    ia_bits_of,
    translate,
)
from pgtable.geometry import ENTRY_SIZE

if TYPE_CHECKING:
    from harness.model.run import ProgramRun
    from harness.program.machine import Machine
    from pgtable import PagePool

_MAIR: Final = 0x04_00_44_FF_FF
"""MAIR_EL2 as Linux has it (arch/arm64/mm/proc.S): indices 0 Normal, 2 non-cacheable, 3 and 4 device."""
_VTCR_HA: Final = 1 << 21
_PS_BITS: Final = (32, 36, 40, 42, 44, 48, 52)
_IRGN_ORGN_WBWA_SH_INNER: Final = 1 << 8 | 1 << 10 | 3 << 12
_TG0: Final = {12: 0, 14: 2, 16: 1}
_FEWEST_VA_BITS: Final = {12: 16, 14: 16, 16: 17}

Registers = Stage1Registers | Stage2Registers


class Window:
    """The words of data in the scratch window: each its own physical address, until the guest writes it."""

    __slots__ = ("_written",)

    def __init__(self) -> None:
        self._written: dict[int, int] = {}

    def read(self, pa: int) -> int:
        return self._written.get(pa, pa)

    def write(self, pa: int, value: int) -> None:
        self._written[pa] = value


class Mmu:
    """What walks the table under test. `walk` is what the walker would find, `look` what it does."""

    __slots__ = ("_events", "_pool", "_read", "_registers")

    def __init__(self, registers: Registers, pool: PagePool, events: list[int]) -> None:
        self._registers = registers
        self._pool = pool
        self._read = _reader(pool)
        self._events = events

    def walk(self, address: int, access: Access) -> Translation | Fault:
        return translate(self._registers, self._read, address, access)

    def look(self, address: int, access: Access) -> Translation | Fault:
        """The same, and the access flag is set where the walker sets it."""
        found = self.walk(address, access)
        if isinstance(found, Translation) and found.access_flag is not None:
            pa, entry = found.access_flag
            entries = self._pool.table(pa)
            entries[pa // ENTRY_SIZE % len(entries)] = entry
            self._events.extend((WALKER_AF, pa, entry))
        return found


def _reader(pool: PagePool) -> Callable[[int], int | None]:
    def read(pa: int) -> int | None:
        try:
            entries = pool.table(pa)
        except WildAccess:
            return None
        return entries[pa // ENTRY_SIZE % len(entries)]

    return read


def mmu(run: ProgramRun) -> Mmu | None:
    """What walks this run's table; None where nothing can (`walkable`), or there is none."""
    registers = walkable(run)
    return None if registers is None else Mmu(registers, run.pool, run.boundary.events)


def walkable(run: ProgramRun) -> Registers | None:
    """The registers with which the hardware walks the table under test; None where there is none, or it cannot."""
    root = run.pgt.root
    if root is None:
        return None
    return registers_on(run.program.machine, run.fixed.vtcr, run.vtcr, run.pgt.start_level, root)


def registers_on(machine: Machine, of_cpu: int, vtcr: int, start_level: int, root: int) -> Registers | None:
    """The registers with which the hardware walks a table; None where it cannot: its pages lie elsewhere, or VTCR_EL2
    (TCR_EL2) is none that the architecture defines, KVM gives a VM and the emulated CPU takes. `of_cpu` is the VTCR_EL2
    of a VM on that CPU, `vtcr` that of this table."""
    if machine["pool_base"] != POOL_BASE:
        return None
    shift, lpa2 = machine.granule.shift, bool(machine["lpa2"])
    if lpa2 and shift == 16:
        return None
    most_bits = 52 if lpa2 or shift == 16 else 48
    if machine["stage"] == 1:
        bits = machine["va_bits"]
        if not _FEWEST_VA_BITS[shift] <= bits <= most_bits:
            return None
        e2h = bool(machine["hvhe"])
        ps = of_cpu >> 16 & 7  # the CPU's, whichever register it goes to
        tcr = 64 - bits | _IRGN_ORGN_WBWA_SH_INNER | _TG0[shift] << 14
        tcr |= ps << 32 | lpa2 << 59 if e2h else ps << 16 | lpa2 << 32
        return Stage1Registers(tcr, root, _MAIR, e2h)
    ia_bits = ia_bits_of(vtcr)
    pa_bits = _PS_BITS[vtcr >> 16 & 7]
    # KVM refuses a VM with more bits of IPA than PARange. QEMU 7.2 has no level 0 with 16K pages.
    if pa_bits > most_bits or ia_bits > pa_bits or (shift == 14 and start_level == 0):
        return None
    if not machine["ha"]:
        vtcr &= ~_VTCR_HA
    return Stage2Registers(vtcr, root, machine.forces_write_back)


def par_of(found: Translation | Fault) -> int:
    """PAR_EL1 of what a walk has found."""
    if isinstance(found, Fault):
        return syndromes.par_of_fault(found.status, found.stage)
    return syndromes.par(found.pa, found.memory, found.shareability)


def leaves_pool(found: Translation | Fault) -> bool:
    """Whether the walk came to a table that is no page of the pool."""
    return isinstance(found, Fault) and found.kind is FaultKind.EXTERNAL


_CLASSES: Final = {
    Access.READ: syndromes.DATA_ABORT,
    Access.WRITE: syndromes.DATA_ABORT,
    Access.EXEC: syndromes.INSTRUCTION_ABORT,
}


def read_through_stage1(run: ProgramRun, ipa: int) -> int:
    """A read by a vCPU that has a stage 1 of its own, which lies in the stub's page: whoever walks that reads there."""
    if ipa >= VCPU_REACH:
        return -errno.ENXIO
    return access_guest_memory(run, ipa, Access.READ, 0, has_stage1=True)[0]


def access_guest_memory(
    run: ProgramRun, ipa: int, access: Access, value: int, has_stage1: bool = False
) -> tuple[int, Abort | None]:
    """The guest's access to the piece of memory that `ipa` lies in, and the abort where stage 2 gives one: the results
    of `read`, `write` and `exec`, whose values go to the run's."""
    walker = mmu(run) if run.program.machine["guest"] else None
    if walker is None:
        return -errno.ENODEV, None
    piece = ipa & -PIECE
    address = piece if access is Access.EXEC else piece | DATA
    code, target = walker.walk(STUB, Access.EXEC), walker.walk(address, access)
    if leaves_pool(code) or leaves_pool(target):
        return -errno.ENXIO, None
    steps = (walker.walk(STUB, Access.READ), code) if has_stage1 else (code,)
    if any(isinstance(one, Translation) and one.pa != STUB for one in steps):
        return -errno.ENXIO, None
    if isinstance(target, Translation) and not WINDOW <= target.pa < WINDOW + WINDOW_SIZE:
        return -errno.ENXIO, None
    if has_stage1 and isinstance(table := walker.look(STUB, Access.READ), Fault):
        return -errno.EFAULT, _abort(run, table, STUB, Access.EXEC, on_walk=True)
    fetched = walker.look(STUB, Access.EXEC)
    if isinstance(fetched, Fault):
        return -errno.EFAULT, _abort(run, fetched, STUB, Access.EXEC)
    reached = walker.look(address, access)
    if isinstance(reached, Fault):
        return -errno.EFAULT, _abort(run, reached, address, access)
    if access is Access.WRITE:
        run.window.write(reached.pa, value)
    run.outs += (0, 0, run.window.read(reached.pa) if access is Access.READ else 0)
    return 0, None


def _abort(run: ProgramRun, fault: Fault, address: int, access: Access, on_walk: bool = False) -> Abort | None:
    """The outcome of an access that aborts, perhaps `on_walk` of stage 1; what the vCPU keeps of it. EL1 takes the
    faults of its own stage 1."""
    exception_class = _CLASSES[access] + (syndromes.SAME_LEVEL if fault.stage == 1 else 0)
    esr = syndromes.esr(exception_class, fault.status, access is Access.WRITE, on_walk)
    # HPFAR_EL2 is valid for these alone (Arm ARM, HPFAR_EL2): another permission fault leaves it UNKNOWN.
    has_ipa = fault.stage == 2 and (on_walk or fault.kind is not FaultKind.PERMISSION)
    run.outs += (esr, syndromes.hpfar(address) if has_ipa else 0, 0)
    return Abort(esr, address & -PIECE) if fault.stage == 2 else None
