"""The command that weighs sides that are meant to differ, or rules, by programs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

import click

from fuzz.cli.options import BAD_INPUT, EXISTING, FINDING, OK, say, show_line
from fuzz.cli.several import read_each
from fuzz.sides import Side, ownership_sides, parse_side
from harness.amounts import counted
from harness.errors import BadInput, CannotRun
from harness.observation.executor import Executor, TargetDied
from harness.outside import shown
from harness.program.program import Program
from harness.verdict.aborts import handles_aborts
from harness.verdict.topup_rules import RULES, RuleWeight, rule_table, weigh_rule
from harness.verdict.weighing import weigh as weigh_program
from harness.verdict.weighing import weight_table
from pgtable import OWNERSHIPS
from reference.build.naming import DEFAULT_LINUX

_WAYS: Final = "\n".join(
    ["\b", "Ways to record owners:", *(f"  {name:<20} {way.what}" for name, way in OWNERSHIPS.items())]
)


@click.command(epilog=_WAYS)
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
@click.option(
    "--ways",
    metavar="WAY,…",
    help=f"The model with these ways to record owners, beside the kernel {DEFAULT_LINUX}.  [default: all of them]",
)
@click.option("--sides", metavar="A,B,…", help="Other sides instead: any that `s2fuzz run` takes, any number.")
@click.option(
    "--rules",
    metavar="RULE,…",
    help=f"Weigh these rules for topping up the memcache instead, or `all`: {', '.join(RULES)}. "
    f"On kernel:{DEFAULT_LINUX}, unless --sides has others.",
)
def weigh(programs: tuple[Path, ...], ways: str | None, sides: str | None, rules: str | None) -> int:
    """Weigh sides that are meant to differ: what a program comes to on each, and what that takes.

    Memory mapped and recorded as somebody else's in the end, and whether it is as on the first side; tables; events.
    model:6.12+flag is the model with another way to record owners; docs/ownership.md tells what comes of each.

    With --rules: the aborts that programs handle, the pages that their memcache took and gave, and the rules that this
    broke, for each program and all together; docs/memcache.md tells what comes of each rule.
    """
    if ways is not None and (sides is not None or rules is not None):
        raise BadInput(f"--ways and --{'rules' if sides is None else 'sides'} exclude each other")
    names = None if rules is None else _rules_in(rules)
    if sides is not None:
        chosen = [parse_side(text) for text in sides.split(",")]
    else:
        chosen = ownership_sides(ways) if names is None else [parse_side(f"kernel:{DEFAULT_LINUX}")]
    read = read_each(programs)
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(side.open(say))) for side in chosen]
        weighing = _Ways(chosen, opened) if names is None else _Rules(chosen, opened, names)
        status = weighing.weigh(read.programs, len(programs))
    return BAD_INPUT if status == OK and read.malformed else status


def _rules_in(text: str) -> tuple[str, ...]:
    names = RULES if text == "all" else tuple(text.split(","))
    for name in names:
        if name not in RULES:
            raise BadInput(f"--rules: `{name}` is no rule: expected {', '.join(RULES)}, or all")
    return names


class _Weighing:
    """Weighs programs on sides, and prints a table for each."""

    def __init__(self, sides: Sequence[Side], executors: Sequence[Executor]) -> None:
        self.sides = tuple(zip([side.name for side in sides], executors, strict=True))
        self.weighed = 0

    def weigh(self, programs: Sequence[tuple[Path, Program]], of: int) -> int:
        """The exit status; `of` is how many programs were given."""
        died = False
        for path, program in programs:
            try:
                lines = self.table(program)
            except CannotRun as error:
                say(f"{shown(path)}: skipped: {error.why}")
                continue
            except TargetDied as error:
                show_line(f"{shown(path)}: {error.report.kind}: {error.report.headline}\n{error.report.details}")
                died = True
                continue
            if of > 1:
                show_line(f"{os.linesep if self.weighed else ''}{shown(path)}:")
            self.weighed += 1
            for line in lines:
                click.echo(line)
        if died:
            return FINDING
        return OK if self.weighed else BAD_INPUT

    def table(self, program: Program) -> list[str]:
        """The lines of one program. Raises CannotRun, TargetDied."""
        raise NotImplementedError


class _Ways(_Weighing):
    """What programs come to on each side."""

    def table(self, program: Program) -> list[str]:
        weights = [weigh_program(executor, program) for _, executor in self.sides]
        return weight_table([name for name, _ in self.sides], weights)


class _Rules(_Weighing):
    """What the aborts that programs handle come to under each rule."""

    def __init__(self, sides: Sequence[Side], executors: Sequence[Executor], rules: Sequence[str]) -> None:
        super().__init__(sides, executors)
        self._rows = [(name, executor, rule) for name, executor in self.sides for rule in rules]
        self._sums = [RuleWeight() for _ in self._rows]

    def weigh(self, programs: Sequence[tuple[Path, Program]], of: int) -> int:
        with_aborts = [(path, program) for path, program in programs if handles_aborts(program)]
        if programs and not with_aborts:
            raise BadInput("no program has a `handle`: there is nothing to weigh rules by")
        status = super().weigh(with_aborts, of)
        if self.weighed > 1:
            click.echo(f"{os.linesep}all {counted(self.weighed, 'program')}:")
            for line in self._lines(self._sums):
                click.echo(line)
        return status

    def table(self, program: Program) -> list[str]:
        weights = [weigh_rule(executor, program, rule) for _, executor, rule in self._rows]
        self._sums = [one + other for one, other in zip(self._sums, weights, strict=True)]
        return self._lines(weights)

    def _lines(self, weights: Sequence[RuleWeight]) -> list[str]:
        named = zip(self._rows, weights, strict=True)
        return rule_table((name, rule, weight) for (name, _, rule), weight in named)
