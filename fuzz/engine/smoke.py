"""A short fuzzing run: the parent of one or more fuzzing processes. It shows progress and sums up."""

from __future__ import annotations

import select
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Final

from fuzz.coverage.model_lines import model_lines
from fuzz.engine.assignment import Assignment
from fuzz.engine.messages import ProcessState
from fuzz.engine.process import FuzzingProcess, require_atheris
from fuzz.engine.stats import Stats
from fuzz.engine.stop_signals import StopSignals
from fuzz.sides import model_of
from fuzz.triage.filing import Filed
from harness.errors import ToolFailure
from harness.model.executor import Model
from harness.program.program import Program


@dataclass(slots=True)
class Progress:
    """What is known of a run under way, or at its end; of all its processes together."""

    seconds: float = 0.0
    """Since the first generated execution: of a worker's processes, added up; of the worker that has most."""
    stats: Stats = field(default_factory=Stats)
    findings: list[Filed] = field(default_factory=list)
    identities: list[dict[str, str]] = field(default_factory=list)
    boots: int = 0
    kernels: int = 0
    """Test kernels that would have been booted if none had been restarted."""
    edges: list[tuple[int, int]] = field(default_factory=list)
    """Of every kernel image: edges of the hosted file reached, and how many there are."""
    features: int = 0
    """libFuzzer's, of the process that has most."""
    corpus: int = 0
    """Inputs that are kept."""
    model_lines: tuple[int, int] = (0, 0)
    """Lines of the model's functions that the kept inputs reach, and how many there are; known at the end."""
    interrupted: bool = False

    @property
    def executions(self) -> int:
        """Generated programs."""
        return self.stats.executions

    @property
    def rate(self) -> float:
        """Generated executions per second."""
        return self.executions / self.seconds if self.seconds else 0.0


class Interrupted(Exception):
    """The run was stopped by a signal; `progress` holds what it came to until then."""

    def __init__(self, progress: Progress) -> None:
        super().__init__("interrupted")
        self.progress = progress


def plan(assignments: Sequence[Assignment], workers: int, shares: Sequence[float] = ()) -> list[list[Assignment]]:
    """What each worker does, one process after the other. A fuzzing process stays with one kernel image, so several
    `assignments`, which differ in that, have their `shares` of all the workers' time (the same, where none are given),
    and those that do not fit into one worker's go on at the next one's.

    Every process has a seed of its own, counted from that of the assignments in the order of the plan. The run's
    seconds, a worker's time, and executions, of all together, are those of the first assignment; every process has at
    least one execution, where there are enough. The first process of each assignment replays the corpora. Where that
    would come late, one before all others does that alone (its executions are 0).
    """
    whole = assignments[0]
    pieces = _pieces(len(assignments), workers, shares or [1.0] * len(assignments))
    executions = _split(whole.executions, [piece.share for piece in pieces])
    first: list[list[Assignment]] = [[] for _ in range(workers)]
    then: list[list[Assignment]] = [[] for _ in range(workers)]
    replayed: set[int] = set()
    for number, (piece, count) in enumerate(zip(pieces, executions, strict=True)):
        replays = piece.assignment not in replayed
        replayed.add(piece.assignment)
        assignment = replace(
            assignments[piece.assignment],
            seed=whole.seed + number,
            seconds=None if whole.seconds is None else piece.share * workers * whole.seconds,
            executions=count,
            corpora=whole.corpora if replays and not piece.is_late else (),
        )
        if piece.is_late and replays and whole.corpora:
            replay = replace(assignment, seconds=whole.seconds, executions=0, corpora=whole.corpora)
            first[piece.worker].append(replay)
        if count != 0 or assignment.corpora:
            then[piece.worker].append(assignment)
    return [before + after for before, after in zip(first, then, strict=True)]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A process to come: of which assignment and worker, and its share of all workers' time."""

    assignment: int
    worker: int
    share: float
    is_late: bool
    """Whether another one of the same worker comes before it."""


_NEGLIGIBLE: Final = 1e-6
"""From adding up shares."""


def _pieces(assignments: int, workers: int, shares: Sequence[float]) -> list[_Piece]:
    """The assignments in a row, cut where a worker's time is over."""
    pieces: list[_Piece] = []
    worker, taken = 0, 0.0
    for assignment in range(assignments):
        left = shares[assignment] / sum(shares) * workers
        while left > _NEGLIGIBLE and worker < workers:
            time = min(left, 1.0 - taken)
            pieces.append(_Piece(assignment, worker, time / workers, taken > 0.0))
            left, taken = left - time, taken + time
            if taken > 1.0 - _NEGLIGIBLE:
                worker, taken = worker + 1, 0.0
    return pieces


def _split(total: int | None, shares: Sequence[float]) -> list[int | None]:
    """`total` by these shares, which add up to 1: whole numbers that add up to it, none of them 0 unless it is smaller
    than their number; then the largest shares have something. None: no limit for any."""
    if total is None:
        return [None] * len(shares)
    ranks = sorted(range(len(shares)), key=lambda number: -shares[number])
    if total < len(shares):
        return [int(number in ranks[:total]) for number in range(len(shares))]
    parts = [max(1, int(total * share + _NEGLIGIBLE)) for share in shares]
    while (rest := total - sum(parts)) != 0:
        for number in ranks[: abs(rest)]:
            parts[number] += 1 if rest > 0 else -(parts[number] > 1)
    return [*parts]


def smoke(
    assignments: Sequence[Assignment],
    workers: int,
    show: Callable[[Progress], None],
    shares: Sequence[float] = (),
) -> Progress:
    """Run fuzzing processes, `workers` at a time, as `plan` says, to their end; the first finding ends them all
    unless they are to keep going. `show` is called whenever there is something new to show.

    Raises Interrupted on SIGINT or SIGTERM, after an orderly stop; ToolFailure when a process fails, or cannot start
    because Atheris is missing.
    """
    require_atheris()
    with tempfile.TemporaryDirectory(prefix="s2fuzz-") as scratch:
        lanes = [_Lane(iter(work)) for work in plan(assignments, workers, shares)]
        progress = _Run(Path(scratch), show, assignments[0].keep_going).run(lanes)
    if not progress.stats.executions + progress.stats.replayed:
        raise ToolFailure("no program was run, so nothing can be said of the sides: give it more time")
    return progress


def _kept(process: FuzzingProcess) -> Iterator[tuple[Model, Program]]:
    """The programs that a process has kept, and the model that runs them."""
    model = Model(model_of(process.assignment.sides))
    return ((model, program) for program in process.kept_programs())


@dataclass(slots=True)
class _Lane:
    """A worker: what it is yet to do, and its processes so far, the present one last."""

    work: Iterator[Assignment]
    processes: list[FuzzingProcess] = field(default_factory=list)
    running: FuzzingProcess | None = None


class _Run:
    def __init__(self, scratch: Path, show: Callable[[Progress], None], keep_going: bool) -> None:
        self.scratch = scratch
        self.show = show
        self.keep_going = keep_going
        self.progress = Progress()
        self.signals = StopSignals()
        self.lanes: list[_Lane] = []

    @property
    def processes(self) -> list[FuzzingProcess]:
        """All so far, worker by worker."""
        return [process for lane in self.lanes for process in lane.processes]

    def run(self, lanes: list[_Lane]) -> Progress:
        self.lanes = lanes
        with StopSignals() as self.signals:
            try:
                self._attend()
            finally:
                for lane in lanes:
                    self._end(lane)
            for process in self.processes:
                process.settle(self.progress.interrupted)
        self.progress.model_lines = model_lines(chain.from_iterable(map(_kept, self.processes)))
        if self.progress.interrupted:
            raise Interrupted(self.progress)
        return self.progress

    def _attend(self) -> None:
        """Hear what the processes say until all have ended; one follows another."""
        ending = False
        while True:
            for lane in self.lanes:
                if lane.running is not None and not lane.running.sources:
                    ending = ending or lane.running.failed
                    self._end(lane)
                if lane.running is None and not ending:
                    self._begin_next(lane)
            running = [lane.running for lane in self.lanes if lane.running is not None]
            if not running:
                return
            sources = {source: process for process in running for source in process.sources}
            news = [sources[source].hear(source) for source in select.select(sorted(sources), [], [], 0.1)[0]]
            if any(news):
                self._sum_up()
                self.show(self.progress)
            self.progress.interrupted = self.signals.count > 0
            found = self.progress.findings and not self.keep_going
            if self.progress.interrupted or found or any(process.failed for process in running):
                ending = True
                for process in running:
                    process.stop()
            for process in running:
                process.watch()

    def _begin_next(self, lane: _Lane) -> None:
        assignment = next(lane.work, None)
        if assignment is None:
            return
        folder = self.scratch / f"{len(self.processes)}"
        folder.mkdir()
        filed = Counter(finding.bucket for finding in self.progress.findings)
        lane.running = FuzzingProcess(replace(assignment, filed=filed), folder)
        lane.processes.append(lane.running)

    def _end(self, lane: _Lane) -> None:
        if lane.running is not None:
            lane.running.close()
        lane.running = None

    def _sum_up(self) -> None:
        states = [process.state for process in self.processes if process.state is not None]
        progress = self.progress
        progress.seconds = max(sum(one.seconds for one in lane.processes) for lane in self.lanes)
        progress.stats = sum([state.stats for state in states], Stats())
        progress.findings = [finding for state in states for finding in state.findings]
        progress.boots = sum(state.boots for state in states)
        progress.kernels = sum(len(state.edges) for state in states)
        progress.features = max(process.features for process in self.processes)
        progress.corpus = sum(process.kept for process in self.processes)
        self._sum_up_kernels(states)

    def _sum_up_kernels(self, states: list[ProcessState]) -> None:
        """Processes that run the same image reach its edges together."""
        reached: dict[tuple[str, int], tuple[int, int]] = {}
        identities: dict[str, dict[str, str]] = {}
        for state in states:
            identities.update({repr(sorted(identity.items())): identity for identity in state.identities})
            for side, edges in enumerate(state.edges):
                key = (edges.image, side)
                before = reached.get(key, (0, 0))[0]
                reached[key] = (before | edges.reached, edges.of)
        self.progress.identities = list(identities.values())
        self.progress.edges = [(bits.bit_count(), of) for bits, of in reached.values()]
