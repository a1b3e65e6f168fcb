"""Inside a fuzzing process: give it inputs that were recorded, switch the reference off if asked, and measure.

The process's own mutator still runs, on inputs before, and its result is thrown away: so both sides of the
comparison do all the work of fuzzing, on the same programs.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import atheris


def install(plan: dict[str, Any]) -> None:
    """Have atheris.Setup measure `executions` of the `inputs`, write what it took to `out`, and end the run."""
    setup = atheris.Setup

    def measured_setup(arguments: list[str], target: Callable[[bytes], None], **keywords: Any) -> Any:
        if not plan["reference"]:
            _switch_reference_off()
        feed = _Feed(plan, keywords["custom_mutator"], keywords["custom_crossover"])

        def counted(data: bytes) -> None:
            feed.executions += 1
            target(data)

        return setup(arguments, counted, custom_mutator=feed.mutate, custom_crossover=feed.cross)

    atheris.Setup = measured_setup


class _Feed:
    """Stands in for mutator and crossover, of which libFuzzer asks one before each execution."""

    def __init__(self, plan: dict[str, Any], mutate: Callable[..., bytes], cross: Callable[..., bytes]) -> None:
        self.inputs = [bytes.fromhex(line) for line in Path(plan["inputs"]).read_text().split("\n") if line]
        self.first = plan["executions"] // 10
        """Input at which measuring begins: the target is warm."""
        self.last = self.first + plan["executions"]
        self.out = Path(plan["out"])
        self.own_mutate = mutate
        self.own_cross = cross
        self.given = 0
        self.executions = 0
        self.begun: dict[str, float] = {}

    def mutate(self, _data: bytes, max_size: int, seed: int) -> bytes:
        self.own_mutate(self._input(0)[:max_size], max_size, seed)
        return self._next()[:max_size]

    def cross(self, _first: bytes, _second: bytes, max_size: int, seed: int) -> bytes:
        self.own_cross(self._input(0), self._input(-1), max_size, seed)
        return self._next()[:max_size]

    def _input(self, ahead: int) -> bytes:
        return self.inputs[(self.given + ahead) % len(self.inputs)]

    def _next(self) -> bytes:
        if self.given == self.first:
            self.begun = self._now()
        elif self.given == self.last:
            self._report()
        self.given += 1
        return self._input(0)

    def _report(self) -> None:
        ended = self._now()
        scratch = self.out.with_suffix(".tmp")
        scratch.write_text(json.dumps({key: ended[key] - self.begun[key] for key in ended}))
        scratch.rename(self.out)
        os.kill(os.getppid(), signal.SIGINT)  # as a person would end it, in order

    def _now(self) -> dict[str, float]:
        from bench import processes  # noqa: PLC0415  (found below tests/, which is put on the path by who starts us)

        qemus = [pid for pid, name in processes.descendants(os.getpid()) if name.startswith(processes.QEMU)]
        return {
            "executions": self.executions,
            "seconds": time.monotonic(),
            "python_cpu": processes.cpu_seconds(os.getpid()),
            "qemu_cpu": sum(map(processes.cpu_seconds, qemus)),
        }


def _switch_reference_off() -> None:
    """The kernel's executor is not asked: the judge hears twice what the model said."""
    from harness.model.executor import Model  # noqa: PLC0415
    from harness.verdict.judge import Judge  # noqa: PLC0415  (the model is instrumented, if it is to be, by now)
    from reference.link.executor import Reference  # noqa: PLC0415
    from reference.memory_map import RAM_BASE  # noqa: PLC0415

    counters: dict[Any, int] = {}

    def run(self: Judge, program: Any) -> Any:
        model, kernel = (self.left, self.right) if isinstance(self.left, Model) else (self.right, self.left)
        assert isinstance(kernel, Reference)
        # libFuzzer refuses a target without any coverage, which the default guidance would then be.
        if kernel not in counters:
            counters[kernel] = kernel.symbols.address("__start___sancov_cntrs") - RAM_BASE
        kernel.link.ram.memory[counters[kernel]] = 1
        model.start(program)
        execution = model.finish()
        return execution, execution

    Judge.run = run  # type: ignore[method-assign]
