"""What a smoke looks like while it goes, and that it writes nowhere before it has to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from fuzz.campaign.growth import Growth
from fuzz.cli.display import describe, how_far
from fuzz.cli.smoke_run import _check_places
from fuzz.engine.smoke import SmokeProgress
from fuzz.engine.stats import Stats


def progress(seconds: float, *edges: tuple[int, int]) -> SmokeProgress:
    return SmokeProgress(seconds, Stats(executions=int(1000 * seconds)), edges=list(edges), corpus=1653)


def test_numbers_say_of_what_they_are() -> None:
    assert describe(progress(12.0, (297, 326))) == (
        "12,000 executions, 1,000/s, 1,653 inputs, 297/326 kernel edges, findings 0"
    )
    assert "no kernel edges" in describe(progress(12.0))


def test_how_long_nothing_has_been_new() -> None:
    """An edge of another granule's kernel is new, too."""
    growth = Growth()
    said = [
        describe(progress(seconds, *edges), growth)
        for seconds, edges in ((1.0, [(5, 9)]), (8.0, [(5, 9)]), (9.0, [(5, 9), (1, 7)]), (20.0, [(5, 9), (1, 7)]))
    ]
    assert [line.partition("(last new ")[2].partition(" ago)")[0] for line in said] == ["0 s", "7 s", "0 s", "11 s"]


def test_before_the_clock_starts_there_are_the_corpora() -> None:
    assert how_far(SmokeProgress(0.0, Stats(replayed=12)), 60.0) == "12 programs of the corpora"
    assert how_far(SmokeProgress(3.2, Stats(replayed=12)), 60.0) == "3/60 s"
    assert how_far(SmokeProgress(3.2)) == "3 s"


def test_a_process_that_says_nothing_is_busy() -> None:
    assert how_far(SmokeProgress(3.2, silent=1.0)) == "3 s"
    assert how_far(SmokeProgress(0.0, Stats(replayed=1), silent=7.0)) == "1 program of the corpora (busy for 7 s)"


def test_what_masks_is_named() -> None:
    common = Stats(executions=100, buckets=Counter(tables=50, rare=1))
    assert describe(SmokeProgress(1.0, common)).endswith("masked by tables")


def test_looking_for_a_place_makes_no_folder(tmp_path: Path) -> None:
    """Another run may be about to use it, or to take it away."""
    _check_places(tmp_path / "new" / "out")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        _check_places(tmp_path / "file" / "out")
