"""Tables that no entry points to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.model.handles import Made, Tree
from harness.program.kinds import UNLINKED
from pgtable import Stage2
from pgtable.pte import table_pte

if TYPE_CHECKING:
    from harness.model.run import ProgramRun


class UnlinkedTable(Made):
    """A table made for an entry of `level`; its own level is the next."""

    def __init__(self, stage2: Stage2, pa: int, level: int) -> None:
        self.pa = pa
        self.level = level
        self._stage2 = stage2

    def tree(self) -> Tree:
        return self.pa, 1, self.level + 1, 0

    def end(self) -> None:
        self._stage2.free_unlinked(self.pa, self.level)


def create_unlinked(run: ProgramRun, phys: int, level: int, prot: int, mc: int, force_pte: int) -> int:
    ret = run.fill_memcache(mc)
    if ret:
        return ret
    pa = run.stage2.create_unlinked(phys, level, prot, run.memcache(mc), bool(force_pte))
    if pa < 0:
        return pa
    run.outs.append(run.handles.keep(UNLINKED, UnlinkedTable(run.stage2, pa, level)))
    return 0


def free_unlinked(run: ProgramRun, table: UnlinkedTable) -> int:
    run.handles.end(table)
    table.end()
    return 0


def link(run: ProgramRun, ipa: int, table: UnlinkedTable) -> int:
    ret, pa = run.pgt.locate(ipa, table.level)
    if ret:
        return ret
    boundary = run.boundary
    boundary.write(pa, table_pte(boundary.address.to_pte(table.pa)))
    run.handles.end(table)
    return 0
