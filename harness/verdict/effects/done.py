"""What one op does on one side: entries that go and come, invalidations, maintenance."""

from __future__ import annotations

from typing import Final, NamedTuple

from harness.observation.tlbi import Invalidation, Target
from harness.program.definition import OpDef
from harness.program.machine import Machine
from harness.program.ops import INIT
from harness.verdict.effects.maintained import EVERYTHING, NEVER, Maintained
from harness.verdict.trees import Place, Table

XN: Final = 0b11 << 53
NEVER_EXECUTED: Final = 0b10 << 53


class Region(NamedTuple):
    """What one invalidation reaches: entries of either stage, of a level (None: of all)."""

    stage_1: bool
    stage_2: bool
    start: int
    end: int
    level: int | None
    everywhere: bool


class Break:
    """A store that takes something out of the hardware's sight. `at` is None where there was none: a table was freed as
    it was."""

    __slots__ = ("at", "is_direct", "made", "made_number", "number")

    def __init__(self, at: int | None, number: int, is_direct: bool = False) -> None:
        self.at = at
        self.number = number
        self.is_direct = is_direct
        """Without an invalid entry in between."""
        self.made: int | None = None
        self.made_number = 0


class Gone(NamedTuple):
    """A valid entry that went. `child` is the table that it pointed to; `is_weaker` says that only permissions
    changed."""

    place: Place
    entry: int
    child: Table | None
    cause: Break
    is_weaker: bool = False


class Made(NamedTuple):
    """A leaf that came. `is_stronger` says that its memory could be reached before, but not executed from."""

    place: Place
    entry: int
    at: int
    number: int
    is_stronger: bool


class Tlbi:
    """One invalidation of stage 2, or of hyp's stage 1: the latest barrier for stores before it, and the first behind
    it that waits for it."""

    __slots__ = ("after", "at", "before", "everywhere", "number", "what")

    def __init__(self, at: int, number: int, before: int, everywhere: bool, what: Invalidation) -> None:
        self.at = at
        self.number = number
        self.before = before
        self.after: int | None = None
        self.everywhere = everywhere
        self.what = what


class Effects:
    """What one op came to on one side."""

    def __init__(self, machine: Machine, definition: OpDef = INIT) -> None:
        self.machine = machine
        self.definition = definition
        self.is_stage_1 = machine["stage"] == 1
        self.gone: list[Gone] = []
        self.made: list[Made] = []
        self.links: list[tuple[Place, bool, int]] = []
        """Tables linked: where, whether their contents were visible, and by which event."""
        self.breaks: dict[Place, Break] = {}
        """The last of each entry that is not valid again."""
        self.tlbis: list[Tlbi] = []
        self.dcache, self.icache = Maintained(), Maintained()
        self.ics: set[int] = set()
        self.stores = 0
        """To entries that the hardware can reach."""
        self.last_made, self.last_made_number = NEVER, 0
        self.last_barrier = self.last_isb = NEVER

    def regions(self) -> set[Region]:
        """What was invalidated, and waited for."""
        found, page = set(), self.machine.granule.page
        for one in self.tlbis:
            what = one.what
            if what.flaw is None and one.after is not None:
                start, size = (0, EVERYTHING) if what.start is None else (what.start, what.size or page)
                target, level = what.operation.target, what.level
                is_stage_1 = target is not Target.STAGE_2
                is_stage_2 = target not in (Target.STAGE_1, Target.STAGE_1_OF_VMID)
                found.add(Region(is_stage_1, is_stage_2, start, start + size, level, one.everywhere))
        return found


NO_TABLE: Final = Table(NEVER)
"""Of an entry that points to a table which has been freed already, or is none of ours."""
