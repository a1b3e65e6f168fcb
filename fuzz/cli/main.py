"""The command line. Commands are thin: they choose sides, call, and print."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import click

from fuzz import __version__
from fuzz.cli import campaign as campaign_commands
from fuzz.cli import cluster as cluster_commands
from fuzz.cli import corpus as corpus_commands
from fuzz.cli import display
from fuzz.cli import report as report_commands
from fuzz.cli.ci import Base, Result, results_of, write_junit, write_sarif
from fuzz.cli.debugging import debug as run_debug
from fuzz.cli.doctor import examine
from fuzz.cli.options import (
    BAD_INPUT,
    BUDGET,
    CORPORA,
    EXISTING,
    FINDING,
    GRANULE,
    GRANULE_SHARES,
    INTERRUPTED,
    NO_COMPILE,
    OK,
    SECONDS,
    TOOL_FAILURE,
    also_from,
    compiled_for,
    granules_in,
    kernel_options,
    say,
    show_line,
    sides_from,
    tier_options,
)
from fuzz.cli.shell import converse, lines
from fuzz.cli.triage import CANNOT_TELL, bisect, replay, tmin
from fuzz.coverage.kernel_lines import measure as measure_lines
from fuzz.coverage.kernel_lines import report as report_lines
from fuzz.engine.assignment import GUIDANCE, Assignment
from fuzz.engine.smoke import Interrupted, Progress
from fuzz.engine.smoke import smoke as run_smoke
from fuzz.sides import DEFAULT_LINUX, Side, ownership_sides, parse_side
from fuzz.triage.filing import Filer
from harness.errors import BadInput, ToolFailure
from harness.files import brief, file_lines
from harness.findings.finding import file_of, program_in, report_in
from harness.findings.report import event_report, observation_text, run_report, verified_against
from harness.observation.executor import Executor, TargetDied
from harness.outside import shown, write_plain
from harness.program.granule import GRANULE_4K, GRANULES, Granule, granule_named
from harness.program.program import Program
from harness.program.text import read_text, reformat
from harness.settings import refuse_empty_variables, refuse_empty_words
from harness.verdict.compare import DEFAULT_TIERS, Tier
from harness.verdict.judge import Inconclusive, Judge, Suspicion, Unconfirmed
from harness.verdict.known import mention
from harness.verdict.weighing import outcome_table
from harness.verdict.weighing import weigh as weigh_program
from pgtable import OWNERSHIPS
from reference.link.shell import Shell


def _open_both(sides: tuple[Side, Side], programs: Iterable[Program]) -> tuple[Executor, Executor]:
    """Both executors, with what the programs need built before any of them runs."""
    granules = [program.machine.granule for program in programs]
    left, right = (side.open(say, granules) for side in sides)
    return left, right


def _say_verified_against(left: Executor, right: Executor) -> None:
    for line in verified_against([left.identity, right.identity]):
        click.echo(line)


class _Commands(click.Group):
    """All commands. None of them takes an empty value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        refuse_empty_variables()
        refuse_empty_words(args)
        return super().parse_args(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
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


_FILE: Final = click.Path(dir_okay=False, path_type=Path)


@cli.command()
@click.option("--seconds", type=SECONDS, default=60.0, show_default=True, help="How long to fuzz.")
@click.option("--executions", type=click.IntRange(min=1), help="Stop after so many generated programs, if sooner.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same programs.  [default: from the clock]")
@click.option("--keep-going", is_flag=True, help="Do not stop at the first finding; keep three of each bucket.")
@click.option(
    "--out", type=click.Path(path_type=Path), default="s2fuzz-out", show_default=True, help="Where findings go."
)
@click.option(
    "--corpora",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Programs to run first.  [default: those of the checkout]",
)
@click.option("--no-corpora", is_flag=True, help="Run generated programs only.")
@click.option(
    "--guidance",
    type=click.Choice(GUIDANCE),
    default="kernel",
    show_default=True,
    help="Whose coverage steers: the hosted file's, the model's (much slower), or both.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Fuzzing processes at once, each with a QEMU of its own.",
)
@click.option(
    "--also",
    multiple=True,
    metavar="A,B",
    help="Two more sides to compare, written as for --sides, as long as the others: workers are divided among them, or "
    "their time. May be repeated.",
)
@click.option(
    "--stage",
    type=click.Choice(("1", "2")),
    help="Generate programs for hyp's stage 1 or a guest's stage 2 only.  [default: some for stage 1]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line on stdout, everything else on stderr.")
@click.option(
    "--granule",
    "granules",
    callback=granules_in,
    metavar="GRANULE,…",
    help=f"Sizes of page to fuzz, some of {','.join(one.name for one in GRANULES)}, each as long.  [default: "
    f"{', '.join(f'{one.name} {share:.0%}' for one, share in GRANULE_SHARES.items())} of the time; with --inputs "
    f"{GRANULE_4K.name}]",
)
@click.option(
    "--base",
    metavar="KERNEL",
    help="What the change under test is a change of: a kernel as for --linux, a revision of the repository that "
    "--linux is in, another pgtable.c, or a file with known buckets. What is found there as well does not count.",
)
@click.option("--junit", type=_FILE, metavar="FILE", help="Write the outcome to FILE, as JUnit XML.")
@click.option("--sarif", type=_FILE, metavar="FILE", help="Write the findings to FILE, as SARIF.")
@NO_COMPILE
@tier_options
@BUDGET
@click.option("--inputs", type=click.Path(path_type=Path), help="Write every generated input to FILE, a hex line each.")
@kernel_options
def smoke(
    seconds: float,
    executions: int | None,
    seed: int | None,
    keep_going: bool,
    out: Path,
    corpora: Path | None,
    no_corpora: bool,
    guidance: str,
    workers: int,
    also: tuple[str, ...],
    stage: str | None,
    as_json: bool,
    granules: tuple[Granule, ...] | None,
    base: str | None,
    junit: Path | None,
    sarif: Path | None,
    no_compile: bool,
    tiers: frozenset[Tier] | None,
    budget: int | None,
    inputs: Path | None,
    **kernel: Any,
) -> int:
    """Fuzz for a short while: what CI runs on every change.

    Replays the corpora first, then lets Atheris generate programs, each run on both sides. Nothing is kept between
    runs but findings, which go to --out. The same seed and number of workers make the same programs; process number n
    (from 0) has the seed SEED + n.
    """
    shares = dict.fromkeys(granules, 1.0) if granules else {GRANULE_4K: 1.0} if inputs else GRANULE_SHARES
    granules = tuple(shares)
    pairs = [sides_from(**kernel), *(also_from(text, **kernel) for text in also)]
    if inputs is not None and max(workers, len(pairs) * len(granules)) > 1:
        raise BadInput("--inputs is one process's: it needs --workers 1, one --granule and no --also")
    for side in dict.fromkeys(side for pair in pairs for side in pair):
        side.open(say, granules).close()  # before the clock starts, and where errors are printed as they are
    before = None if base is None else Base(base, kernel["linux"])
    if before is not None:
        before.build(pairs, granules, say)
    compiled = compiled_for(guidance, no_compile)
    _check_places(out, inputs, junit, sarif)
    sizes = "pages of " + ", ".join(granule.name for granule in granules)
    chosen_seed = int(time.time()) if seed is None else seed
    folders = () if no_corpora else tuple(path for path in (corpora or CORPORA,) if path.is_dir())
    work = [
        Assignment(
            pair,
            out.resolve(),
            folders,
            chosen_seed,
            seconds,
            executions,
            keep_going or before is not None,
            inputs,
            guidance=guidance,
            tiers=tiers or DEFAULT_TIERS,
            granule=granule.name,
            stages=() if stage is None else (int(stage),),
            compiled=compiled,
            budget=budget,
        )
        for granule in granules
        for pair in pairs
    ]
    for left, right in pairs:
        say(f"{left.full_name} against {right.full_name}, {sizes}, seed {chosen_seed}, {seconds:g} s")
    with display.live(seconds) as show:
        try:
            progress = run_smoke(work, workers, show, [shares[granule] for granule in granules for _ in pairs])
        except Interrupted as error:
            progress = error.progress
    results = results_of(progress.findings, before)
    new = [result for result in results if not result.known]
    for finding, result in zip(progress.findings, results, strict=True):
        finding["new"] = not result.known
    names = [f"{left.full_name} against {right.full_name}" for left, right in pairs]
    about = {"executions": str(progress.executions), "granules": sizes, "seed": str(chosen_seed)}
    if junit is not None:
        write_junit(junit, ", ".join(names), results, about, progress.seconds)
    if sarif is not None:
        write_sarif(sarif, results)
    _say_outcome(progress, results, as_json)
    if as_json:
        click.echo(json.dumps(_smoke_json(progress, chosen_seed), sort_keys=True))
    if progress.interrupted:
        return INTERRUPTED
    return FINDING if new else OK


def _say_outcome(progress: Progress, results: Sequence[Result], to_stderr: bool) -> None:
    for line in display.summary(progress):
        click.echo(line, err=to_stderr)
    new = [result for result in results if not result.known]
    if new and not to_stderr:
        click.echo(report_in(new[0].finding.directory))
    else:
        for line in verified_against(progress.identities):
            click.echo(line, err=to_stderr)
    for result in results:
        if result.known:
            click.echo(f"known: {result.finding.kind} {result.finding.bucket}: {result.known}", err=to_stderr)
    _print_places([finding for finding in progress.findings if finding["new"]], to_stderr)


def _check_places(out: Path, *files: Path | None) -> None:
    """Find out before the run whether it can write what it finds, not when it has found it. Raises OSError."""
    existed = out.exists()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):
        pass
    if not existed:
        out.rmdir()
    for file in files:
        if file is not None:
            file.touch()


def _print_places(findings: list[dict[str, Any]], to_stderr: bool) -> None:
    for finding in findings:
        click.echo(f"{finding['class']} {finding['bucket']}: {shown(finding['directory'])}", err=to_stderr)
    if findings:
        click.echo(f"replay with: s2fuzz replay {shown(findings[0]['directory'])}", err=to_stderr)


def _smoke_json(progress: Progress, seed: int) -> dict[str, Any]:
    return {
        **progress.stats,
        "boots": progress.boots,
        "coverage": {
            "corpus": progress.corpus,
            "features": progress.features,
            "kernel": progress.edges,
            "model": dict(zip(("lines", "of"), progress.model_lines, strict=True)),
        },
        "exec_per_s": round(progress.rate, 2),
        "findings": progress.findings,
        "identities": [brief(identity) for identity in progress.identities],
        "interrupted": progress.interrupted,
        "seconds": progress.seconds,
        "seed": seed,
    }


@cli.command()
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
@click.option(
    "--out", type=click.Path(path_type=Path), default="s2fuzz-out", show_default=True, help="Where findings go."
)
@click.option("-v", "--verbose", is_flag=True, help="Print every op with its result.")
@click.option("--events", is_flag=True, help="Print every op's boundary events.")
@tier_options
@kernel_options
def run(
    programs: tuple[Path, ...], out: Path, verbose: bool, events: bool, tiers: frozenset[Tier] | None, **kernel: Any
) -> int:
    """Run programs on both sides and compare.

    A PROGRAM is a *.s2 file or a finding's directory. A program that one of the kernels cannot run is refused.
    """
    sides = sides_from(**kernel)
    loaded = [(path, program_in(path)) for path in programs]
    left, right = _open_both(sides, [program for _, program in loaded])
    with closing(left), closing(right):
        filer = Filer(out.resolve(), sides, (left, right), {"command": "run"}, tiers or DEFAULT_TIERS)
        judge, known = Judge(left, right, filer.tiers), Counter[str]()
        try:
            for path, program in loaded:
                _run_one(path, program, judge, known, filer, verbose, events)
        finally:
            _print_places(filer.filed, to_stderr=False)
        for key, count in known.items():
            click.echo(mention(key, count))
        if not filer.filed:
            _say_verified_against(left, right)
        return FINDING if filer.filed else OK


def _run_one(
    path: Path, program: Program, judge: Judge, known: Counter[str], filer: Filer, verbose: bool, events: bool
) -> None:
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
        show_line(f"  {verdict.cut.describe((judge.left.name, judge.right.name))}")
    elif verdict is not None:
        show_line(f"{shown(path)}: {verdict.kind} {verdict.bucket}")
        click.echo(filer.report(program, verdict))
        filer.file(program, verdict)
        return
    else:
        show_line(f"{shown(path)}: the sides agree")
    if verbose or events:
        seen = judge.right.observe(program)
        for line in [*(run_report(program, seen) if verbose else ()), *(event_report(program, seen) if events else ())]:
            click.echo(f"  {line}")


@cli.command()
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


@cli.command(epilog=_WAYS)
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
                outcomes = [weigh_program(side, program) for side in opened]
            except TargetDied as error:
                click.echo(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
                return FINDING
            for line in outcome_table([side.name for side in chosen], outcomes):
                click.echo(line)
    return OK


@cli.command()
@click.argument("program", type=EXISTING)
@click.option(
    "--op", "record", type=int, default=1, show_default=True, help="Stop before this op; 0 is the implicit init."
)
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port for gdb, on 127.0.0.1.  [default: a free one]")
@click.option("--seconds", type=SECONDS, default=3600.0, show_default=True, help="How long to wait for gdb to finish.")
@kernel_options
def debug(program: Path, record: int, port: int | None, seconds: float, **kernel: Any) -> int:
    """Run a program in a kernel that waits for gdb at an op.

    Prints the gdb command that attaches, sets a breakpoint on the op and continues to it.
    """
    loaded = program_in(program)
    sides = sides_from(**kernel)
    try:
        observation = run_debug(loaded, sides[1], record, port, seconds, click.echo)
    except TargetDied as error:
        click.echo(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
        return FINDING
    if observation is None:
        raise ToolFailure(f"no debugger let the program go on within {seconds:g} s")
    click.echo(observation_text(loaded, observation), nl=False)
    return OK


@cli.command()
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
    with closing(Shell(chosen.image(say, granule_named(granule)), chosen.name)) as opened:
        if sys.stdin.isatty():
            say(f"{chosen.name}: `help` lists the ops, Ctrl-D ends")
        outcome = converse(opened, lines(), click.echo, say)
    if sys.stdin.isatty():
        return OK
    return FINDING if outcome.deaths else BAD_INPUT if outcome.refused else OK


@cli.command()
@GRANULE
@click.option(
    "--files", is_flag=True, help="Print what the hosted code was made of instead: files of the tree, with sha256s."
)
@kernel_options
def build(granule: str, files: bool, **kernel: Any) -> int:
    """Build the kernels of both sides; print their paths and what they are made of."""
    for side in sides_from(**kernel):
        if side.is_kernel:
            image = side.image(say, granule_named(granule))
            if files:
                for line in file_lines(image.files):
                    show_line(line)
                continue
            click.echo(image.elf)
            for key, value in sorted(brief(image.identity).items()):
                click.echo(f"  {key}: {value}")
    return OK


@cli.command()
@click.argument("corpora", nargs=-1, type=EXISTING, metavar="[FOLDER]...")
@click.option("--seconds", type=SECONDS, default=30.0, show_default=True, help="How long to run programs.")
@click.option(
    "--seed", type=click.IntRange(0, 2**32 - 1), default=1, show_default=True, help="Of the generated programs."
)
@kernel_options
def coverage(corpora: tuple[Path, ...], seconds: float, seed: int, **kernel: Any) -> int:
    """List the lines of a kernel's pgtable.c that no program reaches, and why.

    Runs the programs in the FOLDERs (default: those that come with s2fuzz), then generated ones, on a kernel that
    counts lines, and prints what llvm-cov makes of it. What needs another machine or kernel is skipped. Lines that are
    known to be out of reach are printed with the condition that makes them so; that list is checked as well.
    """
    if kernel["flavour"] not in (None, "lines"):
        raise BadInput("coverage builds a flavour of its own; leave out --flavour")
    with display.counting(seconds) as told:
        side = sides_from(**kernel)[1]
        found = measure_lines(side, corpora or (CORPORA,), seconds, seed, told)
    for line in report_lines(found, side.kernel_object):
        click.echo(line)
    return OK


@cli.command()
def doctor() -> int:
    """Check this machine: what s2fuzz needs, whether it is there, and how to get it."""
    missing = 0
    for check in examine():
        if check.found is None:
            missing += not check.optional
            click.echo(f"missing  {check.name}, needed for {check.needed_for}: {check.remedy}")
        else:
            click.echo(f"ok       {check.name}: {check.found}")
    if missing:
        raise ToolFailure(f"{missing} missing; `make setup` in a checkout installs them on Debian 12")
    return OK


@cli.command()
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
@click.option("--check", "only_check", is_flag=True, help="Only name the files that would change; exit 2 if any.")
def fmt(programs: tuple[Path, ...], only_check: bool) -> int:
    """Rewrite programs in canonical form. Comments stay. Nothing is written unless all of them are well formed."""
    files = [file_of(path) for path in programs]
    texts = [read_text(path) for path in files]
    formatted = [reformat(text, shown(path)) for path, text in zip(files, texts, strict=True)]
    changed = [(path, new) for path, old, new in zip(files, texts, formatted, strict=True) if old != new]
    for path, new in changed:
        if not only_check:
            _rewrite(path, new)
        show_line(f"{shown(path)}: {'not in canonical form' if only_check else 'rewritten'}")
    return BAD_INPUT if only_check and changed else OK


def _rewrite(path: Path, text: str) -> None:
    """Replace a file's text, and nothing else of it, so that it is never half written."""
    scratch = path.with_name(f".{path.name}.tmp")
    write_plain(scratch, text.encode())
    shutil.copymode(path, scratch)
    os.replace(scratch, path)


@cli.command()
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
def check(programs: tuple[Path, ...]) -> int:
    """Check that programs are well formed, without running them."""
    problems = 0
    for path in programs:
        try:
            program = program_in(path)
            show_line(f"{shown(path)}: ok, {len(program.ops)} ops")
        except BadInput as error:
            problems += 1
            say(str(error))
    return BAD_INPUT if problems else OK


for command in (
    *(campaign_commands.campaign, campaign_commands.status, report_commands.report, corpus_commands.corpus),
    *(replay, tmin, bisect, cluster_commands.package_command),
):
    cli.add_command(command)


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
        say(f"s2fuzz: {error}")
        return TOOL_FAILURE
    except Exception:
        say(f"s2fuzz: an error of its own; please report it:\n{traceback.format_exc()}")
        return TOOL_FAILURE
