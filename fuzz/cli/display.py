"""What a run looks like while it goes: a live line on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from fuzz.engine.cautions import caution_lines
from fuzz.engine.hardware_lines import hardware_lines
from fuzz.triage.filing import FLAKY, Filed
from fuzz.triage.next_steps import TIMES, next_steps, pasted
from harness.amounts import counted, number
from harness.findings.finding import Finding, load
from harness.outside import printable_lines
from harness.verdict.known import mention

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress as Bar

    from fuzz.campaign.growth import Growth
    from fuzz.engine.smoke import SmokeProgress
    from fuzz.triage.minimise import Step

_BUSY: Final = 3.0
"""Seconds: a process that says nothing for so long is busy with a program that may hang."""
_LINE_INTERVAL: Final = 10.0
"""Seconds between two lines where there is no terminal."""


def _console() -> Console:
    from rich.console import Console  # noqa: PLC0415  (only who shows something live has it)

    return Console(stderr=True, highlight=False)


def _bar(console: Console) -> Bar:
    from rich.progress import Progress, SpinnerColumn, TextColumn  # noqa: PLC0415

    return Progress(SpinnerColumn(), TextColumn("{task.description}"), console=console, transient=True)


@contextmanager
def live(seconds: float) -> Iterator[tuple[Callable[[str], None], Callable[[SmokeProgress], None]]]:
    """Yields what to call with events, and with how far the run is. Writes to stderr."""
    from rich.markup import escape  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from fuzz.campaign.growth import Growth  # noqa: PLC0415

    console = _console()
    growth = Growth()
    if not console.is_terminal:
        yield (lambda text: print(printable_lines(text), file=sys.stderr, flush=True)), _plain_lines(growth)
        return
    with _bar(console) as bar:
        task = bar.add_task("starting")

        def show(progress: SmokeProgress) -> None:
            described = f"{how_far(progress, seconds)}: {describe(progress, growth)}"
            bar.update(task, description=escape(described))

        yield lambda text: console.print(Text(text)), show


@contextmanager
def counting(seconds: float) -> Iterator[Callable[[int, float], None]]:
    """Yields what to call with the number of programs run and the seconds that took. Writes to stderr."""
    console = _console()
    last = 0.0
    with _bar(console) as bar:
        task = bar.add_task("starting")

        def told(programs: int, passed: float) -> None:
            nonlocal last
            text = f"{passed:.0f}/{seconds:g} s: {counted(programs, 'program')}"
            if console.is_terminal:
                bar.update(task, description=text)
            elif passed - last >= _LINE_INTERVAL:
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
    console = _console()
    last = time.monotonic()
    with _bar(console) as bar:
        task = bar.add_task(first)

        def say(text: str) -> None:
            nonlocal last
            if console.is_terminal:
                bar.update(task, description=text)
            elif time.monotonic() - last >= _LINE_INTERVAL:
                last = time.monotonic()
                print(text, file=sys.stderr, flush=True)

        yield say


def _plain_lines(growth: Growth) -> Callable[[SmokeProgress], None]:
    last = time.monotonic()

    def show(progress: SmokeProgress) -> None:
        nonlocal last
        described = describe(progress, growth)
        if time.monotonic() - last >= _LINE_INTERVAL:
            last = time.monotonic()
            print(f"{how_far(progress)}: {described}", file=sys.stderr, flush=True)

    return show


def how_far(progress: SmokeProgress, seconds: float | None = None) -> str:
    """How much of its time a run has had, or how far it is with what comes before; and for how long it has been busy
    with a single program."""
    if not progress.seconds and progress.stats.replayed:
        text = f"{counted(progress.stats.replayed, 'program')} of the corpora"
    else:
        text = f"{progress.seconds:.0f}{'' if seconds is None else f'/{seconds:g}'} s"
    return f"{text} (busy for {progress.silent:.0f} s)" if progress.silent > _BUSY else text


def describe(progress: SmokeProgress, growth: Growth | None = None) -> str:
    """Rate, inputs, the kernel's coverage, and findings, on one line. With a `growth` that is told every time, also how
    long ago an edge was new."""
    reached, of = (sum(column) for column in zip(*progress.edges, strict=True)) if progress.edges else (0, 0)
    edges = " ".join(f"{reached}/{of}" for reached, of in progress.edges) or "no"
    parts = [
        f"{progress.executions:,} executions",
        f"{progress.rate:,.0f}/s",
        f"{progress.corpus:,} inputs",
        f"{edges} kernel edges",
        f"findings {len(progress.findings)}",
    ]
    if growth is not None and of:
        growth.note(progress.seconds, progress.executions, {"edges": (reached, of)})
        parts[3] += f" (last new {progress.seconds - growth.of['edges'].at:.0f} s ago)"
    if masking := progress.stats.masking():
        parts.append(f"masked by {', '.join(masking)}")
    restarts = progress.boots - progress.kernels
    if restarts > 0:
        parts.append(f"kernels started again {restarts}")
    if progress.compiling:
        parts.append(progress.compiling)
    return ", ".join(parts)


def summary(progress: SmokeProgress, out: Path) -> list[str]:
    """The run's result, a few lines. `out` is where its findings are."""
    stats, flaky_at = progress.stats.summary(), pasted(out / FLAKY)
    lines = [f"{progress.seconds:.1f} s: {describe(progress)}"]
    for name, (reached, of) in zip(progress.images, progress.edges, strict=True):
        lines.append(f"{name}: {number(reached)} of {counted(of, 'edge')} of its page-table code reached")
    if stats["replayed"] or stats["skipped"]:
        skipped = f", {number(stats['skipped'])} skipped:" if stats["skipped"] else ""
        lines.append(f"corpora: {counted(stats['replayed'], 'program')} replayed{skipped}")
        lines += [f"  {number(count)}: {why}" for why, count in stats["lacking"].items()]
    if stats["other_granules"]:
        others, ours = stats["other_granules"], stats["granules"]
        chosen = ",".join([*ours, *others])
        lines.append(f"corpora: programs for {', '.join(others)} were not run; --granule {chosen} runs them")
    if stats["ops"]:  # which only a model tells
        trees = stats["trees"]
        lines.append(
            f"generated programs: {counted(stats['median_ops'], 'op')} in the median, {stats['ops_succeeded']:.0%} of "
            f"ops succeeded, {counted(trees['splits'], 'block')} split, {counted(trees['merges'], 'table')} merged"
        )
    lines += hardware_lines(stats)
    if progress.model_lines[0]:
        lines_reached, lines_of = map(number, progress.model_lines)
        lines.append(f"the inputs that were kept reach {lines_reached} of {lines_of} lines of the model")
    if stats["unconfirmed"]:
        flaky = counted(stats["unconfirmed"], "program")
        lines.append(f"flaky: {flaky} did not come to the same on every fresh kernel; kept in {flaky_at}")
        lines.append(f"  how often one shows: s2fuzz replay {flaky_at}/… --times {TIMES}")
    lines += [mention(key, count) for key, count in stats["known"].items()]
    if stats["inconclusive"]:
        inconclusive = counted(stats["inconclusive"], "program")
        lines.append(f"{inconclusive} inconclusive: the budget cut the sides at different events")
    lines += caution_lines(stats)
    if progress.interrupted:
        lines.append(interruption(_programs(progress), len(progress.findings), progress.seconds))
    elif not progress.findings:
        lines.append("nothing found")
    return lines


def interruption(programs: int, findings: int, seconds: float | None = None, of: int | None = None) -> str:
    """What a run that was cut short had come to: after how many seconds and programs, of how many."""
    after = "" if seconds is None else f"{seconds:.0f} s and "
    after += counted(programs, "program") if of is None else f"{number(programs)} of {counted(of, 'program')}"
    return f"interrupted after {after}: {counted(findings, 'finding') if findings else 'nothing found'} so far"


def _programs(progress: SmokeProgress) -> int:
    return progress.stats.executions + progress.stats.replayed


def print_places(findings: Sequence[Filed], to_stderr: bool = False) -> None:
    """Say where findings are, and what to do with the first of them."""
    for finding in findings:
        click.echo(f"{finding.kind} {finding.bucket}: {pasted(finding.directory)}", err=to_stderr)
    if findings:
        say_next(load(findings[0].directory), to_stderr=to_stderr)


def say_next(finding: Finding, done: str = "", to_stderr: bool = False) -> None:
    """Say what to do with a finding, but for the command that was just `done`."""
    lines = next_steps(finding, done)
    for line in ["", *lines] if lines else []:
        click.echo(line, err=to_stderr)
