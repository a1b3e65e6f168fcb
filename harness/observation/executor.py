"""The executor protocol: what runs a program and tells what it observed. Any two executors can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from harness.observation.layout import Digest, Observation
from harness.program.capabilities import Capabilities
from harness.program.program import Program
from harness.verdict.invalidation import Call


@dataclass(frozen=True, slots=True)
class CrashReport:
    """How the code under test died. `kind` is `crash` or `hang`; `headline` is one line; `place` is the function that
    tells two such deaths apart: where it crashed, or the outermost one that hangs, for where in a loop it is found is
    chance. `details` is for people (registers, symbolised trace)."""

    kind: str
    headline: str
    place: str
    details: str


class TargetDied(Exception):
    """The code under test crashed or hung while `executor` ran a program. The executor starts afresh by itself."""

    def __init__(self, report: CrashReport, executor: Executor) -> None:
        super().__init__(report.headline)
        self.report = report
        self.executor = executor


class Executor(Protocol):
    """Runs programs, one at a time: `start` then `finish`, so that two executors can work at once; or `observe`.

    No state survives a program. `start` and `observe` raise BadInput for a program that asks for more than `offer`,
    `finish` and `observe` TargetDied when the code under test crashed or hung, and ToolFailure when the executor
    itself cannot go on.
    """

    @property
    def name(self) -> str:
        """Which side this is, as in `--sides`: `model:6.12`, `kernel:6.12`."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What exactly runs: versions and hashes, for reports. Sorted by key when written."""

    @property
    def capabilities(self) -> Capabilities:
        """What programs may ask of it."""

    def start(self, program: Program) -> None:
        """Begin to run `program`."""

    def finish(self) -> Digest:
        """The digest of what the started program's observation is."""

    def observe(self, program: Program) -> Observation:
        """Run `program` and return its whole observation."""

    def new_calls(self) -> Sequence[Call] | None:
        """Calls of TLB functions in what ran last that were not told before for a machine and a root like these; None
        from an executor that cannot tell without an observation."""

    def refresh(self) -> None:
        """Go on with a fresh target, as after a crash."""

    def close(self) -> None:
        """Release what the executor holds. It cannot be used afterwards."""
