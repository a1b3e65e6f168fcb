"""Memory slots as user space changes them, and aborts that are handled with what lies in one."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from harness.model.abort import Handler, Memory
from harness.model.guest import mmu
from harness.model.memslots import Region
from harness.program.kinds import BACKING
from harness.program.machine import KNOBS_BY_NAME

if TYPE_CHECKING:
    from harness.model.run import ProgramRun

_HOSTS: Final = KNOBS_BY_NAME["kvm_mode"].names.index("pkvm_host")
_PAGE: Final = BACKING.words.index("page")


def _refused(run: ProgramRun) -> int:
    """What any of these ops is refused for."""
    if run.program.machine["kvm_mode"] == _HOSTS:
        return -errno.EOPNOTSUPP
    if run.several_mmus().first.table.root is None:
        return -errno.EINVAL
    return -errno.EFBIG if run.memslots().takes_too_long else 0


def memslot_add(
    run: ProgramRun, slot: int, ipa: int, size: int, phys: int, backing: int, logging: int, readonly: int
) -> int:
    return _refused(run) or run.memslots().change(slot, Region(ipa, size, phys, backing, bool(logging), bool(readonly)))


def memslot_remove(run: ProgramRun, slot: int) -> int:
    region = None if _refused(run) else _region(run, slot)
    return _refused(run) or _changed(run, slot, region and region._replace(size=0))


def memslot_move(run: ProgramRun, slot: int, ipa: int) -> int:
    region = None if _refused(run) else _region(run, slot)
    return _refused(run) or _changed(run, slot, region and region._replace(ipa=ipa))


def memslot_log(run: ProgramRun, slot: int, logging: int) -> int:
    region = None if _refused(run) else _region(run, slot)
    return _refused(run) or _changed(run, slot, region and region._replace(is_logged=bool(logging)))


def _region(run: ProgramRun, slot: int) -> Region | None:
    one = run.memslots().get(slot)
    return None if one is None else one.region


def _changed(run: ProgramRun, slot: int, region: Region | None) -> int:
    return -errno.EINVAL if region is None else run.memslots().change(slot, region)


def memslot_flush(run: ProgramRun, slot: int) -> int:
    ret = _refused(run)
    if ret:
        return ret
    one = run.memslots().get(slot)
    if one is None:
        return -errno.EINVAL
    run.memslots().flush_shadow(one)
    return 0


def memslot_unmap(run: ProgramRun, ipa: int, size: int) -> int:
    return _refused(run) or run.memslots().take_away(ipa, size)


def memslot_age(run: ProgramRun, ipa: int, size: int, flush: int) -> int:
    refused = _refused(run)
    ret, young = (refused, False) if refused else run.memslots().age(ipa, size, bool(flush))
    run.outs.append(int(young))
    return ret


def memslot_test_age(run: ProgramRun, ipa: int, size: int) -> int:
    refused = _refused(run)
    ret, young = (refused, False) if refused else run.memslots().test_age(ipa, size)
    run.outs.append(int(young))
    return ret


def memslot_mode(run: ProgramRun, logging: int, split: int) -> int:
    return _refused(run) or run.memslots().set_mode(logging, bool(split))


def memslot_dirty(run: ProgramRun, slot: int) -> int:
    refused = _refused(run)
    ret, pages = (refused, 0) if refused else run.memslots().read(slot)
    run.outs.append(pages)
    return ret


def memslot_clear(run: ProgramRun, slot: int, first: int, pages: int) -> int:
    refused = _refused(run)
    ret, cleared = (refused, 0) if refused else run.memslots().clear(slot, first, pages)
    run.outs.append(cleared)
    return ret


def memslot_handle(run: ProgramRun, l1: int) -> int:
    refused = _refused(run)
    if refused:
        return refused
    if mmu(run) is None or not run.program.machine["guest"]:
        return -errno.ENODEV
    if run.abort is None:
        return -errno.ENOENT
    page = run.fixed.geometry.page_size
    is_nested = run.stage2 is not run.several_mmus().first.table
    ipa = (l1 if is_nested else run.abort.ipa) & -page
    slots = run.memslots()
    slot = slots.at(ipa)
    if slot is None:
        return -errno.EFAULT
    region = slot.region
    phys = region.phys + ipa - region.ipa
    backing = _PAGE if is_nested else slots.backing_of(slot, ipa)
    hva = (phys - ipa) // page
    memory = Memory(phys, backing, hva, 0, int(slot.is_logging), int(region.is_readonly), 0)
    handler = Handler(run, run.abort, memory)
    ret = handler.run()
    run.boundary.end_op()
    dirty = handler.is_writable and slots.mark(slot, ipa)
    run.outs += (handler.size, int(handler.topped_up), handler.added, handler.used, int(dirty))
    return ret
