"""The places of the fuzzing processes, and what comes next in each: policy alone. Nothing here starts a process or
reads a clock; times are whatever the caller's clock says, in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

SOUND: Final = 60.0
"""Seconds after which the loss of a process is no longer put down to how it was started."""
LONGEST_WAIT: Final = 60.0
BARREN: Final = 4
"""Processes of a slot that end before their first program, one after the other, until it is hopeless."""
STRIKES: Final = 3
"""Processes that may be lost with the same input in flight until it is no longer run."""


@dataclass(slots=True)
class Slot:
    """The place of a fuzzing process, in which one follows another. `rotation` are the numbers of its comparisons."""

    number: int
    rotation: tuple[int, ...]
    turn: int = 0
    not_before: float = 0.0
    """When the next process may start."""
    losses: int = 0
    """Processes lost in a row."""
    barren: int = 0
    """Of these, those in a row that ended before their first program."""
    suspects: dict[bytes, int] = field(default_factory=dict)
    """Inputs that were in flight when a process was lost, and the number of the incident."""

    @property
    def comparison(self) -> int:
        """The number of what its process compares."""
        return self.rotation[self.turn % len(self.rotation)]

    @property
    def takes_turns(self) -> bool:
        """Whether its processes have to end, so that another comparison gets its turn."""
        return len(self.rotation) > 1

    @property
    def is_hopeless(self) -> bool:
        """Whether there is no sense in starting another process."""
        return self.barren >= BARREN

    def done(self) -> None:
        """Its process has finished what it was to do: the next comparison's turn."""
        self.turn += 1
        self.losses = self.barren = 0

    def lost(self, lived: float, now: float) -> None:
        """Its process was lost, after `lived` seconds of fuzzing. The next one of the same comparison waits: not at
        all at first, then ever longer."""
        self.losses = 1 if lived > SOUND else self.losses + 1
        self.barren = 0 if lived else self.barren + 1
        self.not_before = now + (0.0 if self.losses == 1 else min(LONGEST_WAIT, 2.0 ** (self.losses - 2)))


class Slots:
    """The slots of `workers`, among whom so many comparisons are divided: each has one where there are enough workers,
    and takes turns with several where there are fewer."""

    def __init__(self, comparisons: int, workers: int) -> None:
        self._slots = [
            Slot(
                number,
                (number % comparisons,) if workers >= comparisons else tuple(range(number, comparisons, workers)),
            )
            for number in range(workers)
        ]
        self._begun: set[int] = set()
        self._strikes: Counter[bytes] = Counter()

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._slots)

    def begin(self, slot: Slot) -> bool:
        """A process starts in the slot; whether it is the first of its comparison, which replays the corpora."""
        first = slot.comparison not in self._begun
        self._begun.add(slot.comparison)
        return first

    def suspect(self, slot: Slot, data: bytes, incident: int) -> bool:
        """The input was in flight when the slot's process was lost, so the next one tries it first and alone. False
        where it was in flight too often: then it is not to be run again, and not held against the slot."""
        self._strikes[data] += 1
        if self._strikes[data] < STRIKES:
            slot.suspects[data] = incident
            return True
        slot.suspects.pop(data, None)
        slot.barren = 0
        return False
