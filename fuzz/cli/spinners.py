"""How far a step is: beside a spinner on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fuzz.cli.lines import LINE_INTERVAL
from harness.amounts import counted, number

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from fuzz.triage.minimise import Step


def console_of_stderr() -> Console:
    """What knows whether stderr is a terminal."""
    from rich.console import Console  # noqa: PLC0415  (only who shows something live has it)

    return Console(stderr=True, highlight=False)


def spinner_bar(console: Console) -> Bar:
    """A spinner beside a line of text, for as long as it is entered."""
    from rich.progress import Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    return Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True)


@contextmanager
def counting(seconds: float) -> Iterator[Callable[[int, float], None]]:
    """Yields what to call with the number of programs run and the seconds that took. Writes to stderr."""
    console = console_of_stderr()
    last = 0.0
    with spinner_bar(console) as bar:
        task = bar.add_task("starting")

        def told(programs: int, passed: float) -> None:
            nonlocal last
            text = f"{passed:.0f}/{seconds:g} s: {counted(programs, 'program')}"
            if console.is_terminal:
                bar.update(task, description=text)
            elif passed - last >= LINE_INTERVAL:
                last = passed
                print(text, file=sys.stderr, flush=True)

        yield told


@contextmanager
def running(what: str) -> Iterator[Callable[[int, int], None]]:
    """Yields what to call with the number of inputs run, of how many. Writes to stderr."""
    with _spinner("starting") as say:
        yield lambda ran, of: say(f"{what}: {number(ran)} of {counted(of, 'input')} run")


@contextmanager
def minimising(ops: int) -> Iterator[Callable[[Step], None]]:
    """Yields what to call with every try at a smaller program, which had so many `ops` at first. Writes to stderr."""
    with _spinner("looking at it on fresh kernels") as say:
        yield lambda step: say(
            f"{counted(step.tries, 'try', 'tries')}, {counted(ops, 'op')} to {len(step.program.ops)}: {step.name}"
        )


@contextmanager
def _spinner(first: str) -> Iterator[Callable[[str], None]]:
    """Yields what to call with how far it is: beside a spinner on a terminal, now and then a line elsewhere."""
    console = console_of_stderr()
    last = time.monotonic()
    with spinner_bar(console) as bar:
        task = bar.add_task(first)

        def say(text: str) -> None:
            nonlocal last
            if console.is_terminal:
                bar.update(task, description=text)
            elif time.monotonic() - last >= LINE_INTERVAL:
                last = time.monotonic()
                print(text, file=sys.stderr, flush=True)

        yield say
