from __future__ import annotations

from dataclasses import dataclass

from harness.observation.layout import Observation


@dataclass(frozen=True, slots=True)
class StaleProblem:
    """A stub."""

    record: int
    what: str
    text: str
    section: str


def stale_problems(observation: Observation) -> list[StaleProblem]:
    """A stub."""
    return []
