"""The commands that take programs: run them, show what they do, weigh sides by them, and look after their text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click

from fuzz.cli import display
from fuzz.cli.chosen import sides_from
from fuzz.cli.each import record_causes, run_each
from fuzz.cli.options import EACH, EXISTING, FINDING, OK, kernel_options, say, show_line, tier_options
from fuzz.cli.outputs import OutFolder
from fuzz.cli.result_files import ResultFiles, result_options
from fuzz.results.outcome import Comparison, Status, Test, bucket_test
from fuzz.sides import Side, ownership_sides, parse_side
from fuzz.triage.baseline import Result
from fuzz.triage.filing import Filer
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import load
from harness.findings.place import program_in
from harness.findings.report import event_report, observation_text, run_report, verified_against
from harness.observation.executor import Executor, TargetDied
from harness.outside import shown
from harness.program.program import Program
from harness.verdict.judge import Judge
from harness.verdict.known import mention
from harness.verdict.tiers import DEFAULT_TIERS, Tier
from harness.verdict.verdicts import Inconclusive, Suspicion, Unconfirmed
from harness.verdict.weighing import weigh as weigh_program
from harness.verdict.weighing import weight_table
from pgtable import OWNERSHIPS
from reference.build.packages import DEFAULT_LINUX


def _open_both(sides: tuple[Side, Side], programs: Iterable[Program]) -> tuple[Executor, Executor]:
    """Both executors, with what the programs need built before any of them runs."""
    granules = [program.machine.granule for program in programs]
    left, right = (side.open(say, granules) for side in sides)
    return left, right


def _say_verified_against(left: Executor, right: Executor) -> None:
    for line in verified_against([left.identity, right.identity]):
        click.echo(line)


@click.command()
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
@click.option("--out", type=OutFolder(), default="s2fuzz-out", show_default=True, help="Where findings go.")
@click.option("-v", "--verbose", is_flag=True, help="Print every op with its result.")
@click.option("--events", is_flag=True, help="Print every op's boundary events.")
@EACH
@result_options
@tier_options
@kernel_options
def run(
    programs: tuple[Path, ...],
    out: Path,
    verbose: bool,
    events: bool,
    each: bool,
    files: ResultFiles,
    tiers: frozenset[Tier] | None,
    **kernel: Any,
) -> int:
    """Run programs on both sides and compare.

    A PROGRAM is a *.s2 file or a finding's directory. A program that one of the kernels cannot run is refused. With
    --each of several patches, a table first tells what programs come to with none of them, the first, and so on.
    """
    sides = sides_from(**kernel)
    loaded = [(path, program_in(path)) for path in programs]
    planned = [Test(shown(path), Comparison(sides, program.machine.granule.name)) for path, program in loaded]
    files.begin("run", planned)
    causes = run_each(loaded, sides, tiers or DEFAULT_TIERS) if each else {}
    left, right = _open_both(sides, [program for _, program in loaded])
    with closing(left), closing(right):
        filer = Filer(out.resolve(), sides, (left, right), {"command": "run"}, tiers or DEFAULT_TIERS)
        judge, known = Judge(left, right, filer.tiers), Counter[str]()
        try:
            for test, (path, program) in zip(planned, loaded, strict=True):
                files.tell([_run_one(test, path, program, judge, known, filer, verbose, events)])
        finally:
            record_causes(causes, [filed.directory for filed in filer.filed])
            display.print_places(filer.filed)
        for key, count in known.items():
            click.echo(mention(key, count))
        if not filer.filed:
            _say_verified_against(left, right)
        files.write({"programs": str(len(loaded))})
        return FINDING if filer.filed else OK


def _run_one(
    test: Test,
    path: Path,
    program: Program,
    judge: Judge,
    known: Counter[str],
    filer: Filer,
    verbose: bool,
    events: bool,
) -> Test:
    """Run a program, say what comes of it, and return that as a test."""
    look = judge.look(program)
    known.update(look.known)
    suspicion = look.suspicion
    try:
        verdict = judge.confirm(program, suspicion) if isinstance(suspicion, Suspicion) else suspicion
    except Unconfirmed as error:
        kept = filer.file_flaky(program, error)
        raise ToolFailure(
            f"{shown(path)}: flaky: {error}, but not on every fresh kernel; kept as {shown(kept)}"
        ) from error
    if isinstance(verdict, Inconclusive):
        show_line(f"{shown(path)}: the sides agree as far as its budget goes; a larger one would tell more")
        cut = verdict.cut.describe((judge.left.name, judge.right.name))
        show_line(f"  {cut}")
        test = replace(test, status=Status.SKIPPED, why=f"its budget is too small: {cut}")
    elif verdict is not None:
        show_line(f"{shown(path)}: {verdict.kind} {verdict.bucket}")
        click.echo(filer.report(program, verdict))
        found = load(filer.file(program, verdict))
        return replace(bucket_test(test.comparison, [Result(found)]), name=test.name)
    else:
        show_line(f"{shown(path)}: the sides agree")
    if verbose or events:
        seen = judge.right.observe(program)
        for line in [*(run_report(program, seen) if verbose else ()), *(event_report(program, seen) if events else ())]:
            click.echo(f"  {line}")
    return test


@click.command()
@click.argument("program", type=EXISTING)
@click.option(
    "--on",
    type=click.Choice(("left", "right")),
    help="Which of the two sides to show.  [default: left, the model; right if a kernel is chosen]",
)
@click.option("--events", is_flag=True, help="Show every op's boundary events too.")
@kernel_options
def show(program: Path, on: str | None, events: bool, **kernel: Any) -> int:
    """Show what a program does: every result, and the resulting tree, decoded."""
    loaded = program_in(program)
    sides = sides_from(**kernel)
    chooses_kernel = any(kernel[name] not in (None, ()) for name in ("linux", "patches", "pgtable", "flavour"))
    side = sides[1 if (on or ("right" if chooses_kernel else "left")) == "right" else 0]
    with closing(side.open(say)) as executor:
        try:
            click.echo(observation_text(loaded, executor.observe(loaded), events), nl=False)
        except TargetDied as error:
            click.echo(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
            return FINDING
    return OK


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
def weigh(programs: tuple[Path, ...], ways: str | None, sides: str | None) -> int:
    """Weigh sides that are meant to differ: what a program comes to on each, and what that takes.

    Memory mapped and recorded as somebody else's in the end, and whether it is as on the first side; tables; events.
    model:6.12+flag is the model with another way to record owners; docs/ownership.md tells what comes of each.
    """
    if ways is not None and sides is not None:
        raise BadInput("--ways and --sides exclude each other")
    chosen = ownership_sides(ways) if sides is None else [parse_side(text) for text in sides.split(",")]
    loaded = [(path, program_in(path)) for path in programs]
    with ExitStack() as stack:
        opened = [stack.enter_context(closing(side.open(say))) for side in chosen]
        for number, (path, program) in enumerate(loaded):
            if len(loaded) > 1:
                show_line(f"{os.linesep if number else ''}{shown(path)}:")
            try:
                weights = [weigh_program(side, program) for side in opened]
            except TargetDied as error:
                click.echo(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
                return FINDING
            for line in weight_table([side.name for side in chosen], weights):
                click.echo(line)
    return OK
