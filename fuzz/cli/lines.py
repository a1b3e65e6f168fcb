"""Lines for people on stderr. Of those that say how far a step is, a terminal shows one in place of the other; in a log
there is one now and then."""

from __future__ import annotations

import shutil
import sys
import time
from typing import Final

import click

from harness.outside import printable_lines
from reference.build.progress import HowFar

LINE_INTERVAL: Final = 10.0
"""Seconds between two lines about the same where there is no terminal."""
_CLEAR: Final = "\r\x1b[K"


class Lines:
    """What is printed on stderr, line by line."""

    def __init__(self) -> None:
        self._said_at = time.monotonic()
        self._open = ""
        """The line that the next one may replace."""

    def say(self, text: str) -> None:
        """Print a line, whatever names of others' files it has."""
        if not isinstance(text, HowFar):
            self._print(text)
        elif sys.stderr.isatty():
            self._replace(text)
        elif time.monotonic() - self._said_at >= LINE_INTERVAL:
            self._print(text)

    def _print(self, text: str) -> None:
        if self._open:
            click.echo(err=True)
        self._open = ""
        click.echo(printable_lines(text), err=True)
        self._said_at = time.monotonic()

    def _replace(self, text: HowFar) -> None:
        line = printable_lines(text)[: shutil.get_terminal_size().columns - 1]
        if line != self._open:
            click.echo(_CLEAR + line, err=True, nl=text.is_last)
        self._open = "" if text.is_last else line
