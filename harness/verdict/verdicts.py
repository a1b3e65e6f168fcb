"""What a judge says of a program: what it suspects, what it is sure of, and what it cannot tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from harness.observation.execution import Feedback
from harness.observation.executor import CrashReport
from harness.observation.layout import Observation
from harness.verdict.aborts import AbortProblem
from harness.verdict.compare.difference import Difference
from harness.verdict.cuts import Cut
from harness.verdict.invalidation import Problem
from harness.verdict.tlb.problems import StaleProblem

if TYPE_CHECKING:
    from harness.verdict.contracts.contract import Violation


BOTH_SIDES: Final = "both sides"
"""Blamed where they break a promise alike."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is wrong with one program.

    `kind` is `divergence`, `crash`, `hang`; `flood`: one side goes on and on where the other has long finished, and
    `cut` says where; or `emulator`: the hardware differs from the model where all else is the same. Even if the sides
    agree, it may be `invalidation`: a TLB function does not do what it was called for, and `problem` says what;
    `stale`: a TLB may hold what it must not, and `stale` says what; or `abort`: a guest's abort is not handled as its
    rule has it, and `abort` says why; or `contract`: a promise is broken, and `broken` says which.

    `record` is the record (0: the implicit init) after which the sides first differ, or that the problem is in. Of the
    observations, that of a side that died is missing; those kept are of the program up to `record`, where everything is
    smallest. `blamed` is the side, or the emulator, that a judge of one side objects to. `confirmed` is on how many
    fresh pairs of targets it was so.
    """

    kind: str
    bucket: str
    record: int
    difference: Difference | None
    left: Observation | None
    right: Observation | None
    died: CrashReport | None = None
    died_side: str | None = None
    problem: Problem | None = None
    cut: Cut | None = None
    stale: StaleProblem | None = None
    abort: AbortProblem | None = None
    broken: Violation | None = None
    blamed: str = ""
    confirmed: int = field(default=0, compare=False)

    @property
    def is_shared(self) -> bool:
        """Whether both sides do it alike: it is told and kept, but is nothing that one of them brought."""
        return self.blamed == BOTH_SIDES


@dataclass(frozen=True, slots=True)
class Suspicion:
    """What seems to be wrong with a program, seen on the targets as they were: `what` it is in a few words, mostly the
    bucket of the verdict to come, and the `sighting` itself."""

    what: str
    sighting: Verdict


@dataclass(frozen=True, slots=True)
class Inconclusive:
    """Nothing was wrong until the `cut`; what lies behind it cannot be told with the program's budget."""

    cut: Cut


@dataclass(frozen=True, slots=True)
class Judged:
    """What came of it that the hardware judged a program: why it could not translate for it (None: it could), how many
    accesses the guest made, and how many of them may have gone through what a TLB still held."""

    unprobed: str | None
    accesses: int
    maybe_stale: int


class FirstLook:
    """What a program showed on the targets as they were."""

    __slots__ = ("feedback", "is_same", "judged", "known", "suspicion", "witnessed")

    def __init__(self) -> None:
        self.suspicion: Suspicion | Inconclusive | None = None
        """None when the sides agree."""
        self.feedback: Feedback | None = None
        """Of the side that told; None where none does, or one died."""
        self.known: tuple[str, ...] = ()
        """`KnownProblem.key` of each call that was not met before and goes wrong in a way that is known of its side's
        Linux; `KnownDefect.key` of each translation that differs as is known of its QEMU."""
        self.is_same = False
        """Whether both sides observed the same, word by word."""
        self.witnessed = False
        """Whether a side saw an access go through a stale translation."""
        self.judged: Judged | None = None
        """None where the hardware was not asked."""


class Unconfirmed(Exception):
    """The sides differed or one died, but not every time: flaky, or the environment's fault. The message says what was
    seen, `sighting` has the state that differed; `outcomes` are the buckets on fresh targets, None for agreement."""

    def __init__(self, seen: str, sighting: Verdict, outcomes: Sequence[str | None]) -> None:
        super().__init__(seen)
        self.sighting = sighting
        self.outcomes = tuple(outcomes)
