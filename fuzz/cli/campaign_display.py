"""What a campaign looks like while it goes: a table on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, JustifyMethod, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fuzz.campaign.growth import Grown, duration, growth_rows, last_new
from fuzz.campaign.state import CampaignState
from harness.outside import printable_lines

_LINE_INTERVAL: Final = 60.0
"""Seconds between two lines where there is no terminal."""
_MAY_BE_LONG: Final = "compares"
"""The column that is wrapped where a terminal is narrow."""
_IN_A_LINE: Final = {"edges": "kernel edges", "lines": "model lines", "inputs": "inputs"}

Say = Callable[[str], None]
Show = Callable[[CampaignState], None]


@contextmanager
def live() -> Iterator[tuple[Say, Show]]:
    """Yields what to call with events, and with the state. Writes to stderr."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _plain()
        return
    with Live(Text("starting"), console=console, refresh_per_second=4, transient=True) as view:
        yield (
            lambda text: console.print(Text(f"{_clock()} {text}")),
            lambda state: view.update(table(state)),
        )


def _plain() -> tuple[Say, Show]:
    last = time.monotonic()

    def show(state: CampaignState) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_INTERVAL:
            last = time.monotonic()
            say(describe(state))

    def say(text: str) -> None:
        print(printable_lines(f"{_clock()} {text}"), file=sys.stderr, flush=True)

    return say, show


def _clock() -> str:
    return time.strftime("%H:%M:%S")


def describe(state: CampaignState) -> str:
    """The state on one line, for a log."""
    growth = state.growth
    parts = [
        duration(state.at),
        f"{state.executions:,} executions",
        f"{state.rate:,.0f}/s",
        *(
            f"{_reached(growth[name])} {what}"
            for name, what in _IN_A_LINE.items()
            if name in growth and growth[name].of != 0
        ),
        _findings(state),
    ]
    if (last := last_new(growth)) is not None:
        parts.append(f"last new {duration(state.at - last.at)} ago")
    if state.left:
        parts.append(f"{duration(state.left)} left")
    return ", ".join(parts)


def _reached(one: Grown) -> str:
    return f"{one.value:,}" if one.of is None else f"{one.value:,}/{one.of:,}"


def _findings(state: CampaignState) -> str:
    """Buckets, and what else there is to be seen to."""
    known = f" (and {state.known} known)" if state.known else ""
    parts = [f"buckets found {state.buckets - state.known}{known}"]
    if state.flaky:
        parts.append(f"flaky {state.flaky}")
    if state.incidents:
        parts.append(f"incidents {state.incidents}")
    if state.minimising:
        parts.append(f"{state.minimising} to minimise")
    if state.compiling:
        parts.append(state.compiling)
    return ", ".join(parts)


def table(state: CampaignState) -> RenderableType:
    """The state as a terminal of 80 columns shows it."""
    left = "" if state.left is None else f", {duration(state.left)} left"
    head = f"{duration(state.at)}, {state.executions:,} executions, {state.rate:,.0f}/s{left}"
    return Group(
        Text(head),
        Text(_findings(state)),
        _grid(
            (("", "left"), ("so far", "right"), ("last new", "right"), ("executions since", "right"), ("", "left")),
            growth_rows(state.growth, state.at, state.executions),
        ),
        _grid(
            (
                ("worker", "left"),
                (_MAY_BE_LONG, "left"),
                ("", "left"),
                ("executions", "right"),
                ("/s", "right"),
                ("for", "right"),
            ),
            (
                (
                    str(one.number),
                    one.what,
                    one.health,
                    f"{one.executions:,}",
                    f"{one.rate:,.0f}",
                    duration(one.seconds),
                )
                for one in state.slots
            ),
        ),
        *(Text(remark) for remark in state.remarks),
    )


def _grid(columns: Iterable[tuple[str, JustifyMethod]], rows: Iterable[tuple[str, ...]]) -> Table:
    grid = Table(box=None, pad_edge=False)
    for name, justify in columns:
        grid.add_column(name, justify=justify, no_wrap=name != _MAY_BE_LONG)
    for row in rows:
        grid.add_row(*row)
    return grid
