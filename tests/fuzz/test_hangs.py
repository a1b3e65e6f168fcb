"""Runs in which kernels hang: the time that takes counts, the clock goes on, and the end says so."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from executors import Dying

from fuzz.cli.display import summary
from fuzz.engine.assignment import Assignment
from fuzz.engine.messages import ProcessState, to_line
from fuzz.engine.process import FuzzingProcess
from fuzz.engine.smoke import SmokeProgress
from fuzz.engine.stats import Stats
from fuzz.engine.worker import Worker
from fuzz.sides import choose_sides
from harness.errors import ToolFailure
from harness.model.executor import Model
from harness.program.codec import encode
from harness.program.text import parse

MAP = "s2 1\nmap ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=5\n"
SHORT = 1e-9
"""Seconds that any hang uses up."""


class Ended(Exception):
    """The process would have ended."""


def leave(_status: int) -> NoReturn:
    raise Ended


def work_in(folder: Path, seconds: float | None, corpora: tuple[Path, ...] = ()) -> Assignment:
    sides = choose_sides(sides="model:6.12,model:6.12")
    return Assignment(sides, folder / "out", corpora, 0, seconds, None, True, None)


def worker_in(folder: Path, seconds: float | None, corpora: tuple[Path, ...] = ()) -> Worker:
    return Worker(work_in(folder, seconds, corpora), leave, (Model(), Dying("map", "hang")))


def corpus_in(folder: Path) -> Path:
    corpus = folder / "programs"
    corpus.mkdir()
    for name in ("a", "b", "c"):
        (corpus / f"{name}.s2").write_text(MAP)
    return corpus


def test_hangs_among_the_corpora_take_the_run_s_time(tmp_path: Path) -> None:
    worker = worker_in(tmp_path, SHORT, (corpus_in(tmp_path),))
    with pytest.raises(Ended):
        worker.replay_corpora()
    assert (worker.stats.replayed, worker.stats.hangs, worker.stats.unreplayed) == (1, 1, 2)
    assert worker.stats.hang_seconds > 0.0


def test_a_finding_among_the_corpora_leaves_nothing_out_for_want_of_time(tmp_path: Path) -> None:
    work = replace(work_in(tmp_path, 1e6, (corpus_in(tmp_path),)), keep_going=False)
    worker = Worker(work, leave, (Model(), Dying("map", "hang")))
    with pytest.raises(Ended):
        worker.replay_corpora()
    assert (worker.stats.replayed, worker.stats.hangs, worker.stats.unreplayed) == (1, 1, 0)


def test_without_hangs_the_corpora_are_replayed_to_their_end(tmp_path: Path) -> None:
    worker = Worker(work_in(tmp_path, SHORT, (corpus_in(tmp_path),)), leave, (Model(), Model()))
    worker.replay_corpora()
    assert (worker.stats.replayed, worker.stats.hangs, worker.stats.unreplayed) == (3, 0, 0)


def test_what_hangs_took_before_counts_from_the_first_program(tmp_path: Path) -> None:
    worker = worker_in(tmp_path, None, (corpus_in(tmp_path),))
    worker.replay_corpora()
    lost = worker.stats.hang_seconds
    assert worker._seconds() == lost > 0.0
    worker.run_one(encode(parse("s2 1\nget_leaf ipa=0x1000\n")))
    assert worker._seconds() > lost
    assert worker.stats.hangs == 3


def test_the_end_says_what_hangs_took() -> None:
    stats = Stats(executions=15000, replayed=12, hangs=3, hang_seconds=7.4, unreplayed=2)
    progress = SmokeProgress(seconds=20.0, stats=stats)
    assert (
        "3 of 15,012 programs hung, which took 7 s; that was all of the run's time, and 2 programs of the corpora were "
        "not looked at"
    ) in summary(progress, Path("out"))
    assert summary(SmokeProgress(stats=Stats(executions=1)), Path("out"))[-1] == "nothing found"


def test_a_run_that_was_cut_short_says_so() -> None:
    progress = SmokeProgress(seconds=12.3, stats=Stats(executions=30000, replayed=400), interrupted=True)
    assert summary(progress, Path("out"))[-1] == "interrupted after 12 s and 30,400 programs: nothing found so far"


STATE = to_line(ProcessState(False, 0.5, Stats(executions=1), (), (), 1, ()))
SPEAKS = f"""
import json, os, time
os.write(json.loads(os.environ["S2FUZZ_ASSIGNMENT"])["messages"], {STATE!r})
time.sleep(60)
"""


@pytest.fixture
def started(tmp_path: Path) -> Callable[[str], FuzzingProcess]:
    def start(code: str) -> FuzzingProcess:
        launcher = tmp_path / "launcher.py"
        launcher.write_text(code)
        return FuzzingProcess(work_in(tmp_path, None), tmp_path, launcher=launcher)

    return start


def test_the_clock_goes_on_while_a_process_is_busy(started: Callable[[str], FuzzingProcess]) -> None:
    process = started(SPEAKS)
    try:
        while not process.hear(process._messages):
            pass
        first = process.seconds
        time.sleep(0.01)
        assert process.seconds > first >= 0.5
    finally:
        process.close()
    assert process.seconds == 0.5, "what it said itself"


def test_a_process_that_said_nothing_is_ended_at_once(started: Callable[[str], FuzzingProcess]) -> None:
    process = started("import time; time.sleep(60)")
    process.dismiss()
    while process.sources:
        for source in process.sources:
            process.hear(source)
    process.close()
    assert not process.failed
    process.settle(interrupted=False)


def test_a_process_that_failed_is_not_dismissed(started: Callable[[str], FuzzingProcess]) -> None:
    process = started("import sys; sys.exit(5)")
    while process.sources:
        for source in process.sources:
            process.hear(source)
    process.dismiss()
    process.close()
    with pytest.raises(ToolFailure, match="ended with status 5"):
        process.settle(interrupted=False)


def test_a_process_that_spoke_ends_by_itself(started: Callable[[str], FuzzingProcess]) -> None:
    process = started(SPEAKS.replace("time.sleep(60)", "pass"))
    while not process.hear(process._messages):
        pass
    process.dismiss()
    process._child.wait()
    assert process._child.returncode == 0, "it was not killed"
    process.close()
    with pytest.raises(ToolFailure):
        process.settle(interrupted=False)
