"""The emulator as a suspect: where both tables are the same, bit by bit, and the hardware makes of them something else
than the model does, the code under test has no part in it. Either QEMU's walker is wrong, or what the model takes from
the Arm ARM is.

What is known to be wrong in a version of QEMU is listed, each as narrow as it is known, and no finding.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from harness.amounts import counted
from harness.observation.events import WALKER_AF
from harness.observation.layout import EVENT_WORDS, Observation, Record
from harness.program.definition import Op
from harness.program.machine import Machine
from harness.program.program import Program
from harness.verdict.compare.difference import Difference
from harness.verdict.tiers import Tier

_ANSWERS: Final = (0, -errno.EFAULT)
"""Results of an op that the hardware has answered; others come from walks of the two sides' own."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What the two sides saw of one op that asks the hardware."""

    machine: Machine
    op: Op
    told: tuple[int, ...]
    """Out-values of the side without an emulator; then of the one with it."""
    emulated: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class KnownDefect:
    """One defect of some versions of QEMU, by the beginnings of their numbers. `what` is short and stable, `shows`
    whether a sight is of it; `reason` says what is wrong, `section` of the Arm ARM (DDI 0487) what would be right."""

    versions: tuple[str, ...]
    what: str
    shows: Callable[[Sight], bool]
    reason: str
    section: str

    @property
    def key(self) -> str:
        """In counts: `QEMU at-reports-level`."""
        return f"QEMU {self.what}"

    def mention(self, count: int) -> str:
        """A line about so many translations that differed."""
        where = f"{self.what} in {counted(count, 'program')}"
        return f"known of QEMU {' and '.join(self.versions)}, no finding: {where}: {self.reason} ({self.section})"


DEFECTS: Final[tuple[KnownDefect, ...]] = ()


def emulator_of(identity: Mapping[str, str]) -> str:
    """The version of QEMU that a side's identity tells of; empty for one without."""
    words = identity.get("qemu", "").split()
    return next((word for word in words if word[:1].isdigit()), "")


def the_emulator(left: Mapping[str, str], right: Mapping[str, str]) -> tuple[int, str] | None:
    """Which of two sides runs in an emulator (0: left, 1: right), by their identities, and its version; None where it
    is both or neither, and so no suspect."""
    versions = emulator_of(left), emulator_of(right)
    return None if bool(versions[0]) == bool(versions[1]) else (int(bool(versions[1])), max(versions))


def known_defect(sight: Sight, version: str) -> KnownDefect | None:
    """What the sight is known as in that version of QEMU."""
    return next((one for one in DEFECTS if version.startswith(one.versions) and one.shows(sight)), None)


def known_difference(
    program: Program, found: Difference, left: Observation, right: Observation, emulator: tuple[int, str]
) -> KnownDefect | None:
    """What a difference between two observations of a program is known as; `emulator` is as `the_emulator` says."""
    if found.tier is not Tier.TRANSLATION or not found.record:
        return None
    outs = [side.records[found.record].outs for side in (left, right)]
    at, version = emulator
    return known_defect(Sight(program.machine, program.ops[found.record - 1], outs[1 - at], outs[at]), version)


def differs_by_hardware_alone(left: Observation, right: Observation) -> bool:
    """Whether all that two observations of a program differ in is what the hardware has answered to its last op:
    everything else is the same, bit by bit, the tables too."""
    mine, theirs = left.records[-1], right.records[-1]
    if not mine.definition.asks_hardware or len(left.records) != len(right.records):
        return False
    if mine.ret not in _ANSWERS or theirs.ret not in _ANSWERS:
        return False
    same_before = left.records[:-1] == right.records[:-1]
    return same_before and _asked(mine) == _asked(theirs) and _state(left) == _state(right)


def _asked(record: Record) -> Record:
    """The record without the hardware's answer: results, and access flags that its walker has set."""
    events = record.events
    rest = [events[at : at + EVENT_WORDS] for at in range(0, len(events), EVENT_WORDS) if events[at] != WALKER_AF]
    return replace(record, ret=0, outs=(), events=tuple(word for event in rest for word in event))


def _state(side: Observation) -> tuple[object, ...]:
    return side.final_complaints, side.roots, side.allocs, side.frees, side.caches, side.pages
