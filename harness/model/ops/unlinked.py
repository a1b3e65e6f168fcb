"""Tables that no entry points to."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pgtable.pte import table_pte

if TYPE_CHECKING:
    from harness.model.run import ProgramRun


def create_unlinked(run: ProgramRun, phys: int, level: int, prot: int, mc: int, force_pte: int) -> int:
    number = run.unlinked_made
    run.unlinked_made += 1
    ret = run.fill_memcache(mc)
    if ret:
        return ret
    table = run.stage2.create_unlinked(phys, level, prot, run.memcache(mc), bool(force_pte))
    if table < 0:
        return table
    run.unlinked[number] = table, level
    run.outs.append(number)
    return 0


def free_unlinked(run: ProgramRun, table: int) -> int:
    if table not in run.unlinked:
        return -errno.EBADF
    run.stage2.free_unlinked(*run.unlinked.pop(table))
    return 0


def link(run: ProgramRun, ipa: int, table: int) -> int:
    if table not in run.unlinked:
        return -errno.EBADF
    child, level = run.unlinked[table]
    ret, pa = run.pgt.locate(ipa, level)
    if ret:
        return ret
    boundary = run.boundary
    boundary.write(pa, table_pte(boundary.address.to_pte(child)))
    del run.unlinked[table]
    return 0
