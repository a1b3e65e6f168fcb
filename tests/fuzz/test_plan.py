"""Which fuzzing process runs which kernel image, when, and for how long."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.cli.options import GRANULE_SHARES
from fuzz.engine.assignment import Assignment
from fuzz.engine.plan import MOST_OPEN, plan, turns
from fuzz.sides import choose_sides

CORPORA = (Path("corpus"),)
ONE = Assignment(choose_sides(), Path("out"), CORPORA, 7, 60.0, 100, False, None)
OTHER = replace(ONE, sides=choose_sides(flavour="ubsan"))
GRANULES = [replace(ONE, granule=granule.name) for granule in GRANULE_SHARES]
SHARES = tuple(GRANULE_SHARES.values())


def shape(work: list[list[Assignment]]) -> list[list[tuple[str, float, int | None]]]:
    return [[(one.granule, round(one.seconds or 0.0, 6), one.executions) for one in lane] for lane in work]


def order(lane: list[Assignment]) -> list[str]:
    return [lane[number].granule for number in turns(lane)]


def test_one_worker_has_the_whole_run() -> None:
    assert plan([ONE], 1) == [[replace(ONE, corpora_seconds=60.0)]]


def test_workers_share_the_executions_but_not_the_time_or_the_seed() -> None:
    ((first,), (second,), (third,)) = plan([ONE], 3)
    assert [one.seed for one in (first, second, third)] == [7, 8, 9]
    assert {one.seconds for one in (first, second, third)} == {60.0}
    assert [one.executions for one in (first, second, third)] == [34, 33, 33]
    assert [one.corpora for one in (first, second, third)] == [CORPORA, (), ()]


def test_images_divide_the_workers() -> None:
    ((first,), (second,)) = plan([ONE, OTHER], 2)
    assert [first.sides, second.sides] == [ONE.sides, OTHER.sides]
    assert first.corpora == second.corpora == CORPORA, "each image replays the corpora once"
    assert [one.seconds for one in (first, second)] == [60.0, 60.0]


def test_images_divide_a_workers_time_where_there_are_too_few() -> None:
    ((first, second),) = (lane,) = plan([ONE, OTHER], 1)
    assert [one.sides for one in (first, second)] == [ONE.sides, OTHER.sides]
    assert first.seconds == second.seconds == 30.0
    assert first.executions == second.executions == 50
    assert first.corpora == second.corpora == CORPORA
    assert first.corpora_seconds == second.corpora_seconds == 60.0, "hangs among them have the run's time"
    assert turns(lane) == [0, 1, 0, 1], "all seeds come first"


def test_an_image_may_go_on_at_the_next_worker() -> None:
    work = plan([ONE, OTHER], 3)
    assert [[one.sides is OTHER.sides for one in lane] for lane in work] == [[False], [False, True], [True]]
    assert [[one.seconds for one in lane if one.executions] for lane in work] == [[60.0], [30.0, 30.0], [60.0]]
    seeds = [one.seed for lane in work for one in lane if one.executions]
    assert seeds == [7, 8, 9, 10]


def test_granules_by_default() -> None:
    assert shape(plan(GRANULES, 1, SHARES)) == [[("4k", 42.0, 70), ("16k", 9.0, 15), ("64k", 9.0, 15)]]
    assert order(plan(GRANULES, 1, SHARES)[0]) == ["4k", "16k", "64k", "4k", "16k", "64k"]
    assert shape(plan(GRANULES, 2, SHARES)) == [
        [("4k", 60.0, 50)],
        [("4k", 24.0, 20), ("16k", 18.0, 15), ("64k", 18.0, 15)],
    ]
    assert order(plan(GRANULES, 2, SHARES)[1]) == ["16k", "64k", "4k", "16k", "64k"]
    without = [replace(one, corpora=()) for one in GRANULES]
    assert shape(plan(without, 1, SHARES)) == [[("4k", 42.0, 70), ("16k", 9.0, 15), ("64k", 9.0, 15)]]
    assert order(plan(without, 1, SHARES)[0]) == ["4k", "16k", "64k"]


def test_all_seeds_run_once_and_before_anything_else_of_their_worker() -> None:
    for workers in range(1, 9):
        for lane in (work := plan(GRANULES, workers, SHARES)):
            replaying = sum(bool(one.corpora) for one in lane)
            assert all(lane[number].corpora for number in turns(lane)[:replaying])
            assert sorted(turns(lane)[:replaying]) == sorted(set(turns(lane)[:replaying]))
            assert sorted(turns(lane)[replaying:]) == [*range(len(lane))]
        assert sorted(one.granule for lane in work for one in lane if one.corpora) == ["16k", "4k", "64k"]


def test_of_many_images_only_some_keep_a_process_that_waits() -> None:
    many = [replace(one, sides=sides) for sides in (ONE.sides, OTHER.sides) for one in GRANULES]
    (lane,) = plan(many, 1)
    order = turns(lane)
    waiting = {number for number in order if order.count(number) == 2}
    kept = MOST_OPEN - 1
    assert waiting == {*range(kept)}
    replaying = [lane[number] for number in order[: len(many)]]
    generating = [lane[number] for number in order[len(many) :]]
    assert [one.executions for one in replaying[kept:]] == [0] * (len(many) - kept)
    assert [(one.sides, one.granule) for one in replaying] == [(one.sides, one.granule) for one in many]
    assert [(one.sides, one.granule) for one in generating] == [(one.sides, one.granule) for one in many]
    assert sum(one.executions or 0 for one in generating) == 100
    assert all(one.corpora for one in replaying) and not any(one.corpora for one in generating[kept:])


@pytest.mark.parametrize("workers", range(1, 9))
@pytest.mark.parametrize("executions", [1, 2, 3, 4, 7, 19, 20, 1000, 30011])
def test_executions_add_up(workers: int, executions: int) -> None:
    work = plan([replace(one, executions=executions) for one in GRANULES], workers, SHARES)
    counts = [one.executions for lane in work for one in lane if one.executions]
    assert sum(counts) == executions
    if executions >= 20:
        assert len({one.granule for lane in work for one in lane if one.executions}) == 3


@pytest.mark.parametrize("workers", range(1, 9))
def test_time_is_divided_by_the_shares(workers: int) -> None:
    work = plan([replace(one, executions=None) for one in GRANULES], workers, SHARES)
    fuzzing = [[one for one in lane if one.executions is None] for lane in work]
    assert [round(sum(one.seconds or 0.0 for one in lane), 6) for lane in fuzzing] == [60.0] * workers
    for granule, share in GRANULE_SHARES.items():
        mine = sum(one.seconds or 0.0 for lane in fuzzing for one in lane if one.granule == granule.name)
        assert round(mine, 6) == round(60.0 * workers * share, 6)
