"""What is compared, in tiers."""

from __future__ import annotations

import enum
from typing import Final

from harness.errors import BadInput


class Tier(enum.IntEnum):
    """What is compared, in this order. EVENTS holds WARNs and UBSan reports as well as the boundary events; what TLB
    functions do once they are called is INSTRUCTIONS. EFFECTS is for sides that are meant to differ in both: what the
    events of an op come to, in whatever order (`harness.verdict.effects.replay`). TRANSLATION is what the hardware
    makes of the tables: results of ops that ask it, which are not among the RESULTS."""

    RESULTS = 1
    TABLES = 2
    ACCOUNTING = 3
    TRANSLATION = 4
    EVENTS = 5
    INSTRUCTIONS = 6
    EFFECTS = 7


ALL_TIERS: Final = frozenset(Tier)
DEFAULT_TIERS: Final = ALL_TIERS - {Tier.EFFECTS}
"""What is compared unless somebody says otherwise: equal events have equal effects."""
ORDERED_TIERS: Final = frozenset({Tier.EVENTS, Tier.INSTRUCTIONS})
"""In which one event sooner or later is a difference."""
ORDER_EXPECTED: Final = ALL_TIERS - ORDERED_TIERS
"""For a change that is to alter the order and the number of events, but nothing that they come to."""


def parse_tiers(text: str) -> frozenset[Tier]:
    """Tiers as people write them: `results,tables`. Raises BadInput."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name.upper() not in Tier.__members__ or not name.islower():
            raise BadInput(f"`{name}` is not a tier: expected some of {format_tiers(ALL_TIERS)}")
    return frozenset(Tier[name.upper()] for name in names)


def format_tiers(tiers: frozenset[Tier]) -> str:
    """What `parse_tiers` reads."""
    return ",".join(tier.name.lower() for tier in sorted(tiers))
