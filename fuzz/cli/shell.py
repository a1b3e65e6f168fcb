"""`s2fuzz shell`: lines from a person or a file to the test kernel's shell, and its answers back."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from harness.errors import BadInput
from harness.observation.executor import TargetDied
from reference.build.cache import cache_dir
from reference.link.shell import Shell

_PROMPT: Final = "s2> "
_HISTORY: Final = "shell_history"


def lines() -> Iterator[str]:
    """The lines of stdin: with a prompt and a history on a terminal, as they are elsewhere."""
    if not sys.stdin.isatty():
        yield from (line.decode(errors="replace") for line in sys.stdin.buffer)
        return
    with _history():
        while True:
            try:
                yield input(_PROMPT)
            except EOFError:
                print()
                return


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Line editing, with the history of earlier sessions where it can be kept."""
    import readline  # noqa: PLC0415  (importing it changes how input() treats the terminal)

    path = cache_dir() / _HISTORY
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)


@dataclass(slots=True)
class Outcome:
    """What became of a session's lines."""

    deaths: int = 0
    refused: int = 0


def converse(shell: Shell, said: Iterable[str], say: Callable[[str], None], complain: Callable[[str], None]) -> Outcome:
    """Carry every line to the kernel and its answers to `say`; what is wrong with a line goes to `complain`."""
    outcome = Outcome()
    for line in said:
        try:
            for answer in shell.ask(line):
                say(answer)
        except BadInput as error:
            outcome.refused += 1
            complain(str(error))
        except TargetDied as error:
            outcome.deaths += 1
            say(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
            complain("the next line has a fresh kernel, with an empty table")
    return outcome
