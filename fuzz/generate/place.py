"""Where a step of a scenario plays, and the small things that steps of several families do there."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Final

from harness.program.definition import Op
from harness.program.granule import Granule, foreign_units
from harness.program.kinds import Handle
from harness.program.kinds.flags import MAP_FLAG_BITS, PROT_BITS
from harness.program.machine import DEFAULTS
from harness.program.ops import op_of
from harness.program.space import Space

RWX: Final = PROT_BITS["r"] | PROT_BITS["w"] | PROT_BITS["x"]
RW: Final = PROT_BITS["r"] | PROT_BITS["w"]
FAULT: Final = MAP_FLAG_BITS["handle_fault"] | MAP_FLAG_BITS["shared"]
_FAULT_FLAGS: Final = (0, 0, 0, 0, 0, FAULT, FAULT, MAP_FLAG_BITS["handle_fault"], MAP_FLAG_BITS["skip_cmo"])
"""What maps are done with: none, a fault handler's, and others."""
_FOREIGN: Final = 0.015
"""How many pages lie where another granule has a boundary."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step plays: at `ipa`, in a machine with such sizes of pages and blocks, whose memory lies at `memory`
    plus the intermediate address. `large` is a block of level 1 where there are such, else a step as far."""

    ipa: int
    page: int
    block: int
    large: int
    has_large_blocks: bool
    memory: int
    foreign: tuple[int, ...]
    """Boundaries of other granules within a block."""
    pages: int = 0
    """Where in a block the few pages lie that steps choose from, in bytes."""
    mapped: list[tuple[int, int]] = field(default_factory=list)
    """Addresses and sizes that the scenario has mapped; all its places share them, and only hyp's steps keep them."""
    cpus: int = DEFAULTS["cpus"]
    """How many the machine has."""
    loaded: set[int] = field(default_factory=set)
    """CPUs on which the scenario has left a vCPU loaded."""
    made: dict[Handle, int] = field(default_factory=dict)
    """How many handles of a kind the scenario has made so far."""

    @property
    def fits_large(self) -> bool:
        """Whether a block of level 1 may lie here."""
        return self.has_large_blocks and self.ipa % self.large == 0

    def make(self, kind: Handle) -> int:
        """The number that the next handle of that kind has in the scenario."""
        number = self.made.get(kind, 0)
        self.made[kind] = number + 1
        return number

    def next(self, step: int) -> Place:
        """Another place of the same scenario, so many bytes further."""
        return replace(self, ipa=self.ipa + step)


def place_in(space: Space, ipa: int, memory: int, large: int) -> Place:
    """The first place of a scenario; `memory` and `large` as there."""
    granule = space.granule
    return Place(ipa, space.page, space.block, large, granule.has_large_blocks, memory, _foreign(granule))


@cache
def _foreign(granule: Granule) -> tuple[int, ...]:
    return tuple(unit for unit in foreign_units(granule) if unit < granule.block)


def some_page(at: Place, choice: Random) -> int:
    """The address of a page in the block there: one of a few, so that steps meet."""
    if choice.random() < _FOREIGN:
        return at.ipa + choice.choice(at.foreign)
    return at.ipa + (at.pages + choice.choice((0, 1, 2, 3, -2, -1)) * at.page) % at.block


def map_op(at: Place, ipa: int, size: int, prot: int, choice: Random) -> Op:
    """Map [ipa, ipa + size) to the machine's memory, with a memcache that mostly lasts."""
    flags = choice.choice(_FAULT_FLAGS)
    return op_of(
        "map", ipa=ipa, size=size, phys=ipa + at.memory, prot=prot, mc=choice.choice((5, 5, 4, 3)), flags=flags
    )
