"""`s2fuzz shell`: lines from a person or a file to a test kernel, and what comes of them, decoded."""

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
from fuzz.cli.shell_session import Session
from fuzz.cli.shell_words import completions
from harness.errors import BadInput
from harness.observation.executor import TargetDied
from harness.program.granule import granule_named
from reference.link.shell import Shell

_PROMPT: Final = "s2> "
_HISTORY: Final = "shell_history"
_LEAVE: Final = ("quit", "exit")
_AFRESH: Final = "the next line has a fresh kernel, with an empty table"


def lines(session: Session) -> Iterator[str]:
    """The lines of stdin: with a prompt, a history and completion on a terminal, as they are elsewhere. There Ctrl-C
    leaves a line that is begun, and several that are pasted come one after the other."""
    if not sys.stdin.isatty():
        yield from (line.decode(errors="replace") for line in sys.stdin.buffer)
        return
    with _line_editing(session):
        while True:
            try:
                yield from input(_PROMPT).splitlines()
            except KeyboardInterrupt:
                print()
            except EOFError:
                print()
                return


@contextlib.contextmanager
def _line_editing(session: Session) -> Iterator[None]:
    """Completion, and the history of earlier sessions where it can be kept."""
    import readline  # noqa: PLC0415  (importing it changes how input() treats the terminal)

    from platformdirs import user_state_path  # noqa: PLC0415  (only a terminal has a history)

    def complete(begun: str, number: int) -> str | None:
        before = readline.get_line_buffer()[: readline.get_begidx()].rpartition("\n")[2]  # pasted lines may precede
        shell = session.shell
        found = completions(before, begun, shell.capabilities, session.machine, session.handles)
        return found[number] if number < len(found) else None

    readline.set_completer_delims(" \t\n=+")
    readline.set_completer(complete)
    readline.parse_and_bind("tab: complete")
    readline.parse_and_bind("set enable-bracketed-paste on")  # Python has it off, for who cannot take several lines
    history = None
    with contextlib.suppress(OSError, RuntimeError):  # a user without a home has none
        history = user_state_path("s2fuzz", ensure_exists=True) / _HISTORY
        readline.read_history_file(history)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            if history is not None:
                readline.write_history_file(history)


@dataclass(slots=True)
class Conversation:
    """What became of a session's lines."""

    deaths: int = 0
    refused: int = 0


def converse(
    session: Session, said: Iterable[str], say: Callable[[str], None], complain: Callable[[str], None]
) -> Conversation:
    """Carry every line out and its answers to `say`; what is wrong with a line goes to `complain`. On a terminal,
    Ctrl-C takes a line back that the kernel is at."""
    result = Conversation()
    for line in said:
        if line.strip() in _LEAVE:
            break
        try:
            for answer in session.answers(line):
                say(answer)
        except BadInput as error:
            result.refused += 1
            complain(str(error))
        except TargetDied as error:
            result.deaths += 1
            session.start_afresh()
            say(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
            complain(_AFRESH)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():
                raise
            session.start_afresh()
            complain(f"interrupted; {_AFRESH}")
    return result


@click.command()
@GRANULE
@kernel_options
def shell(granule: str, **kernel: Any) -> int:
    """Try ops by hand, one a line, on a table in a running kernel.

    \b
    A line is one of a program, as it stands in a *.s2 file:
      map ipa=0x0 size=2M phys=0x80000000 prot=rw mc=2
      t1 = create_unlinked phys=0x80000000 level=2 prot=rw mc=4
    Or else:
      tree                       the table as it is, decoded, as `s2fuzz show` prints it
      events                     what the last op did at its boundary, in order
      reset ia_bits=32 fwb=off   a fresh machine with these settings, and an empty table
      help, help map             the ops by family; the arguments of one

    A whole program may be pasted: its settings make a fresh machine. Tab completes ops, arguments and the words of
    their values. Ctrl-C leaves the line, Ctrl-D the shell. Reads stdin; from a file or pipe, the exit status is 1 after
    a crash or hang, and 2 after a line that is refused.
    """
    chosen = sides_from(**kernel)[1]
    if not chosen.is_kernel:
        raise BadInput(f"{chosen.name} is not a kernel; choose one with --linux")
    with closing(Shell(chosen.image(say_to_stderr, granule_named(granule)), chosen.name)) as opened:
        session = Session(opened)
        if sys.stdin.isatty():
            say_to_stderr(f"{chosen.name}: `help` lists the ops, Tab completes, Ctrl-D ends")
        result = converse(session, lines(session), click.echo, say_to_stderr)
    if sys.stdin.isatty():
        return OK
    return FINDING if result.deaths else BAD_INPUT if result.refused else OK
