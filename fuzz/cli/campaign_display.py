"""What a campaign looks like while it goes: a table on a terminal, plain lines now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fuzz.campaign.state import CampaignState
from fuzz.campaign.status import duration
from harness.outside import printable_lines

_LINE_INTERVAL: Final = 60.0
"""Seconds between two lines where there is no terminal."""

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
            lambda state: view.update(_table(state)),
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
    """The state on one line."""
    parts = [
        duration(state.at),
        f"{state.executions} executions",
        f"{state.rate:.0f}/s",
        f"corpus {state.inputs}",
        f"kernel {_edges(state)}",
        f"model {state.model_lines[0]}/{state.model_lines[1]} lines",
        f"findings {_findings(state)}",
    ]
    if state.flaky:
        parts.append(f"flaky {state.flaky}")
    if state.incidents:
        parts.append(f"incidents {state.incidents}")
    if state.minimising:
        parts.append(f"{state.minimising} to minimise")
    if state.compiling:
        parts.append(state.compiling)
    if state.left is not None:
        parts.append(f"{duration(state.left)} left")
    return ", ".join(parts)


def _edges(state: CampaignState) -> str:
    return " ".join(f"{reached}/{of}" for reached, of in state.edges) or "-"


def _findings(state: CampaignState) -> str:
    return f"{state.buckets - state.known}" + (f" (and {state.known} known)" if state.known else "")


def _table(state: CampaignState) -> RenderableType:
    rows = Table(box=None, pad_edge=False)
    for name in ("worker", "compares", "health", "executions", "for"):
        rows.add_column(name, justify="right" if name in ("executions", "for") else "left")
    for slot in state.slots:
        rows.add_row(str(slot.number), slot.what, slot.health, str(slot.executions), duration(slot.seconds))
    return Group(Text(describe(state)), rows)
