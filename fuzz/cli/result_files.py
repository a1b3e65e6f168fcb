"""The options of every command that writes its results to files for other programs, and the writing."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, redirect_stdout
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fuzz.cli.outputs import OutFile
from fuzz.results.formats import FORMATS, Format
from fuzz.results.outcome import Outcome, Status, Test, broken
from harness.errors import BadInput, ToolFailure
from harness.outside import shown, writing

_STDOUT: Final = Path("-")
_Command = TypeVar("_Command", bound=Callable[..., Any])


class ResultFiles:
    """The files that the user asked for, and the tests that will be in them. Where the command fails, they say so of
    every test that was planned and is not told yet."""

    def __init__(self, chosen: Mapping[Format, Path], origin: str) -> None:
        self.chosen = chosen
        self.origin = origin
        self._stdout = sys.stdout
        self._began = datetime.now(UTC)
        self._command = ""
        self._planned: list[Test] = []
        self._told: list[Test] = []

    @property
    def to_stdout(self) -> bool:
        """Whether one of them is stdout."""
        return _STDOUT in self.chosen.values()

    def begin(self, command: str, planned: Iterable[Test], other: str = "") -> None:
        """Say what is to be tested; `other` is an option that prints to stdout as well. Raises BadInput for one place
        that is to hold two things."""
        places = list(self.chosen.values())
        twice = next((path for path in places if places.count(path) > 1), None)
        if twice is not None:
            raise BadInput(f"two kinds of results cannot both go to {'stdout' if twice == _STDOUT else shown(twice)}")
        if other and self.to_stdout:
            raise BadInput(f"{other} prints to stdout, too: give the results a file instead of `-`")
        self._command, self._planned = command, list(planned)

    def tell(self, tests: Iterable[Test]) -> None:
        """What tests came to, in the order of the files."""
        self._told += tests

    def write(self, about: Mapping[str, str]) -> None:
        """Write them all, with the tests that were told. Raises as `Format.render` does."""
        self._write(self._told, about)

    def fail(self, error: Exception) -> None:
        """Write them all, with `error` for each test that was planned and not told. Raises as `write` does."""
        self._write_rest(lambda test: broken(test, error))

    def interrupt(self) -> None:
        """Write them all; the tests that were not told are skipped. Raises as `write` does."""
        self._write_rest(lambda test: replace(test, status=Status.SKIPPED, why="interrupted"))

    def _write_rest(self, end: Callable[[Test], Test]) -> None:
        told = {(test.name, test.comparison) for test in self._told}
        rest = [end(test) for test in self._planned if (test.name, test.comparison) not in told]
        if rest:
            self._write([*self._told, *rest], {})

    def _write(self, tests: Sequence[Test], about: Mapping[str, str]) -> None:
        outcome = Outcome(self._command, tuple(tests), self._began, about, self.origin)
        for one, path in self.chosen.items():
            text = one.render(outcome)
            if path == _STDOUT:
                click.echo(text, self._stdout, nl=False)
            else:
                with writing(path):
                    path.write_text(text)


def _origin_in(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if not re.fullmatch(r"[a-z0-9_]+", value):
        raise click.BadParameter("KCIDB's names have small letters, digits and underscores only.")
    return value


def result_options(command: _Command) -> _Command:
    """An option for each format. The command gets them all as `files`; they are written where it fails as well. Where
    one of them is stdout, all that the command prints goes to stderr."""

    @functools.wraps(command)
    def with_files(*args: Any, kcidb_origin: str, **params: Any) -> Any:
        chosen = {one: path for one in FORMATS if (path := params.pop(one.name)) is not None}
        files = ResultFiles(chosen, kcidb_origin)
        with redirect_stdout(sys.stderr) if files.to_stdout else nullcontext():
            try:
                return command(*args, files=files, **params)
            except (BadInput, ToolFailure) as error:
                files.fail(error)
                raise
            except KeyboardInterrupt:
                files.interrupt()
                raise

    wrapped: Any = click.option(
        "--kcidb-origin",
        default="s2fuzz",
        show_default=True,
        callback=_origin_in,
        metavar="NAME",
        help="The name under which KCIDB knows whoever submits.",
    )(with_files)
    for one in reversed(FORMATS):
        wrapped = click.option(
            f"--{one.name}",
            type=OutFile(allow_dash=True),
            metavar="FILE",
            help=f"Write the results to FILE as {one.help}; `-` is stdout.",
        )(wrapped)
    return wrapped  # type: ignore[no-any-return]
