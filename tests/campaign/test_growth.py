"""Whether a campaign still comes upon anything new: told numbers, without processes or clocks."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from fuzz.campaign.growth import Growth, Masking, Sample, growth_rows, last_new, maskings, remarks, values_of
from fuzz.engine.stats import Stats

FIRST = Sample(10.0, 0, 1000, 100.0, "4k", 30, {("a", 1): (5, 8)}, (7, 9), 0, {"results": 3, "events": 2}, 40)
EDGES = ("edges", "lines", "results", "events", "features")


def grown(*samples: Sample) -> Growth:
    growth = Growth()
    growth.replay(samples)
    return growth


def at(growth: Growth) -> dict[str, float]:
    return {name: one.at for name, one in growth.of.items()}


def test_each_kind_is_new_when_it_grew_last() -> None:
    growth = grown(
        FIRST,
        replace(FIRST, at=20.0, executions=2000, corpus=31),
        replace(FIRST, at=30.0, executions=3000, corpus=32, joint={"results": 3, "events": 4}),
        replace(FIRST, at=40.0, executions=4000, corpus=33, joint={"results": 3, "events": 4}),
    )
    assert {name: at(growth)[name] for name in ("edges", "results", "events", "inputs")} == {
        **{"edges": 10.0, "results": 10.0},
        **{"events": 30.0, "inputs": 40.0},
    }
    assert growth.of["events"].executions == 3000
    last = last_new(growth.of)
    assert last is not None and last.at == 30.0, "more inputs are nothing that was seen"


def test_what_is_tidied_up_is_not_new_and_grows_from_there() -> None:
    growth = grown(FIRST, replace(FIRST, at=20.0, corpus=10), replace(FIRST, at=30.0, corpus=10))
    assert (growth.of["inputs"].value, growth.of["inputs"].at) == (10, 10.0)
    growth.note(40.0, 9000, {"inputs": (11, None)})
    assert (growth.of["inputs"].at, growth.of["inputs"].executions) == (40.0, 9000)


def test_comparisons_count_together_and_what_they_share_once() -> None:
    """Two that share kernel image and inputs, and one of another granule."""
    second = replace(FIRST, comparison=1, executions=500, edges={("a", 1): (4, 8)}, buckets=2)
    third = replace(FIRST, comparison=2, store="16k", corpus=5, edges={("b", 1): (1, 9)}, joint={}, features=2)
    values = values_of([FIRST, second, third])
    assert values["edges"] == (6, 17)
    assert values["edges:1"] == (4, 8)
    assert values["inputs"] == (35, None)
    assert (values["lines"], values["results"], values["features"], values["buckets"]) == (
        *((7, 9), (6, None)),
        *((82, None), (2, None)),
    )
    assert grown(FIRST, second, third).of["edges"].executions == 2500


@pytest.mark.parametrize(("executions", "flat"), [(9_999, ""), (19_999, ""), (20_000, "flat"), (90_000, "flat")])
def test_flat_is_what_half_of_all_executions_added_nothing_to(executions: int, flat: str) -> None:
    new = 0 if executions < 10_000 else 10_000
    growth = Growth()
    growth.note(5.0, new, {"edges": (5, 8), "inputs": (5, None)})
    ((what, count, ago, since, said), (_, _, _, _, inputs)) = growth_rows(growth.of, 65.0, executions)
    assert (what, count, ago, since, said) == ("kernel edges", "5 of 8", "0:01:00", f"{executions - new:,}", flat)
    assert inputs == "", "inputs do not count"


def test_nothing_yet_was_never_new() -> None:
    growth = Growth()
    growth.note(5.0, 20_000, {"edges": (0, 0), "buckets": (0, None)})
    assert list(growth_rows(growth.of, 65.0, 21_000)) == [("buckets found", "0", "never", "21,000", "")]


def said(executions: int, growth: Growth, *rates: float, masked: tuple[Masking, ...] = ()) -> list[str]:
    return [line.partition(":")[0] for line in remarks(7200.0, executions, growth, rates, masked)]


def test_remarks() -> None:
    growing, flat, partly, odd = Growth(), Growth(), Growth(), Growth()
    for name in EDGES:
        growing.note(1.0, 60_000, {name: (1, None)}, rate=900.0)
        flat.note(1.0, 10_000, {name: (1, None)})
        partly.note(1.0, 10_000 if name == "edges" else 60_000, {name: (1, None)})
        odd.note(1.0, 0, {name: (1, None)})
    assert said(100_000, growing, 400.0, 400.0) == []
    assert said(100_000, flat, 400.0) == ["flat"]
    assert said(9_000, flat, 400.0) == [], "it has only begun"
    assert said(100_000, odd, 400.0) == ["odd"]
    assert list(remarks(1.0, 100_000, partly, (), ())) == [
        "kernel edges are flat; still new: model lines, results (op, code, levels), events (op, kinds), "
        "counts (how often each)"
    ]
    assert said(100_000, growing, 130.0, 150.0) == ["slow"], "than it was"
    assert said(100_000, growing, 90.0, 99.0) == ["slow"]
    growing.note(2.0, 61_000, {"inputs": (2, None)})
    assert said(100_000, growing) == []
    growing.note(2.0, 61_000, {"inputs": (3, None)})
    assert said(100_000, growing) == ["many inputs"]
    growing.note(2.0, 61_000, {"inputs": (1, None)})
    assert said(100_000, growing) == [], "what does not run is not slow"
    assert said(100_000, growing, masked=(Masking(0, "4k", "tables-map", 0.3),)) == ["masked"]


def test_a_bucket_masks_within_its_comparison() -> None:
    """Of all executions together it would be too few."""
    rare = Stats(executions=100_000, buckets=Counter(other=20))
    often = Stats(executions=500, replayed=100, buckets=Counter(tables=60, events=30, results=2))
    assert maskings(["4k", "16k"], [rare, often]) == [
        Masking(1, "16k", "tables", 0.1),
        Masking(1, "16k", "events", 0.05),
    ]
