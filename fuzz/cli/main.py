"""The command line: its commands, and what they end with. Each is in a module by topic, which is imported for it, and
thin: it chooses sides, calls, and prints."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Final, NoReturn

import click
from click.shell_completion import get_completion_class, shell_complete

from fuzz import __version__
from fuzz.cli.commands import Commands, OnDemand
from fuzz.cli.options import BAD_INPUT, CANNOT_TELL, INTERRUPTED, OK, TOOL_FAILURE, say
from harness.errors import BadInput, ToolFailure
from harness.full_disk import explained

_NAME: Final = "s2fuzz"
_COMPLETE: Final = "_S2FUZZ_COMPLETE"
"""What a shell that wants to complete a line sets: click's name for it."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


@click.group(
    cls=Commands,
    commands=OnDemand(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name=_NAME)
def cli() -> None:
    """Find bugs in the KVM/arm64 stage-2 page-table code.

    s2fuzz runs programs of page-table operations twice: in a Python implementation of Linux's kvm_pgtable (the
    model), and in a bare-metal arm64 kernel under QEMU that hosts Linux's own pgtable.c (the kernel). Where results,
    tables, accounting or events differ, it keeps a finding: a directory that `s2fuzz replay` runs again.

    \b
    Start here:
      s2fuzz doctor                        is everything there?
      s2fuzz smoke --seconds 60            fuzz the packaged kernel
      s2fuzz smoke --linux ~/src/linux     fuzz your own tree
      s2fuzz campaign DIR --hours 8        fuzz overnight
      s2fuzz run corpora/seeds/*.s2        run programs you can read

    \b
    Exit status: 0 nothing found, 1 a finding, 2 bad usage or input, 3 s2fuzz or its environment failed,
    130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its status. SIGTERM ends it as Ctrl-C does, in order."""
    status = INTERRUPTED
    try:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.default_int_handler)
        status = status_of(arguments)
        _ignore_signals()
    except KeyboardInterrupt:  # another one, while the first was being said
        _ignore_signals()
    _flush()
    sys.exit(status)


def _ignore_signals() -> None:
    """Nothing is left to be interrupted but Python's own end, which would print where it was."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _flush() -> None:
    """What nobody reads any more is dropped: Python would try again at its end, and change the status."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:  # closed by whoever started us
            continue
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def status_of(arguments: Sequence[str] | None = None) -> int:
    """The exit status that the command line comes to; errors are printed to stderr. With `replay --bisect`, whatever
    kept it from running is for git to skip."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    status = _status_of(words)
    is_for_git = words[:1] == ["replay"] and "--bisect" in words
    return CANNOT_TELL if is_for_git and status in (BAD_INPUT, TOOL_FAILURE) else status


def _status_of(arguments: Sequence[str]) -> int:
    """Every way of failing is mapped to a status here, and only here."""
    try:
        if asked := os.environ.get(_COMPLETE):
            return _complete(asked)
        status = cli.main(arguments, prog_name=_NAME, standalone_mode=False)
        return int(status) if status is not None else OK
    except click.ClickException as error:
        return _failed(BAD_INPUT, error.show)
    except (click.Abort, KeyboardInterrupt):
        return _failed(INTERRUPTED, lambda: say("interrupted"))
    except BadInput as error:
        return _failed(BAD_INPUT, partial(say, f"{_NAME}: {error}"))
    except SystemExit:  # click's way out when nobody reads what we print; its own status would say "a finding"
        return TOOL_FAILURE
    except (ToolFailure, OSError) as error:
        return _failed(TOOL_FAILURE, partial(say, f"{_NAME}: {explained(error)}"))
    except Exception:
        message = f"{_NAME}: an error of its own; please report it:\n{traceback.format_exc()}"
        return _failed(TOOL_FAILURE, partial(say, message))


def _complete(asked: str) -> int:
    """Print what a shell asked for: its script, or what the line that it has in COMP_WORDS may go on with."""
    shell, _, what = asked.partition("_")
    if get_completion_class(shell) is None or what not in ("source", "complete"):
        raise BadInput(f"{_COMPLETE}={asked}: expected bash_source, zsh_source or fish_source")
    if what == "complete" and not {"COMP_WORDS", "COMP_CWORD"} <= os.environ.keys():
        raise BadInput(f"{_COMPLETE}={asked} is for a shell that completes a line; {shell}_source prints what it needs")
    return TOOL_FAILURE if shell_complete(cli, {}, _NAME, _COMPLETE, asked) else OK


def _failed(status: int, tell: Callable[[], None]) -> int:
    """The status, once it was told why; also where nobody hears that."""
    with suppress(OSError):
        tell()
    return status
