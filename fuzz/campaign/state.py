"""How far a campaign has come, for people and for whoever started it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.campaign.growth import Grown

ON_TIME: Final = "time"
INTERRUPTED: Final = "interrupted"
DISK: Final = "disk"
GAVE_UP: Final = "giving up"
FAILED: Final = "a failure"
"""Why a run ended. Of one that was killed nobody could say so."""


FUZZING: Final = "fuzzing"
WARM: Final = 30.0
"""Seconds of fuzzing until a process is as fast as it gets, about."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """For people: what a slot's process does, how it is, and how far it came, at which `rate` of late (executions per
    second)."""

    number: int
    what: str
    health: str
    executions: int
    seconds: float
    rate: float

    @property
    def is_warm(self) -> bool:
        """Whether it has been fuzzing for long enough that its rate says something."""
        return self.health == FUZZING and self.seconds >= WARM


@dataclass(frozen=True, slots=True)
class CampaignState:
    """How far a campaign has come. `at` is seconds of all its runs, `seconds` of this one, `left` until it ends;
    `rate` executions per second of late; `growth` what has grown, by the names of `fuzz.campaign.growth`, `remarks`
    what should be seen to."""

    at: float
    seconds: float
    left: float | None
    executions: int
    rate: float
    growth: Mapping[str, Grown]
    buckets: int
    known: int
    flaky: int
    incidents: int
    minimising: int
    slots: tuple[SlotState, ...]
    remarks: tuple[str, ...]
    compiling: str = ""
    """How far the compiling is that goes on behind the run; empty where none does."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and the campaign's findings by bucket, the shortest first, but for known ones."""

    ended: str
    state: CampaignState
    findings: dict[str, list[Path]]
