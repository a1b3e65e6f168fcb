"""The command that fuzzes for a short while."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fuzz.cli.options import (
    BUDGET,
    EACH,
    GRANULE_SHARES,
    NO_COMPILE,
    ORACLE,
    SECONDS,
    granules_in,
    judge_option,
    kernel_options,
    tier_options,
)
from fuzz.cli.outputs import OutFile, OutFolder
from fuzz.cli.result_files import result_options
from fuzz.engine.assignment import GUIDANCE
from harness.program.granule import GRANULE_4K, GRANULES
from harness.verdict.judging import Judging


@click.command()
@click.option("--seconds", type=SECONDS, default=60.0, show_default=True, help="How long to fuzz.")
@click.option("--executions", type=click.IntRange(min=1), help="Stop after so many generated programs, if sooner.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), help="Same seed, same programs.  [default: from the clock]")
@click.option("--keep-going", is_flag=True, help="Do not stop at the first finding; keep three of each bucket.")
@click.option("--out", type=OutFolder(), default="s2fuzz-out", show_default=True, help="Where findings go.")
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
    help="Fuzzing processes at work at once, each with a QEMU of its own.",
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
@click.option(
    "--strict",
    is_flag=True,
    help="Promises (docs/contracts.md) that both sides break alike, and that nobody knows of, count as findings. They "
    "are always kept and told.",
)
@ORACLE
@result_options
@NO_COMPILE
@EACH
@tier_options
@judge_option(Judging.SAMPLE)
@BUDGET
@click.option("--inputs", type=OutFile(), help="Write every generated input to FILE, a hex line each.")
@kernel_options
def smoke(**chosen: Any) -> int:
    """Fuzz for a short while: what CI runs on every change.

    Replays the corpora first, then lets Atheris generate programs, each run on both sides. Nothing is kept between
    runs but findings, which go to --out. The same seed and number of workers make the same programs; process number n
    (from 0) has the seed SEED + n.

    With --each of several patches, all of them are fuzzed; which one brought a finding is then found by halving, and
    kept with it.
    """
    from fuzz.cli.smoke_run import run  # noqa: PLC0415  (not to be imported for its help)

    return run(**chosen)
