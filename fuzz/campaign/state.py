"""How far a campaign has come, for people and for whoever started it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

ON_TIME: Final = "time"
INTERRUPTED: Final = "interrupted"
DISK: Final = "disk"
GAVE_UP: Final = "giving up"
FAILED: Final = "a failure"
"""Why a run ended. Of one that was killed nobody could say so."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """For people: what a slot's process does, how it is, and how far it came."""

    number: int
    what: str
    health: str
    executions: int
    seconds: float


@dataclass(frozen=True, slots=True)
class CampaignState:
    """How far a campaign has come. `at` is seconds of all its runs, `seconds` of this one, `left` until it ends;
    `rate` executions per second of late. `edges` are (reached, of) for every kernel image and side."""

    at: float
    seconds: float
    left: float | None
    executions: int
    rate: float
    inputs: int
    edges: tuple[tuple[int, int], ...]
    model_lines: tuple[int, int]
    buckets: int
    known: int
    flaky: int
    incidents: int
    minimising: int
    slots: tuple[SlotState, ...]
    compiling: str = ""
    """How far the compiling is that goes on behind the run; empty where none does."""


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended, and the campaign's findings by bucket, the shortest first, but for known ones."""

    ended: str
    state: CampaignState
    findings: dict[str, list[Path]]
