"""How far a step is, on a terminal and in a log."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from fuzz.cli import lines
from fuzz.cli.lines import Lines
from reference.build.progress import HowFar


def tell(out: Lines) -> None:
    """A step of three parts that fails in the end, after one that did not."""
    out.say("unpacking it")
    for done in range(3):
        out.say(HowFar("unpacking it", done, 2))
    for done in range(3):
        out.say(HowFar("compiling it", done, 3, "files"))
    out.say("it does not compile")


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The other end of a terminal of 30 columns that is our stderr."""
    other, ours = os.openpty()
    os.set_blocking(other, False)
    with os.fdopen(ours, "w") as stderr, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", stderr)
        patch.setenv("COLUMNS", "30")
        yield other
    os.close(other)


def all_on(screen: int) -> str:
    """What was printed there."""
    data = b""
    with suppress(BlockingIOError):
        while True:
            data += os.read(screen, 4096)
    return data.decode()


def test_a_terminal_shows_one_in_place_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:
        tell(Lines())
        shown = all_on(screen).replace("\r\n", "\n").replace("\x1b[K", "")
    assert shown.replace("\r", "|").splitlines() == [
        "unpacking it",
        "|unpacking it: 0 %|unpacking it: 50 %|unpacking it: 100 %",
        "|compiling it: 0 of 3 files|compiling it: 1 of 3 files|compiling it: 2 of 3 files",
        "it does not compile",
    ]


def test_a_line_is_no_longer_than_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as screen:
        Lines().say(HowFar("x" * 50, 1, 2))
        assert all_on(screen).count("x") == 29


def test_a_log_has_few_of_them(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    tell(Lines())
    assert capsys.readouterr().err.splitlines() == ["unpacking it", "it does not compile"]
    monkeypatch.setattr(lines, "LINE_INTERVAL", 0.0)  # as if ten seconds lay between them
    tell(Lines())
    assert "compiling it: 2 of 3 files" in capsys.readouterr().err.splitlines()
