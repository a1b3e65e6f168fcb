"""What commands share: exit statuses, and the options that choose sides, granules and tiers."""

from __future__ import annotations

import math
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from fuzz.cli.lines import Lines
from harness.errors import BadInput
from harness.outside import printable_lines
from harness.program.granule import GRANULE_4K, GRANULES, Granule, granule_named
from harness.program.machine import DEFAULTS, MAX_BUDGET
from harness.verdict.judging import Judging
from harness.verdict.tiers import ALL_TIERS, DEFAULT_TIERS, ORDER_EXPECTED, Tier, format_tiers, parse_tiers
from reference.build.flags import FLAVOURS, OBJECTS
from reference.build.naming import DEFAULT_LINUX, SUPPORTED
from reference.build.patch_names import STDIN
from reference.build.progress import HowFar

OK: Final = 0
FINDING: Final = 1
BAD_INPUT: Final = 2
TOOL_FAILURE: Final = 3
CANNOT_TELL: Final = 125
"""What `git bisect run` takes for a commit to be skipped."""
INTERRUPTED: Final = 130

CORPORA: Final = Path(__file__).resolve().parents[2] / "corpora"
"""The programs that come with a checkout; an installed s2fuzz has none."""


_Command = TypeVar("_Command", bound=Callable[..., Any])


class Seconds(click.FloatRange):
    """A time that passes: unlike a range of numbers, this one has no room for "nan"."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value} is no time.", param, ctx)
        return seconds


EXPECTATIONS: Final = {"order": ORDER_EXPECTED}
"""What --expect knows, and the tiers that it leaves."""
_EXPECTED: Final = "fuzz.cli.options.expected"
_EXCLUSIVE: Final = "--expect and --tiers exclude each other: --expect order is short for some of --tiers."


def tiers_in(ctx: click.Context, _param: click.Parameter, value: str | None) -> frozenset[Tier] | None:
    """The callback of --tiers: tiers as people write them, or those that --expect stands for."""
    expected: frozenset[Tier] | None = ctx.meta.get(_EXPECTED)
    if value is None:
        return expected
    if expected is not None:
        raise click.UsageError(_EXCLUSIVE)
    try:
        return parse_tiers(value)
    except BadInput as error:
        raise click.BadParameter(f"{error}.") from error


def expect_in(ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    """The callback of --expect, which hands its tiers to --tiers."""
    if value is None:
        return
    if ctx.params.get("tiers") is not None:
        raise click.UsageError(_EXCLUSIVE)
    ctx.meta[_EXPECTED] = EXPECTATIONS[value]


GRANULE_SHARES: Final = dict(zip(GRANULES, (0.7, 0.15, 0.15), strict=True))
"""Of a smoke's time, where it is not said which granules to fuzz: most for that of most kernels."""


def granules_in(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[Granule, ...] | None:
    """An option's callback: granules, each once, separated by commas; None where it was not given."""
    if value is None:
        return None
    try:
        return tuple(dict.fromkeys(granule_named(name.strip()) for name in value.split(",")))
    except BadInput as error:
        raise click.BadParameter(f"{error}.") from error


def patches_in(ctx: click.Context, _param: click.Parameter, values: tuple[Path, ...]) -> tuple[Path, ...]:
    """The callback of --patch: the files that hold patches, in order; says what of them is none. Raises BadInput."""
    if not values or ctx.resilient_parsing:
        return ()
    if values.count(_STDIN) > 1:
        raise click.BadParameter("- is given twice, but there is one standard input.")
    from reference.build.series import files_of, read_series  # noqa: PLC0415  (with all that prepares trees)

    series = read_series(files_of([_kept_input(ctx) if value == _STDIN else value for value in values]))
    for note in series.notes:
        say(note)
    return series.paths


def _kept_input(ctx: click.Context) -> Path:
    """Standard input as a file, which is there as long as the command runs."""
    file = Path(ctx.with_resource(tempfile.TemporaryDirectory(prefix="s2fuzz-"))) / STDIN
    file.write_bytes(sys.stdin.buffer.read())
    return file


NO_COMPILE: Final = click.option(
    "--no-compile",
    is_flag=True,
    help="Run everything as it is. Otherwise mypyc compiles the model and what drives it, once until they change, "
    "behind the run, which goes over to that when it is there. With --guidance model or both it always runs as it is.",
)
GRANULE: Final = click.option(
    "--granule",
    type=click.Choice([one.name for one in GRANULES]),
    default=GRANULE_4K.name,
    show_default=True,
    help="The size of page that the kernel is compiled for.",
)
_TIERS: Final = click.option(
    "--tiers",
    callback=tiers_in,
    metavar="TIER,…",
    help=f"What is compared, some of {format_tiers(ALL_TIERS)}.  [default: {format_tiers(DEFAULT_TIERS)}; replay: as "
    "when it was found]",
)
_EXPECT: Final = click.option(
    "--expect",
    type=click.Choice(tuple(EXPECTATIONS)),
    callback=expect_in,
    expose_value=False,
    help=f"What the change is meant to alter, and is no finding. `order` is that and the number of events: short for "
    f"--tiers {format_tiers(ORDER_EXPECTED)}.",
)
ORACLES: Final = ("all", "contracts")
ORACLE: Final = click.option(
    "--oracle",
    type=click.Choice(ORACLES),
    default=ORACLES[0],
    show_default=True,
    help="Who says what is wrong. `contracts` runs the kernel alone, without a second side: then that breaks promises "
    "(docs/contracts.md), leaves stale translations, crashes or hangs. It also does for trees that no model follows.",
)
BUDGET: Final = click.option(
    "--budget",
    type=click.IntRange(1, MAX_BUDGET),
    help="The least budget of every program: how many events it may cause before it ends. Raise it where many "
    f"executions are inconclusive.  [default: what each says, mostly {DEFAULTS['budget']}]",
)
_JUDGING: Final = (
    "Which programs the hardware judges, by probes at their end and by what a TLB may still hold: all; those that "
    "reach something new, those of the corpora, and a sample of the rest; or none. That is so, too, where --tiers has "
    "no `translation`."
)


def judge_option(default: Judging) -> Callable[[_Command], _Command]:
    """The option that says which programs the hardware judges; None where it was not given, which means `default`."""
    return click.option(
        "--judge",
        "judging",
        type=click.Choice([one.value for one in Judging]),
        callback=lambda _ctx, _param, value: None if value is None else Judging(value),
        help=f"{_JUDGING}  [default: {default.value}]",
    )


EACH: Final = click.option(
    "--each",
    is_flag=True,
    help="Try the patches of --patch one after the other as well: which of them brought it?",
)
SECONDS: Final = Seconds(min=0.1, max=1e7)
EXISTING: Final = click.Path(exists=True, path_type=Path)
_STDIN: Final = Path("-")


def tier_options(command: _Command) -> _Command:
    """The options that say what is compared."""
    return _TIERS(_EXPECT(command))


say: Final = Lines().say
"""Prints a line on stderr, whatever names of others' files it has."""


def show_line(text: str) -> None:
    """Print a line on stdout, whatever names of others' files it has; how far a step is goes to stderr."""
    if isinstance(text, HowFar):
        say(text)
    else:
        click.echo(printable_lines(text))


def kernel_options(command: _Command) -> _Command:
    """The options that choose the two sides, on every command that runs a kernel."""
    options = (
        click.option(
            "--linux",
            metavar="KERNEL",
            help=f"The kernel under test: a version that Debian packages ({', '.join(SUPPORTED)}), a kernel tree, or "
            f"GITDIR@REV.  [default: {DEFAULT_LINUX}]",
        ),
        click.option(
            "--patch",
            "patches",
            metavar="FILE…",
            type=click.Path(exists=True, allow_dash=True, path_type=Path),
            callback=patches_in,
            multiple=True,
            help="Apply patches to a cached copy of that kernel first: diffs, mails, mailboxes (gzipped or not), a "
            "folder of them, or - for standard input. More files may follow (*.patch), and it may be repeated.",
        ),
        click.option("--pgtable", metavar="FILE", type=EXISTING, help="Use FILE in place of the kernel's pgtable.c."),
        click.option(
            "--sides",
            metavar="A,B",
            help="Compare any two: model:VERSION, kernel:VERSION, kernel:TREE, kernel:GITDIR@REV, or "
            "kernel-make:VERSION (what the kernel's own build makes). Then --patch and --pgtable apply to the last "
            "kernel.  [default: the kernel and the model that follows it; where none does, the kernel without and with "
            f"the change, or kernel:{DEFAULT_LINUX} and the kernel]",
        ),
        click.option(
            "--flavour",
            type=click.Choice(FLAVOURS),
            help="How the hosted files are built: ubsan's reports count as WARNs, `lines` is for coverage, `calls` "
            "sees of the TLB maintenance the calls alone, and does without the tree's.  [default: plain]",
        ),
        click.option(
            "--object",
            "kernel_object",
            type=click.Choice(tuple(OBJECTS)),
            help="What pgtable.c is built as, on both sides: part of the host's kernel, or of nVHE hyp, where shared "
            "walks are refused.  [default: host, or as --sides says: kernel:6.12+hyp]",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
