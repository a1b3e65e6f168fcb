"""One thing in which two observations differ."""

from __future__ import annotations

from dataclasses import dataclass

from harness.observation.layout import Observation
from harness.verdict.tiers import Tier


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing in which the sides differ. `record` is the op's record (0: the implicit init), None where it is only
    known to hold at the end; `level` is the table level concerned, None where there is none."""

    tier: Tier
    record: int | None
    op: str
    what: str
    left: str
    right: str
    level: int | None = None

    @property
    def bucket(self) -> str:
        """What makes two divergences the same, in one word that suits a file name."""
        level = "" if self.level is None else f"-level{self.level}"
        return f"{self.tier.name.lower()}-{self.op}-{self.what}{level}".replace(" ", "_")


def last_op(observation: Observation) -> str:
    """The op that is named where something is only known to hold at the end."""
    return observation.records[-1].definition.name
