"""What processes have counted and reached, put together from what they say: without processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fuzz.campaign.counts import Counts
from fuzz.campaign.ledger import Ledger
from fuzz.engine.messages import Edges, ProcessState
from fuzz.engine.stats import Stats


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with closing(Ledger(tmp_path / "ledger.sqlite")) as opened:
        yield opened


def state(executions: int, *edges: Edges, replayed: int = 0) -> ProcessState:
    return ProcessState(False, 1.0, Stats(executions=executions, replayed=replayed), (), (), 1, edges)


def test_what_goes_on_and_what_has_ended_count_once(ledger: Ledger) -> None:
    counts = Counts(ledger, 2)
    counts.note(0, 0, state(10))
    counts.note(0, 0, state(15))
    counts.note(1, 1, state(7))
    assert (counts.executions(), counts.executions(0), counts.executions(1)) == (22, 15, 7)
    counts.settle(0)
    counts.note(0, 1, state(1))
    assert (counts.executions(), counts.executions(0), counts.executions(1)) == (23, 15, 8)
    counts.settle(5)  # one that never said a word
    assert counts.executions() == 23


def test_processes_reach_the_edges_of_an_image_together(ledger: Ledger) -> None:
    counts = Counts(ledger, 2)
    counts.note(0, 0, state(1, Edges("4k", 8, 0b0011)))
    counts.note(1, 0, state(1, Edges("4k", 8, 0b0110)))
    counts.note(2, 1, state(1, Edges("16k", 9, 0b1)))
    assert counts.edges_of(1) == {("16k", 0): (1, 9)}
    assert counts.edges_of(0) == {("4k", 0): (3, 8)}
    assert sorted(counts.coverage()) == [("16k", 0, 0b1, 9), ("4k", 0, 0b0111, 8)]


def test_a_run_goes_on_from_the_ledger(ledger: Ledger) -> None:
    run = ledger.begin_run(1)
    process, _ = ledger.begin_process(run, 0, 0, 1, 0.0)
    ledger.note_process(process, state(100), 5, 9.0, "done")
    ledger.note_coverage("4k", 0, 0b1, 8)
    counts = Counts(ledger, 1)
    assert counts.executions(0) == 100
    assert not counts.has_run, "this run has not"
    counts.note(0, 0, state(0, Edges("4k", 8, 0b10), replayed=1))
    assert counts.has_run, "a program of the corpora is one"
    assert counts.edges_of(0) == {("4k", 0): (2, 8)}


def test_the_rate_is_that_of_late(ledger: Ledger) -> None:
    counts = Counts(ledger, 1)
    assert counts.rate == 0.0
    for second in range(100):
        counts.note(0, 0, state(second * (10 if second < 50 else 20)))
        counts.tick(float(second))
    assert counts.rate == 20.0
