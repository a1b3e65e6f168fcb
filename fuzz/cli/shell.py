"""`s2fuzz shell`: lines from a person or a file to the test kernel's shell, and its answers back."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

import click

from fuzz.cli.chosen import sides_from
from fuzz.cli.options import BAD_INPUT, FINDING, GRANULE, OK, kernel_options
from fuzz.cli.options import say as say_to_stderr
from harness.errors import BadInput
from harness.observation.executor import TargetDied
from harness.program.granule import granule_named
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
class Conversation:
    """What became of a session's lines."""

    deaths: int = 0
    refused: int = 0


def converse(
    shell: Shell, said: Iterable[str], say: Callable[[str], None], complain: Callable[[str], None]
) -> Conversation:
    """Carry every line to the kernel and its answers to `say`; what is wrong with a line goes to `complain`."""
    result = Conversation()
    for line in said:
        try:
            for answer in shell.ask(line):
                say(answer)
        except BadInput as error:
            result.refused += 1
            complain(str(error))
        except TargetDied as error:
            result.deaths += 1
            say(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
            complain("the next line has a fresh kernel, with an empty table")
    return result


@click.command()
@GRANULE
@kernel_options
def shell(granule: str, **kernel: Any) -> int:
    """Try ops by hand, one a line, on a table in a running kernel.

    A line is an op as in a program (map ipa=0x0 size=2M phys=0x80000000 prot=rw mc=2), `tree` for the table's pages,
    `reset` with any knobs (reset ia_bits=32 fwb=off) for a fresh machine, or `help`. Reads stdin; from a file or pipe,
    the exit status is 1 after a crash or hang, and 2 after a line that is refused.
    """
    chosen = sides_from(**kernel)[1]
    if not chosen.is_kernel:
        raise BadInput(f"{chosen.name} is not a kernel; choose one with --linux")
    with closing(Shell(chosen.image(say_to_stderr, granule_named(granule)), chosen.name)) as opened:
        if sys.stdin.isatty():
            say_to_stderr(f"{chosen.name}: `help` lists the ops, Ctrl-D ends")
        result = converse(opened, lines(), click.echo, say_to_stderr)
    if sys.stdin.isatty():
        return OK
    return FINDING if result.deaths else BAD_INPUT if result.refused else OK
