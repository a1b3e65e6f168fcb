"""What `s2fuzz smoke` does with its options."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import click

from fuzz.cli import display
from fuzz.cli.chosen import alone, also_from, compiling_for, sides_from
from fuzz.cli.options import CORPORA, FINDING, GRANULE_SHARES, INTERRUPTED, OK, say
from fuzz.cli.places import print_places
from fuzz.cli.result_files import ResultFiles
from fuzz.engine.assignment import Assignment
from fuzz.engine.kernels import Kernels
from fuzz.engine.plan import plan, turns
from fuzz.engine.smoke import Interrupted, SmokeProgress
from fuzz.engine.smoke import smoke as run_smoke
from fuzz.results.fuzzing import FUZZING, fuzzing_tests
from fuzz.results.outcome import Comparison, Test
from fuzz.triage.baseline import Base, results_of
from fuzz.triage.patch_by_patch import series_in
from fuzz.triage.result import Result
from harness.errors import BadInput
from harness.files import brief
from harness.findings.finding import report_in
from harness.findings.verified import verified_against
from harness.program.granule import GRANULE_4K, Granule
from harness.verdict.judging import Judging
from harness.verdict.tiers import DEFAULT_TIERS, Tier


def run(
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
    each: bool,
    stage: str | None,
    as_json: bool,
    granules: tuple[Granule, ...] | None,
    base: str | None,
    strict: bool,
    oracle: str,
    files: ResultFiles,
    no_compile: bool,
    tiers: frozenset[Tier] | None,
    judging: Judging | None,
    budget: int | None,
    inputs: Path | None,
    **kernel: Any,
) -> int:
    """Smoke, and tell what came of it; returns the command's status. The arguments are its options. Raises BadInput,
    ToolFailure and OSError."""
    shares = dict.fromkeys(granules, 1.0) if granules else {GRANULE_4K: 1.0} if inputs else GRANULE_SHARES
    granules = tuple(shares)
    pairs = [sides_from(**kernel), *(also_from(text, **kernel) for text in also)]
    if oracle == "contracts":
        pairs = [alone(pair) for pair in pairs]
    if each:
        series_in(pairs[0])
    if inputs is not None and max(workers, len(pairs) * len(granules)) > 1:
        raise BadInput("--inputs is one process's: it needs --workers 1, one --granule and no --also")
    comparisons = [Comparison(pair, granule.name) for pair in pairs for granule in granules]
    files.begin("smoke", [Test(FUZZING, one) for one in comparisons], "--json" if as_json else "")
    before = None if base is None else Base(base, kernel["linux"])
    if before is not None:
        before.build(pairs, granules, say)
    _check_places(out, inputs)
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
            budget=budget,
            is_alone=oracle == "contracts",
            strict=strict,
            judging=judging or (Judging.ALL if oracle == "contracts" else Judging.SAMPLE),
        )
        for granule in granules
        for pair in pairs
    ]
    time_shares = [shares[granule] for granule in granules for _ in pairs]
    lanes = [[lane[number] for number in turns(lane)] for lane in plan(work, workers, time_shares) if lane]
    kernels = click.get_current_context().with_resource(Kernels())
    kernels.build([lane[0] for lane in lanes], say)  # before the clock starts, and where errors are printed as they are
    kernels.build_behind(one for lane in lanes for one in lane)
    behind = click.get_current_context().with_resource(compiling_for(guidance, no_compile))
    for left, right in pairs:
        who = f"{left.full_name} against {right.full_name}"
        if oracle == "contracts":
            who = f"{right.full_name} alone (so is the rate), by what it promises"
        say(f"{who}, {sizes}, seed {chosen_seed}, {seconds:g} s")
    with display.live(seconds) as (tell, show):
        try:
            progress = run_smoke(work, workers, show, time_shares, behind, tell, kernels)
        except Interrupted as error:
            progress = error.progress
    results = results_of(progress.findings, before, strict)
    new = [result for result in results if not result.known]
    if each and not progress.interrupted:
        from fuzz.cli.each import smoke_each  # noqa: PLC0415

        smoke_each(result.finding for result in new)
    files.tell(fuzzing_tests(comparisons, results, progress))
    files.write({"executions": str(progress.executions), "granules": sizes, "seed": str(chosen_seed)})
    _say_outcome(progress, results, out, as_json)
    if as_json:
        click.echo(json.dumps(_smoke_json(progress, results, chosen_seed), sort_keys=True))
    if progress.interrupted:
        return INTERRUPTED
    return FINDING if new else OK


def _say_outcome(progress: SmokeProgress, results: Sequence[Result], out: Path, to_stderr: bool) -> None:
    for line in display.summary(progress, out):
        click.echo(line, err=to_stderr)
    new = [result for result in results if not result.known]
    if new and not to_stderr:
        click.echo(f"\n{report_in(new[0].finding.directory)}")
    else:
        notes = dict.fromkeys(tuple(verified_against(pair)) for pair in progress.compared)  # alike for every granule
        for line in chain.from_iterable(notes):
            click.echo(line, err=to_stderr)
    for result in results:
        if result.known:
            click.echo(f"known: {result.finding.kind} {result.finding.bucket}: {result.known}", err=to_stderr)
    filed = zip(progress.findings, results, strict=True)
    print_places([finding for finding, result in filed if not result.known], to_stderr)


def _check_places(out: Path, *files: Path | None) -> None:
    """Find out before the run whether it can write what it finds, not when it has found it. Raises OSError."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    with tempfile.TemporaryFile(dir=there):  # no folder is made: another run may be about to write there
        pass
    for file in files:
        if file is not None:
            file.touch()


def _smoke_json(progress: SmokeProgress, results: Sequence[Result], seed: int) -> dict[str, Any]:
    return {
        **progress.stats.summary(),
        "boots": progress.boots,
        "coverage": {
            "corpus": progress.corpus,
            "features": progress.features,
            "kernel": [{"of": of, "reached": reached} for reached, of in progress.edges],
            "model": dict(zip(("lines", "of"), progress.model_lines, strict=True)),
        },
        "exec_per_s": round(progress.rate, 2),
        "findings": [
            {**filed.to_json(), "new": not result.known}
            for filed, result in zip(progress.findings, results, strict=True)
        ],
        "identities": [brief(identity) for identity in progress.identities],
        "interrupted": progress.interrupted,
        "seconds": progress.seconds,
        "seed": seed,
    }
