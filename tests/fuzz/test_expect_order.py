"""`--expect order`: a change of order passes in silence, and the bug in one is found, by its name."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from processes import s2fuzz
from reorderings import BUGS, HARMLESS, LINUX, Reordering
from thinning import first

from fuzz.triage.recorded import tiers_of
from harness.findings.finding import load
from harness.verdict.tiers import ORDER_EXPECTED, format_tiers

SIDES = {
    "model against kernel": ("--linux", LINUX),
    "kernel against kernel": ("--sides", f"kernel:{LINUX},kernel:{LINUX}"),
}
EXECUTIONS = 300
MANY = 3000
"""What `make mutants` spends on each, with three seeds, and what may be spent until a bug is found."""


def smoke(change: Reordering, sides: str, seed: int, executions: int, folder: Path) -> tuple[int, list[str], Path]:
    """Status and buckets of generated programs, and where findings went."""
    out = folder / f"out-{seed}"
    command = ("smoke", "--no-corpora", "--json", "--no-compile", "--workers", "1", "--granule", "4k", "--out", out)
    bounds = ("--seed", str(seed), "--executions", str(executions), "--seconds", "400")
    compared = ("--expect", "order", "--pgtable", change.write(folder), *SIDES[sides])
    result = s2fuzz(*command, *bounds, *compared, cwd=folder)
    assert result.returncode in (0, 1), result.stderr
    line = json.loads(result.stdout.splitlines()[-1])
    if not result.returncode:
        assert line["executions"] >= executions, "the time was up first"
    return result.returncode, [finding["bucket"] for finding in line["findings"]], out


@pytest.mark.parametrize("sides", first(1, SIDES))
@pytest.mark.parametrize("change", first(1, HARMLESS[:2]), ids=lambda change: change.name)
def test_a_change_of_order_is_silent(change: Reordering, sides: str, tmp_path: Path) -> None:
    assert smoke(change, sides, 1, EXECUTIONS, tmp_path)[:2] == (0, [])


@pytest.mark.mutants
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("change", HARMLESS, ids=lambda change: change.name)
def test_every_change_of_order_is_silent(change: Reordering, sides: str, tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        assert smoke(change, sides, seed, MANY, tmp_path)[:2] == (0, [])


@pytest.mark.parametrize("sides", first(1, SIDES))
def test_a_fast_unmap_that_forgets_to_clean_is_found_by_that_name(sides: str, tmp_path: Path) -> None:
    status, buckets, out = smoke(BUGS[0], sides, 1, MANY, tmp_path)
    assert status == 1
    assert re.match(r"effects-(unmap|memslot_\w+)-not_cleaned-level", buckets[0])  # what else unmaps, does it by that
    finding = load(next(out.glob(f"{buckets[0]}-*")))
    assert finding.configuration["tiers"] == format_tiers(ORDER_EXPECTED)
    assert tiers_of(finding) == ORDER_EXPECTED
    assert s2fuzz("replay", finding.directory, cwd=tmp_path).returncode == 1
    assert s2fuzz("replay", finding.directory, "--linux", LINUX, cwd=tmp_path).returncode == 0


@pytest.mark.mutants
@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("change", BUGS, ids=lambda change: change.name)
def test_every_bug_in_a_change_of_order_is_found(change: Reordering, sides: str, tmp_path: Path) -> None:
    status, buckets, _ = smoke(change, sides, 1, MANY, tmp_path)
    assert status == 1
    assert change.flagged is not None and buckets[0].startswith(change.flagged)


@pytest.mark.slow
def test_without_it_the_same_changes_are_findings(tmp_path: Path) -> None:
    """That the changes above do change something: the default tiers see it at once."""
    for change in HARMLESS[:2]:
        command = ("smoke", "--no-corpora", "--no-compile", "--workers", "1", "--granule", "4k", "--seed", "1")
        bounds = ("--executions", str(EXECUTIONS), "--linux", LINUX, "--pgtable", change.write(tmp_path))
        assert s2fuzz(*command, *bounds, cwd=tmp_path).returncode == 1, change.name


@pytest.mark.parametrize("command", ["smoke", "campaign", "run", "replay"])
def test_it_excludes_tiers(command: str, tmp_path: Path) -> None:
    for options in (("--expect", "order", "--tiers", "results"), ("--tiers", "results", "--expect", "order")):
        result = s2fuzz(command, str(tmp_path), *options, cwd=tmp_path)
        assert result.returncode == 2
        assert "--expect and --tiers exclude each other" in result.stderr
