"""The command line: its commands, and what they end with. Each is in a module by topic, which is imported for it, and
thin: it chooses sides, calls, and prints."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Sequence

import click

from fuzz import __version__
from fuzz.cli.commands import Commands, OnDemand
from fuzz.cli.options import BAD_INPUT, CANNOT_TELL, INTERRUPTED, OK, TOOL_FAILURE, say
from harness.errors import BadInput, ToolFailure
from harness.full_disk import explained


@click.group(
    cls=Commands,
    commands=OnDemand(),
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="s2fuzz")
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


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit with its status."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends as Ctrl-C does, in order
    sys.exit(status_of(arguments))


def status_of(arguments: Sequence[str] | None = None) -> int:
    """The exit status that the command line comes to; errors are printed to stderr. With `replay --bisect`, whatever
    kept it from running is for git to skip."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    status = _status_of(words)
    return (
        CANNOT_TELL if status in (BAD_INPUT, TOOL_FAILURE) and words[0] == "replay" and "--bisect" in words else status
    )


def _status_of(arguments: Sequence[str]) -> int:
    """Every way of failing is mapped to a status here, and only here."""
    try:
        status = cli.main(arguments, prog_name="s2fuzz", standalone_mode=False)
        return int(status) if status is not None else OK
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        error.show()
        return BAD_INPUT
    except (click.Abort, KeyboardInterrupt):
        say("interrupted")
        return INTERRUPTED
    except BadInput as error:
        say(f"s2fuzz: {error}")
        return BAD_INPUT
    except ToolFailure as error:
        say(f"s2fuzz: {error}")
        return TOOL_FAILURE
    except SystemExit:  # click's way out when nobody reads what we print; its own status would say "a finding"
        return TOOL_FAILURE
    except OSError as error:
        say(f"s2fuzz: {explained(error)}")
        return TOOL_FAILURE
    except Exception:
        say(f"s2fuzz: an error of its own; please report it:\n{traceback.format_exc()}")
        return TOOL_FAILURE
