"""What a guest's hardware makes of the table."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from harness.model.abort import Handler, Memory
from harness.model.guest import access_guest_memory, leaves_pool, mmu, par_of
from pgtable import Access

if TYPE_CHECKING:
    from harness.model.run import ProgramRun

_ACCESSES: Final = (Access.READ, Access.WRITE, Access.EXEC)
"""In the order of the kind `ACCESS`."""


def probe(run: ProgramRun, ipa: int) -> int:
    walker = mmu(run)
    if walker is None:
        return -errno.ENODEV
    found = walker.look(ipa, Access.READ)
    if leaves_pool(found):
        return -errno.ENXIO
    run.outs += (par_of(found), par_of(walker.look(ipa, Access.WRITE)))
    return 0


def read(run: ProgramRun, ipa: int) -> int:
    return access_guest_memory(run, ipa, Access.READ, 0)[0]


def write(run: ProgramRun, ipa: int, value: int) -> int:
    return access_guest_memory(run, ipa, Access.WRITE, value)[0]


def exec(run: ProgramRun, ipa: int) -> int:
    return access_guest_memory(run, ipa, Access.EXEC, 0)[0]


def fault(run: ProgramRun, ipa: int, access: int) -> int:
    ret, run.abort = access_guest_memory(run, ipa, _ACCESSES[access], 0)
    return ret


def handle(
    run: ProgramRun, phys: int, backing: int, hva: int, thp: int, logging: int, readonly: int, device: int
) -> int:
    if mmu(run) is None or not run.program.machine["guest"]:
        return -errno.ENODEV
    if run.abort is None:
        return -errno.ENOENT
    handler = Handler(run, run.abort, Memory(phys, backing, hva, thp, logging, readonly, device))
    ret = handler.run()
    run.boundary.end_op()
    run.outs += (handler.size, int(handler.topped_up), handler.added, handler.used)
    return ret
