"""What a run looks like while it goes: a live line on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fuzz.cli.lines import LINE_INTERVAL
from fuzz.cli.places import interruption
from fuzz.cli.spinners import console_of_stderr, spinner_bar
from fuzz.engine.cautions import caution_lines
from fuzz.engine.hardware_lines import hardware_lines
from fuzz.triage.filed import FLAKY
from fuzz.triage.next_steps import TIMES, pasted
from harness.amounts import counted, number
from harness.outside import printable_lines
from harness.verdict.known import mention

if TYPE_CHECKING:
    from fuzz.campaign.growth import Growth
    from fuzz.engine.smoke import SmokeProgress

_BUSY: Final = 3.0
"""Seconds: a process that says nothing for so long is busy with a program that may hang."""


@contextmanager
def live(seconds: float) -> Iterator[tuple[Callable[[str], None], Callable[[SmokeProgress], None]]]:
    """Yields what to call with events, and with how far the run is. Writes to stderr."""
    from rich.markup import escape  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from fuzz.campaign.growth import Growth  # noqa: PLC0415

    console = console_of_stderr()
    growth = Growth()
    if not console.is_terminal:
        yield (lambda text: print(printable_lines(text), file=sys.stderr, flush=True)), _plain_lines(growth)
        return
    with spinner_bar(console) as bar:
        task = bar.add_task("starting")

        def show(progress: SmokeProgress) -> None:
            described = f"{how_far(progress, seconds)}: {describe(progress, growth)}"
            bar.update(task, description=escape(described))

        yield lambda text: console.print(Text(text)), show


def _plain_lines(growth: Growth) -> Callable[[SmokeProgress], None]:
    last = time.monotonic()

    def show(progress: SmokeProgress) -> None:
        nonlocal last
        described = describe(progress, growth)
        if time.monotonic() - last >= LINE_INTERVAL:
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
    lines += stats["mended"]
    if stats["inconclusive"]:
        inconclusive = counted(stats["inconclusive"], "program")
        lines.append(f"{inconclusive} inconclusive: the budget cut the sides at different events")
    lines += caution_lines(stats)
    if progress.interrupted:
        lines.append(interruption(_programs(progress), len(progress.findings), progress.seconds))
    elif not progress.findings:
        lines.append("nothing found")
    return lines


def _programs(progress: SmokeProgress) -> int:
    return progress.stats.executions + progress.stats.replayed
