"""Executors that go wrong on purpose, all of them models: for tests of what happens then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from harness.errors import BadInput
from harness.model.executor import Model
from harness.observation.execution import Execution
from harness.observation.executor import CrashReport, TargetDied
from harness.observation.layout import Observation
from harness.program.program import Program


class AnyOwner(Model):
    """Accepts owner ids that the real one refuses: wrong results."""

    def __init__(self) -> None:
        super().__init__()
        self.version = replace(self.version, name="any-owner", max_owner_id=255)


class Patched(Model):
    """Runs with one attribute of `pgtable` replaced, while it runs."""

    def __init__(self, target: Any, name: str, value: Any, version: str = "6.12") -> None:
        super().__init__(version)
        self._patch = (target, name, value)

    def finish(self) -> Execution:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*self._patch)
            return super().finish()

    def observe(self, program: Program) -> Observation:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*self._patch)
            return super().observe(program)


class OneOff(AnyOwner):
    """Wrong until it is refreshed."""

    def refresh(self) -> None:
        super().refresh()
        self.version = Model().version


class Dying(Model):
    """Crashes or hangs in a program that has a certain op; `once` leaves it at one death."""

    def __init__(self, op: str, kind: str = "crash", once: bool = False) -> None:
        super().__init__()
        self._op = op
        place = "stage2_unmap_walker"
        self._report = CrashReport(kind, f"data abort on read in {place}", place, "x0 0\nx1 1")
        self._once = once

    @property
    def name(self) -> str:
        return "kernel:dying"

    def finish(self) -> Execution:
        assert self._program is not None
        self._die_in(self._program)
        return super().finish()

    def observe(self, program: Program) -> Observation:
        self._die_in(program)
        return super().observe(program)

    def _die_in(self, program: Program) -> None:
        if any(op.name == self._op for op in program.ops):
            if self._once:
                self._op = "none"
            raise TargetDied(self._report, self)


class DyingIf(Model):
    """Crashes in a program for which `is_deadly` holds, and refuses those for which `is_refused` does."""

    def __init__(
        self,
        is_deadly: Callable[[Program], bool],
        is_refused: Callable[[Program], bool] = lambda _: False,
        version: str = "6.12",
    ) -> None:
        super().__init__(version)
        self._is_deadly = is_deadly
        self._is_refused = is_refused

    def start(self, program: Program) -> None:
        if self._is_refused(program):
            raise BadInput("refused")
        super().start(program)

    def finish(self) -> Execution:
        assert self._program is not None
        self._die_in(self._program)
        return super().finish()

    def observe(self, program: Program) -> Observation:
        self._die_in(program)
        return super().observe(program)

    def _die_in(self, program: Program) -> None:
        if self._is_deadly(program):
            report = CrashReport("crash", "data abort on read in some_function", "some_function", "")
            raise TargetDied(report, self)


class Rewriting(Model):
    """Runs another program than it was given, of as many ops: a kernel that is wrong in its own way."""

    def __init__(self, rewrite: Callable[[Program], Program]) -> None:
        super().__init__()
        self._rewrite = rewrite

    def start(self, program: Program) -> None:
        super().start(self._rewrite(program))
