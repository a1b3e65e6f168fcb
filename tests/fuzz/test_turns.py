"""The processes of a worker take turns: all replay their corpora before any generates, each is started once, and waits,
ready, for as long as it takes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

import pytest
from executors import Dying

from fuzz.engine import smoke as smoke_module
from fuzz.engine.assignment import Assignment
from fuzz.engine.messages import Begin, GoOver, Message, Order, ProcessState, from_line, to_line
from fuzz.engine.process import LAUNCHER, FuzzingProcess
from fuzz.engine.smoke import Interrupted, smoke
from fuzz.engine.stats import Stats
from fuzz.engine.worker import Worker
from fuzz.sides import choose_sides
from harness.errors import ToolFailure
from harness.model.executor import Model
from harness.observation.executor import Executor

MODELS: Final = choose_sides(sides="model:6.12,model:6.12")
PROGRAM: Final = "s2 1\ngranule = {}\n\nmap ipa=0x10000 size=64K phys=0x80010000 prot=rwx mc=5\n"
BEGIN: Final = Begin({})
AGES: Final = 1e6
"""Seconds."""


class Ended(Exception):
    """The process would have ended."""


def leave(_status: int) -> NoReturn:
    raise Ended


@pytest.fixture
def corpora(tmp_path: Path) -> tuple[Path, ...]:
    """A program for pages of 4K, and two for those of 16K."""
    folder = tmp_path / "programs"
    folder.mkdir()
    for number, granule in enumerate(("4k", "16k", "16k")):
        (folder / f"{number}.s2").write_text(PROGRAM.format(granule))
    return (folder,)


def work_in(folder: Path, corpora: tuple[Path, ...], **more: Any) -> Assignment:
    return replace(Assignment(MODELS, folder / "out", corpora, 0, None, None, True, None), **more)


class Parent:
    """What a worker that is held hears from, and speaks to."""

    def __init__(self) -> None:
        self.control, self._orders = os.pipe()
        said, self.messages = os.pipe()
        self._lines = os.fdopen(said, "rb")
        self._is_open = True

    def worker(self, work: Assignment, other: Executor | None = None) -> Worker:
        held = replace(work, held=True, control=self.control, messages=self.messages)
        return Worker(held, leave, (Model(), other or Model()))

    def order(self, *orders: Order) -> None:
        for order in orders:
            os.write(self._orders, to_line(order))

    def stop(self) -> None:
        if self._is_open:
            os.close(self._orders)
        self._is_open = False

    def close(self) -> None:
        self.stop()
        self._lines.close()
        os.close(self.control)
        os.close(self.messages)

    def hear(self) -> Message:
        return from_line(self._lines.readline())

    def hear_that_it_waits(self) -> None:
        while not (isinstance(said := self.hear(), ProcessState) and said.waits):
            pass

    @contextmanager
    def answering(self, *orders: Order) -> Iterator[None]:
        """Within it, what is waited for is ordered as soon as the worker says that it waits; or else it is stopped."""

        def answer() -> None:
            self.hear_that_it_waits()
            self.order(*orders)
            if not orders:
                self.stop()

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.fixture
def parent() -> Iterator[Parent]:
    with closing(Parent()) as parent:
        yield parent


def test_a_held_process_replays_when_it_is_told_and_generates_when_it_is_told(
    corpora: tuple[Path, ...], parent: Parent, tmp_path: Path
) -> None:
    worker = parent.worker(work_in(tmp_path, corpora))
    parent.order(BEGIN)
    worker.replay_corpora()
    assert worker.stats.replayed == 1
    with parent.answering(Begin({"tables-map": 2})):
        worker.await_turn()
    assert worker._filed == {"tables-map": 2}, "what others have filed since"


def test_one_whose_turns_follow_each_other_does_not_wait(
    corpora: tuple[Path, ...], parent: Parent, tmp_path: Path
) -> None:
    worker = parent.worker(work_in(tmp_path, corpora))
    parent.order(BEGIN, BEGIN)
    worker.replay_corpora()
    worker.await_turn()
    with pytest.raises(Ended):
        worker.finish()
    said = []
    while not (isinstance(one := parent.hear(), ProcessState) and one.done):
        said.append(one)
    assert [one.waits for one in said if isinstance(one, ProcessState)] == [False]


def test_without_corpora_there_is_one_turn(parent: Parent, tmp_path: Path) -> None:
    worker = parent.worker(work_in(tmp_path, ()))
    worker.replay_corpora()
    parent.order(BEGIN)
    worker.await_turn()


def test_one_that_waits_hears_what_else_it_is_told(corpora: tuple[Path, ...], parent: Parent, tmp_path: Path) -> None:
    worker = parent.worker(work_in(tmp_path, corpora))
    parent.order(BEGIN)
    worker.replay_corpora()
    with parent.answering(GoOver(tmp_path), BEGIN):
        worker.await_turn()
    assert worker.compiled == tmp_path


def test_one_that_waits_ends_in_order_when_it_is_stopped(
    corpora: tuple[Path, ...], parent: Parent, tmp_path: Path
) -> None:
    worker = parent.worker(work_in(tmp_path, corpora))
    parent.order(BEGIN)
    worker.replay_corpora()
    with parent.answering(), pytest.raises(Ended):
        worker.await_turn()
    said = parent.hear()
    assert isinstance(said, ProcessState) and said.done and said.stats.replayed == 1


def test_one_that_is_stopped_before_its_first_turn_ends_too(
    corpora: tuple[Path, ...], parent: Parent, tmp_path: Path
) -> None:
    worker = parent.worker(work_in(tmp_path, corpora))
    parent.stop()
    with pytest.raises(Ended):
        worker.replay_corpora()
    assert worker.stats.replayed == 0


def test_hangs_among_the_corpora_have_the_time_that_they_are_given(
    corpora: tuple[Path, ...], parent: Parent, tmp_path: Path
) -> None:
    """That of the run, where the process itself has less."""
    work = work_in(tmp_path, corpora, seconds=1e-9, corpora_seconds=AGES, granule="16k")
    worker = parent.worker(work, Dying("map", "hang"))
    parent.order(BEGIN)
    worker.replay_corpora()
    assert (worker.stats.replayed, worker.stats.hangs, worker.stats.unreplayed) == (2, 2, 0)


WAITS: Final = to_line(ProcessState(False, 0.5, Stats(replayed=1), (), (), 1, (), waits=True))
SAYS_THAT_IT_WAITS: Final = f"""
import json, os
work = json.loads(os.environ["S2FUZZ_ASSIGNMENT"])
os.write(work["messages"], {WAITS!r})
print(os.read(work["control"], 4096).decode(), flush=True)
"""


def test_the_clock_stands_still_for_one_that_waits_however_long(tmp_path: Path) -> None:
    launcher = tmp_path / "launcher.py"
    launcher.write_text(SAYS_THAT_IT_WAITS)
    process = FuzzingProcess(work_in(tmp_path, (), seconds=1.0, held=True), tmp_path, launcher=launcher)
    try:
        while not process.waits:
            process.hear(process._messages)
        assert (process.seconds, process.has_spoken) == (0.5, True)
        process._begun -= AGES
        process.watch()
        assert process._stopping_since is None
        process.begin({"tables-map": 1})
        while process.sources:
            for source in process.sources:
                process.hear(source)
        process._begun -= AGES
        process.watch()
        assert process._stopping_since is not None, "one whose turn it is has to do something"
    finally:
        process.close()
    assert b'{"event": "begin", "filed": {"tables-map": 1}}' in process._log


class Told(FuzzingProcess):
    """Notes when such processes are started, and told to begin."""

    log: list[tuple[str, str, int]]
    """What, the granule, and how much all of them have generated until then."""
    all: list[Told]

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        self.note("starts", assignment)
        super().__init__(assignment, folder)
        self.all.append(self)

    def begin(self, filed: Mapping[str, int]) -> None:
        self.note("begins", self.assignment)
        super().begin(filed)

    @classmethod
    def note(cls, what: str, assignment: Assignment) -> None:
        cls.log.append((what, assignment.granule, sum(one.executions for one in cls.all)))


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """What happens to the processes of a smoke."""
    Told.log, Told.all = [], []
    monkeypatch.setattr(smoke_module, "FuzzingProcess", Told)
    return Told.log


def test_each_process_is_started_once_and_none_generates_before_all_have_replayed(
    corpora: tuple[Path, ...], told: list[tuple[str, str, int]], tmp_path: Path
) -> None:
    work = [work_in(tmp_path, corpora, granule=granule, executions=40) for granule in ("4k", "16k")]
    progress = smoke(work, 1, lambda _: None)
    assert (progress.executions, progress.stats.replayed) == (40, 3)
    assert sorted(told[:4]) == [("begins", "16k", 0), ("begins", "4k", 0), ("starts", "16k", 0), ("starts", "4k", 0)]
    assert told[4:] == [("begins", "4k", 0), ("begins", "16k", 20)]


def test_the_next_process_is_started_while_one_generates(told: list[tuple[str, str, int]], tmp_path: Path) -> None:
    work = [work_in(tmp_path, (), granule=granule, executions=20_000) for granule in ("4k", "16k")]

    def stop_when_it_is_started(_progress: object) -> None:
        if told[-1][:2] == ("starts", "16k"):
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        smoke(work, 1, stop_when_it_is_started)
    assert [one[:2] for one in told] == [("starts", "4k"), ("begins", "4k"), ("starts", "16k")]
    assert told[-1][2] < 10_000, "the first has not yet done its share"


def test_one_that_is_lost_while_it_waits_is_a_failure(
    corpora: tuple[Path, ...], told: list[tuple[str, str, int]], tmp_path: Path
) -> None:
    """And that is told at once, not when its turn comes."""
    work = [work_in(tmp_path, corpora, granule=granule, seconds=AGES) for granule in ("4k", "16k")]

    def kill_who_waits(_progress: object) -> None:
        for process in Told.all:
            if process.waits:
                process.kill()

    with pytest.raises(ToolFailure, match="was killed by signal 9"):
        smoke(work, 1, kill_who_waits)


def test_one_whose_parent_is_gone_ends_before_anything_else(tmp_path: Path) -> None:
    """It need not have been told what to do."""
    env = {**os.environ, "S2FUZZ_ASSIGNMENT": '{"parent": 1}'}
    result = subprocess.run([sys.executable, LAUNCHER], env=env, cwd=tmp_path, capture_output=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (1, b"", b"")
