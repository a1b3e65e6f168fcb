"""Which fuzzing process runs which kernel image, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fuzz.engine.assignment import Assignment
from fuzz.sides import choose_sides
from fuzz.smoke import slices

ONE = Assignment(choose_sides(), Path("out"), (Path("corpus"),), 7, 60.0, 100, False, None)
OTHER = replace(ONE, sides=choose_sides(flavour="ubsan"))


def test_one_worker_has_the_whole_run() -> None:
    assert slices([ONE], 1) == [[ONE]]


def test_workers_share_the_executions_but_not_the_time_or_the_seed() -> None:
    ((first, second, third),) = slices([ONE], 3)
    assert [one.seed for one in (first, second, third)] == [7, 8, 9]
    assert {one.seconds for one in (first, second, third)} == {60.0}
    assert {one.executions for one in (first, second, third)} == {34}
    assert [one.corpora for one in (first, second, third)] == [(Path("corpus"),), (), ()]


def test_images_rotate_by_worker() -> None:
    ((first, second, third),) = slices([ONE, OTHER], 3)
    assert [one.sides for one in (first, second, third)] == [ONE.sides, OTHER.sides, ONE.sides]
    assert second.corpora, "each image replays the corpora once"


def test_images_rotate_by_slices_of_time_where_there_are_too_few_workers() -> None:
    first, second = slices([ONE, OTHER], 1)
    assert [one.sides for one in (*first, *second)] == [ONE.sides, OTHER.sides]
    assert first[0].seconds == second[0].seconds == 30.0
    assert first[0].executions == second[0].executions == 50
