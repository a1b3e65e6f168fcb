"""The table under test: its life, its mappings and their attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from harness.program.guest import STUB
from harness.program.space import U64_MAX
from pgtable import Prot, leaf_prot
from pgtable.geometry import LAST_LEVEL

if TYPE_CHECKING:
    from harness.model.run import ProgramRun

_RX: Final = int(Prot.R | Prot.X)


def init(run: ProgramRun) -> int:
    table = run.pgt
    ret = table.init()
    if ret == 0:
        if table.root is not None and run.vtcr:
            run.rooted(table.root)
        if run.program.machine["guest"] and run.vtcr:
            ret = _map_stub(run)
            if ret:
                return ret
        run.outs += (run.vtcr, table.ia_bits, table.start_level & U64_MAX, table.root_pages)
        if table.start_level <= LAST_LEVEL:
            run.boundary.shape.tables[table.start_level] += 1
    return ret


def _map_stub(run: ProgramRun) -> int:
    """Map the page of the guest's code, with all the tables that it takes."""
    table, page = run.stage2, run.program.machine.granule.page
    ret = run.cache.topup(run.pool, LAST_LEVEL - table.start_level)
    return ret or table.map(STUB, page, STUB, _RX, run.cache, 0)


def map(run: ProgramRun, ipa: int, size: int, phys: int, prot: int, mc: int, flags: int) -> int:
    return run.fill_memcache(mc) or run.stage2.map(ipa, size, phys, prot, run.memcache(mc), flags)


def unmap(run: ProgramRun, ipa: int, size: int) -> int:
    return run.stage2.unmap(ipa, size)


def set_owner(run: ProgramRun, ipa: int, size: int, mc: int, owner: int) -> int:
    return run.fill_memcache(mc) or run.stage2.set_owner(ipa, size, run.memcache(mc), owner)


def get_leaf(run: ProgramRun, ipa: int) -> int:
    ret, entry, level = run.pgt.get_leaf(ipa)
    if ret == 0:
        run.outs += (entry, level & U64_MAX)
    return ret


def destroy(run: ProgramRun) -> int:
    run.pgt.destroy()
    return 0


def wrprotect(run: ProgramRun, ipa: int, size: int) -> int:
    return run.stage2.wrprotect(ipa, size)


def mkyoung(run: ProgramRun, ipa: int) -> int:
    run.outs.append(run.stage2.mkyoung(ipa))
    return 0


def test_clear_young(run: ProgramRun, ipa: int, size: int, mkold: int) -> int:
    run.outs.append(run.stage2.test_clear_young(ipa, size, bool(mkold)))
    return 0


def mkold(run: ProgramRun, ipa: int) -> int:
    run.outs.append(run.stage2.mkold(ipa))
    return 0


def is_young(run: ProgramRun, ipa: int) -> int:
    run.outs.append(run.stage2.is_young(ipa))
    return 0


def relax_perms(run: ProgramRun, ipa: int, prot: int) -> int:
    return run.stage2.relax_perms(ipa, prot)


def flush(run: ProgramRun, ipa: int, size: int) -> int:
    return run.stage2.flush(ipa, size)


def pte_prot(run: ProgramRun, pte: int) -> int:
    run.outs.append(leaf_prot(pte))
    return 0


def split(run: ProgramRun, ipa: int, size: int, mc: int) -> int:
    return run.split_cache.topup(run.pool, mc) or run.stage2.split(ipa, size, run.split_cache)
