"""Which commands there are. A module is imported when its command is asked for: most take libraries, and time, that the
others do without."""

from __future__ import annotations

from collections import UserDict
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Final, NamedTuple

import click
from click.shell_completion import CompletionItem

from harness.settings import refuse_empty_variables, refuse_empty_words
from reference.build.patch_names import FILE_ENDS


class _Place(NamedTuple):
    module: str
    """In this folder."""
    function: str
    line: str
    """For the list of commands: no longer than a terminal of 80 columns has room for."""


_COMMANDS: Final = {
    "bisect": _Place("bisecting", "bisect", "Find the commit that brought a finding."),
    "build": _Place("kernels", "build", "Build the kernels of both sides, and say what they are made of."),
    "campaign": _Place("campaign", "campaign", "Fuzz for hours, in a directory that keeps everything."),
    "check": _Place("files", "check", "Check that programs are well formed, without running them."),
    "corpus": _Place("corpus", "corpus", "Put corpora in order: import, export, check, or make smaller."),
    "coverage": _Place("kernels", "coverage", "List the lines of pgtable.c that no program reaches, and why."),
    "debug": _Place("debugging", "debug", "Run a program in a kernel that waits for gdb at an op."),
    "doctor": _Place("doctor", "doctor", "Check this machine: what is needed, and how to get it."),
    "fmt": _Place("files", "fmt", "Rewrite programs in canonical form."),
    "known": _Place("known", "known", "Promises that Linux is known to break: list them, or add one."),
    "mail": _Place("mail", "mail", "Write a mail on a finding, ready to be sent."),
    "package": _Place("cluster", "package_command", "Make a folder from which a fuzzing cluster runs."),
    "replay": _Place("replaying", "replay", "Run a finding again: still there, or gone?"),
    "report": _Place("report", "report", "Write a campaign's report, one page of HTML."),
    "run": _Place("programs", "run", "Run programs on both sides and compare."),
    "shell": _Place("shell", "shell", "Try ops by hand, one a line, on a table in a running kernel."),
    "show": _Place("showing", "show", "Show what a program does: results, and the tree, decoded."),
    "smoke": _Place("smoke", "smoke", "Fuzz for a short while: what CI runs on every change."),
    "status": _Place("status", "status", "Say how a campaign is getting on."),
    "tmin": _Place("minimising", "tmin", "Make a finding's program as small as it gets."),
    "trace": _Place("traces", "trace", "Print a program's events, for people or other tools."),
    "weigh": _Place("weigh", "weigh", "Weigh sides that are meant to differ, or rules."),
}


def _spread(words: Sequence[str]) -> list[str]:
    """The words of a command line as click knows it: of `--patch A.patch B.patch`, which a shell makes of *.patch, with
    the option before each."""
    spread: list[str] = []
    for word in words:
        follows = len(spread) > 1 and spread[-2] == "--patch" and word.endswith(FILE_ENDS)
        spread += ["--patch", word] if follows else [word]
    return spread


class OnDemand(UserDict[str, click.Command]):
    """The commands by name, for a group; each is imported when it is looked up."""

    def __missing__(self, name: str) -> click.Command:
        place = _COMMANDS[name]
        self.data[name] = getattr(import_module(f"fuzz.cli.{place.module}"), place.function)
        return self.data[name]

    def __contains__(self, name: object) -> bool:
        return name in _COMMANDS

    def __iter__(self) -> Iterator[str]:
        return iter(_COMMANDS)

    def __len__(self) -> int:
        return len(_COMMANDS)


class Commands(click.Group):
    """All commands. None of them takes an empty value, and none is imported to be listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing:  # where a shell completes a line, which has whatever was typed so far
            refuse_empty_variables()
            refuse_empty_words(args)
        return super().parse_args(ctx, _spread(args))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name].line) for name in self.list_commands(ctx)])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=_COMMANDS[name].line) for name in names), *options]
