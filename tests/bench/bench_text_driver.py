"""Figure 2: what one would write first. The kernel's shell driven by pexpect, a line and an expect per op."""

from __future__ import annotations

import functools
import os
import re
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pexpect

from bench.figure import Bench, Figure, endlessly, middle, run_for
from harness.errors import BadInput, ToolFailure
from harness.model.executor import Model
from harness.observation.layout import describe_return
from harness.program.program import Program
from harness.program.text import format_knob, format_op
from harness.verdict.judge import Judge
from reference.link.console import BOOT_TIMEOUT, prepare_qemu, qemu_command
from reference.link.executor import Reference
from reference.link.shell import translate

NAME: Final = "differential exec/s over a pexpect driver that sends text op by op"
TARGET: Final = 30.0
_RESULT: Final = re.compile(rb"\w+ (budget|-?\d+)")


class TextDriver:
    """spawn, sendline and expect, as pexpect's examples have it; only its pause before each send is switched off."""

    def __init__(self, elf: Path) -> None:
        qemu, *arguments = qemu_command(elf, "-serial", "mon:stdio")
        die_with_us = functools.partial(prepare_qemu, os.getpid())
        self.child: Any = pexpect.spawn(qemu, arguments, echo=False, timeout=BOOT_TIMEOUT, preexec_fn=die_with_us)
        self.child.delaybeforesend = None
        self.child.expect(r"<H.*\n")  # its greeting
        self.model = Model()

    def close(self) -> None:
        """End its kernel."""
        self.child.close(force=True)

    def agree(self, program: Program) -> bool:
        """Whether every op's result is the model's."""
        self.model.start(program)
        feedback = self.model.finish().feedback
        return feedback is not None and self.results(program) == feedback.returns

    def results(self, program: Program) -> list[int | None]:
        """Each op's result, up to where the program ends."""
        knobs = program.machine.changed().items()
        reset = " ".join(["reset", *(f"{name}={format_knob(name, value)}" for name, value in knobs)])
        results: list[int | None] = []
        for line in (reset, *map(format_op, program.ops)):
            results.append(self._ask(line))
            if results[-1] is None or (line.startswith(("reset", "init")) and results[-1]):
                break
        return results

    def _ask(self, line: str) -> int | None:
        try:
            self.child.sendline(f"$ {translate(line)}")
            self.child.expect_exact("$\r\n")
        except (pexpect.ExceptionPexpect, OSError) as error:
            raise ToolFailure(f"the shell did not answer `{line}`: {error!r}") from error
        match = _RESULT.match(self.child.before)
        if match is None:
            raise ToolFailure(f"the shell answered `{line}` with {self.child.before!r}")
        return None if match[1] == b"budget" else int(match[1])


def measure(bench: Bench) -> Figure:
    pairs = []
    programs = endlessly([program for program in bench.programs if _stays_within_budget(program)])
    with closing(TextDriver(bench.image.elf)) as text, closing(Reference(bench.image, "kernel:6.12")) as kernel:
        judge = Judge(Model(), kernel)
        for number in range(bench.scale.rounds):
            bench.say(f"round {number + 1}")
            tried: list[Program] = []

            def step(tried: list[Program] = tried) -> None:
                tried.append(next(programs))
                _check(text.agree(tried[-1]), tried[-1], text)

            calls, seconds = run_for(bench.scale.slice, step)
            same = endlessly(tried)
            ours, ours_seconds = run_for(bench.scale.slice, lambda same=same: judge.agree(next(same)))  # type: ignore[misc]
            pairs.append((ours / ours_seconds, calls / seconds, len(tried)))
    ratio = middle([ours / theirs for ours, theirs, _ in pairs])
    return Figure(
        2,
        NAME,
        ratio,
        f"at least {TARGET:g}",
        ratio >= TARGET,
        {
            "exec_per_s": middle([pair[0] for pair in pairs]),
            "exec_per_s_text": middle([pair[1] for pair in pairs]),
            "ratios": [ours / theirs for ours, theirs, _ in pairs],
            "programs": sum(pair[2] for pair in pairs),
        },
        f"{len(pairs)} pairs of slices of {bench.scale.slice:g} s: first as many recorded programs as the text driver "
        "manages, of those that stay within their budget; then the same ones again and again through Judge and both "
        "executors (all tiers; without Atheris, and without coverage on the model's side). The text driver compares "
        "results only, with the model run beside it; pexpect's 50 ms pause before each send is off.",
    )


def _stays_within_budget(program: Program) -> bool:
    """Whether it is the same in the shell, where every line has a budget of its own."""
    model = Model()
    model.start(program)
    feedback = model.finish().feedback
    return feedback is not None and feedback.returns[-1] is not None


def _check(agrees: bool, program: Program, text: TextDriver) -> None:
    if not agrees:
        said = ", ".join(map(describe_return, text.results(program)))
        raise BadInput(f"the text driver and the model differ: {said} for {[op.name for op in program.ops]}")
