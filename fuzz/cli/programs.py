"""The command that runs programs on both sides."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fuzz.cli.chosen import sides_from
from fuzz.cli.options import (
    BAD_INPUT,
    EACH,
    EXISTING,
    FINDING,
    INTERRUPTED,
    OK,
    TOOL_FAILURE,
    judge_option,
    kernel_options,
    say,
    show_line,
    tier_options,
)
from fuzz.cli.outputs import OutFolder
from fuzz.cli.places import interruption, print_places, say_next
from fuzz.cli.result_files import ResultFiles, result_options
from fuzz.cli.several import read_each
from fuzz.results.outcome import Comparison, Status, Test, broken, bucket_test
from fuzz.sides import Side
from fuzz.triage.result import Result
from harness.amounts import counted, number
from harness.errors import CannotRun, ToolFailure
from harness.findings.finding import load
from harness.findings.verified import verified_against
from harness.observation.executor import Executor, TargetDied
from harness.outside import shown
from harness.program.granule import GRANULE_4K
from harness.program.program import Program
from harness.verdict.judge import Judge
from harness.verdict.judging import Judging
from harness.verdict.known import mention
from harness.verdict.tiers import DEFAULT_TIERS, Tier
from harness.verdict.verdicts import Inconclusive, Suspicion, Unconfirmed

if TYPE_CHECKING:
    from fuzz.cli.each import Causes
    from fuzz.triage.filed import Filed
    from fuzz.triage.filing import Filer


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
@click.option("--strict", is_flag=True, help="Exit with status 2 where a program was skipped.")
@EACH
@result_options
@tier_options
@judge_option(Judging.ALL)
@kernel_options
def run(
    programs: tuple[Path, ...],
    out: Path,
    verbose: bool,
    events: bool,
    strict: bool,
    each: bool,
    files: ResultFiles,
    tiers: frozenset[Tier] | None,
    judging: Judging | None,
    **kernel: Any,
) -> int:
    """Run programs on both sides and compare.

    A PROGRAM is a *.s2 file or a finding's directory. One that a side cannot run, since that lacks what it asks for, is
    skipped and named; so is one that is malformed, which makes the exit status 2. So it is where none could run.

    With --each of several patches, a table first tells what programs come to with none of them, the first, and so on.
    """
    sides = sides_from(**kernel)
    read = read_each(programs)
    planned = [Test(shown(path), Comparison(sides, program.machine.granule.name)) for path, program in read.programs]
    files.begin("run", planned)
    unknown = planned[0].comparison if planned else Comparison(sides, GRANULE_4K.name)
    files.tell(broken(Test(shown(path), unknown), error) for path, error in read.malformed)
    if not read.programs:
        files.write({"programs": "0"})
        return BAD_INPUT
    causes: Causes = {}
    if each:
        from fuzz.cli.each import run_each  # noqa: PLC0415  (with what takes series apart)

        causes = run_each(read.programs, sides, tiers or DEFAULT_TIERS)
    left, right = _open_both(sides, [program for _, program in read.programs])
    with closing(left), closing(right):
        runs = _Runs(
            Judge(left, right, tiers or DEFAULT_TIERS, judging or Judging.ALL), sides, out.resolve(), verbose, events
        )
        try:
            for test, (path, program) in zip(planned, read.programs, strict=True):
                files.tell([runs.run(test, path, program)])
        except KeyboardInterrupt:
            files.interrupt()
            say(interruption(runs.ran, len(runs.filed), of=len(programs)))
            files.interrupt()
            return INTERRUPTED
        finally:
            if causes:
                from fuzz.cli.each import record_causes  # noqa: PLC0415

                record_causes(causes, [filed.directory for filed in runs.filed])
            print_places(runs.filed)
        for key, count in runs.known.items():
            click.echo(mention(key, count))
        if not runs.filed:
            _say_verified_against(left, right)
        if len(programs) > 1:
            show_line(runs.summary(len(programs), len(read.malformed)))
        files.write({"programs": str(len(programs))})
        if runs.filed:
            return FINDING
        if runs.flaky:
            return TOOL_FAILURE
        return BAD_INPUT if read.malformed or not runs.ran or (strict and runs.skipped) else OK


class _Runs:
    """Runs programs, says what comes of each, and counts."""

    def __init__(self, judge: Judge, sides: tuple[Side, Side], out: Path, verbose: bool, events: bool) -> None:
        self._judge = judge
        self._sides = sides
        self._out = out
        self.filed: list[Filed] = []
        """Its findings, as `Filer` has them."""
        self._verbose = verbose
        self._events = events
        self.known = Counter[str]()
        """Calls that go wrong in a way that is known of Linux."""
        self.skipped = Counter[str]()
        """Programs by why they could not run."""
        self.ran = self.flaky = 0

    @functools.cached_property
    def _filer(self) -> Filer:
        from fuzz.triage.filing import Filer  # noqa: PLC0415  (mostly, there is nothing to file)

        executors = self._judge.left, self._judge.right
        filer = Filer(self._out, self._sides, executors, {"command": "run"}, self._judge.tiers)
        self.filed = filer.filed
        return filer

    def run(self, test: Test, path: Path, program: Program) -> Test:
        """Run a program, and return what comes of it. Raises ToolFailure, OSError."""
        probed = program
        try:
            look = self._judge.look(program)
            if self._judge.wants_hardware(program, look):
                probed = self._judge.with_probes(program)
                self.known.update(look.known)
                look = self._judge.look_deeper(probed)
        except CannotRun as error:
            self.skipped[error.why] += 1
            say(f"{shown(path)}: skipped: {error.why}")
            return replace(test, status=Status.SKIPPED, why=error.why)
        self.ran += 1
        self.known.update(look.known)
        suspicion = look.suspicion
        try:
            verdict = self._judge.confirm(probed, suspicion) if isinstance(suspicion, Suspicion) else suspicion
        except Unconfirmed as error:
            self.flaky += 1
            kept = self._filer.file_flaky(probed, error)
            why = f"flaky: {error}, but not on every fresh kernel; kept as {shown(kept)}"
            say(f"{shown(path)}: {why}")
            say_next(load(kept), to_stderr=True)
            return broken(test, ToolFailure(why))
        if isinstance(verdict, Inconclusive):
            show_line(f"{shown(path)}: the sides agree as far as its budget goes; a larger one would tell more")
            cut = verdict.cut.describe((self._judge.left.name, self._judge.right.name))
            show_line(f"  {cut}")
            test = replace(test, status=Status.SKIPPED, why=f"its budget is too small: {cut}")
        elif verdict is not None:
            show_line(f"{shown(path)}: {verdict.kind} {verdict.bucket}")
            shown_by = program if verdict.record <= len(program.ops) else probed
            click.echo(self._filer.report(shown_by, verdict))
            found = load(self._filer.file(shown_by, verdict))
            return replace(bucket_test(test.comparison, [Result(found)]), name=test.name)
        else:
            show_line(f"{shown(path)}: the sides agree")
        self._tell_mended(path, program)
        self._tell_more(program)
        return test

    def _tell_mended(self, path: Path, program: Program) -> None:
        try:
            lines = self._judge.mended(path, program)
        except TargetDied:  # which was told when it ran
            return
        for line in lines:
            show_line(f"  {line}")

    def _tell_more(self, program: Program) -> None:
        if self._verbose or self._events:
            from harness.findings.report import event_report, run_report  # noqa: PLC0415

            seen = self._judge.right.observe(program)
            ops, events = run_report(program, seen), event_report(program, seen)
            for line in [*(ops if self._verbose else ()), *(events if self._events else ())]:
                click.echo(f"  {line}")

    def summary(self, of: int, malformed: int) -> str:
        """How many programs ran, `of` how many, and what became of the others."""
        parts = [f"ran {number(self.ran)} of {counted(of, 'program')}"]
        if self.skipped:
            why = ", ".join(f"{reason} ({number(count)})" for reason, count in self.skipped.most_common())
            parts.append(f"{number(self.skipped.total())} skipped: {why}")
        if malformed:
            parts.append(f"{number(malformed)} malformed")
        if self.flaky:
            parts.append(f"{number(self.flaky)} flaky")
        return "; ".join(parts)
