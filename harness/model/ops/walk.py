"""Walks of the program's own, which record what they visit, and may do something there."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from harness.program.kinds.entries import PLANTED_NAMES, VISITOR_BITS, VISITORS
from harness.program.space import U64_MAX
from pgtable import Walk
from pgtable.geometry import LAST_LEVEL

if TYPE_CHECKING:
    from harness.model.run import ProgramRun

_ENTRIES: Final = {"clear": 0, "lock": PLANTED_NAMES["locked"], "table": PLANTED_NAMES["table"]}
_ERRORS: Final = {
    "eagain": errno.EAGAIN,
    "enomem": errno.ENOMEM,
    "einval": errno.EINVAL,
    "e2big": errno.E2BIG,
}


def walk(run: ProgramRun, ipa: int, size: int, flags: int, visitor: int) -> int:
    visits = _Visits(run, visitor)
    if visits.action:
        return run.pgt.visit(ipa, size, flags, visits.record_and_act)
    return run.pgt.walk(ipa, size, flags, visits.record)


class _Visits:
    """The visits of one walk."""

    __slots__ = ("_boundary", "_nth", "_outs", "_seen", "action")

    def __init__(self, run: ProgramRun, visitor: int) -> None:
        self.action = visitor & (1 << VISITOR_BITS) - 1
        """What the visitor does besides recording, and at which visit; 0 for every one."""
        self._nth = visitor >> VISITOR_BITS
        self._seen = 0
        self._boundary, self._outs = run.boundary, run.outs

    def record(self, visit: int, level: int, addr: int, entry: int) -> int:
        """A visitor that only looks."""
        self._boundary.spend()
        self._outs.extend((visit, level & U64_MAX, addr, entry))
        return 0

    def record_and_act(self, walk: Walk, visit: int) -> int:
        """A visitor that acts."""
        self.record(visit, walk.level, walk.addr, walk.old)
        self._seen += 1
        return 0 if self._nth and self._nth != self._seen else self._act(walk.level, walk.pa)

    def _act(self, level: int, pa: int) -> int:
        """What a visitor does, standing on the entry of that level at `pa`; and what it returns."""
        name = VISITORS[self.action]
        if name in _ERRORS:
            return -_ERRORS[name]
        if name != "table" or level != LAST_LEVEL:
            self._boundary.plant(pa, level, _ENTRIES[name])
        return 0
