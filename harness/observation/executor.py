"""The executor protocol: what runs a program and tells what it observed. Any two executors can be compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from harness.observation.execution import Execution
from harness.observation.layout import Observation
from harness.program.capabilities import Capabilities
from harness.program.program import Program


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

    @property
    def gives_feedback(self) -> bool:
        """Whether its executions come with feedback."""

    def start(self, program: Program) -> None:
        """Begin to run `program`."""

    def finish(self) -> Execution:
        """What is told of the started program, once it has run."""

    def observe(self, program: Program) -> Observation:
        """Run `program` and return its whole observation."""

    def refresh(self) -> None:
        """Go on with a fresh target, as after a crash."""

    def close(self) -> None:
        """Release what the executor holds. It cannot be used afterwards."""
