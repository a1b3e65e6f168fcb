"""Every planted bug must be found, by generated programs alone, in a tier that should flag it."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from random import Random

import pytest
from planted import Mutant, load_all, run_against, sides_of

from fuzz.generate.fresh import fresh
from harness.program.codec import decode, dialect_for
from harness.program.granule import granule_named
from harness.program.text import parse
from harness.verdict.judge import Judge
from harness.verdict.tiers import DEFAULT_TIERS, ORDER_EXPECTED, ORDERED_TIERS, Tier
from harness.verdict.tlb.judge import stale_problems
from harness.verdict.tlb.problems import LACKING

MUTANTS = load_all()
STALE = [mutant for mutant in MUTANTS if mutant.stale is not None]
"""Those that the judge of stale translations finds by itself."""
SEEDS = (1, 2, 3)
SAMPLE = ("merge-leaks-table", "root-kept-after-destroy", "model-eight-roots-at-most")
"""What `make test` runs, with one seed; `make mutants` runs all with three, the harder ones with one."""
LAST_PAGE = "split-whole-block-without-its-last-page"


def _must_find(mutant: Mutant, seed: int, work: Path, *more: str) -> None:
    status, result = run_against(mutant, seed, work, *more)
    assert status == 1, f"{mutant.name}, seed {seed}: {mutant.what} Not found.\n{result['stderr'][-2000:]}"
    finding = result["findings"][0]
    flagged = finding["bucket"].split("-")[0]
    assert flagged in mutant.flagged, f"{mutant.name}, seed {seed}: flagged as {finding['bucket']}"


def _must_find_in_effects(mutant: Mutant, work: Path) -> None:
    status, result = run_against(mutant, 1, work, "--expect", "order")
    assert status == 1, f"{mutant.name}: {mutant.what} Not found in its effects.\n{result['stderr'][-2000:]}"
    assert result["findings"][0]["bucket"].split("-")[0] not in {tier.name.lower() for tier in ORDERED_TIERS}


def _must_show(mutant: Mutant, work: Path, tiers: frozenset[Tier] = DEFAULT_TIERS) -> None:
    left, right = (side.open() for side in sides_of(mutant, work))
    try:
        assert mutant.shown_by is not None
        verdict = Judge(left, right, tiers).check(parse(mutant.shown_by.lstrip()))
    finally:
        right.close()
    assert verdict is not None, f"{mutant.name}: {mutant.what} Not shown."
    assert verdict.bucket.split("-")[0] in mutant.flagged, f"{mutant.name}: flagged as {verdict.bucket}"


def _must_leave_stale(mutant: Mutant, work: Path) -> None:
    """By what the kernel itself does, without anything to compare it with."""
    granule = granule_named(mutant.granule)
    choice, found = Random(1), set()
    with closing(sides_of(mutant, work)[1].open_for(granule)) as kernel:
        dialect = dialect_for(kernel.capabilities, granule)
        for _ in range(mutant.executions):
            program = decode(fresh(choice, dialect), dialect)
            found |= {one.what for one in stale_problems(program, kernel.observe(program))}
            if mutant.stale in found:
                return
    raise AssertionError(f"{mutant.name}: {mutant.what} Not {mutant.stale}, but {sorted(found)}")


def test_there_are_enough_planted_bugs() -> None:
    in_model = [mutant for mutant in MUTANTS if mutant.is_in_model]
    assert len(MUTANTS) - len(in_model) >= 8
    assert len(in_model) >= 3
    assert set(SAMPLE) <= {mutant.name for mutant in MUTANTS}


def test_an_expected_order_hides_few() -> None:
    """Of those that leave results and tables alone, each that it hides says why."""
    subtle = [mutant for mutant in MUTANTS if mutant.leaves_tables_alone]
    hidden = [mutant for mutant in MUTANTS if mutant.order_hides is not None]
    assert len(subtle) >= 40
    assert len(hidden) <= len(subtle) // 5
    assert all(mutant in subtle and mutant.order_hides for mutant in hidden)


def test_a_tlb_is_left_stale_in_ways_enough() -> None:
    """An invalidation or a barrier is dropped, narrowed or misplaced."""
    ways = {mutant.stale for mutant in STALE}
    assert len(STALE) >= 20
    assert {one.partition("-")[0] for one in ways if one is not None} == {"bbm", "freed", "left", "loaded"}
    assert {word for word, _ in LACKING.values()} <= {one.partition("-")[2] for one in ways if one is not None}


def test_a_sample_leaves_a_tlb_stale(tmp_path: Path) -> None:
    _must_leave_stale(STALE[0], tmp_path)


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", STALE, ids=lambda mutant: mutant.name)
def test_each_way_to_leave_a_tlb_stale_is_judged_so(mutant: Mutant, tmp_path: Path) -> None:
    _must_leave_stale(mutant, tmp_path)


@pytest.mark.parametrize("name", SAMPLE)
def test_sample_is_found(name: str, tmp_path: Path) -> None:
    _must_find(next(mutant for mutant in MUTANTS if mutant.name == name), 1, tmp_path, "--no-compile")


def test_the_last_page_of_a_whole_block_is_compared(tmp_path: Path) -> None:
    _must_show(next(mutant for mutant in MUTANTS if mutant.name == LAST_PAGE), tmp_path)


@pytest.mark.mutants
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_every_planted_bug_is_found(mutant: Mutant, tmp_path: Path) -> None:
    if mutant.shown_by:
        _must_show(mutant, tmp_path)
        return
    for seed in SEEDS[:1] if mutant.is_harder else SEEDS:
        _must_find(mutant, seed, tmp_path)


@pytest.mark.mutants
@pytest.mark.parametrize(
    "mutant",
    [mutant for mutant in MUTANTS if mutant.leaves_tables_alone and mutant.order_hides is None],
    ids=lambda mutant: mutant.name,
)
def test_what_leaves_tables_alone_is_found_whatever_the_order(mutant: Mutant, tmp_path: Path) -> None:
    if mutant.shown_by:
        _must_show(mutant, tmp_path, ORDER_EXPECTED)
        return
    _must_find_in_effects(mutant, tmp_path)
