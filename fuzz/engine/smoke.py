"""A short fuzzing run: the parent of one or more fuzzing processes. It shows progress and sums up."""

from __future__ import annotations

import select
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from fuzz.coverage.model_lines import CountedBehind
from fuzz.engine.assignment import Assignment
from fuzz.engine.background import Compiling
from fuzz.engine.kernels import Kernels
from fuzz.engine.messages import ProcessState, WentOver
from fuzz.engine.plan import MOST_OPEN, plan, turns
from fuzz.engine.process import FuzzingProcess, require_atheris
from fuzz.engine.stats import Stats
from fuzz.engine.stop_signals import StopSignals
from fuzz.sides import model_of
from fuzz.triage.filed import Filed
from harness.errors import ToolFailure
from harness.model.executor import Model

_SHOWN_EVERY: Final = 0.5
"""Seconds; what a process says is shown at once."""
_COUNTED_EVERY: Final = 1.0
_SETTLED: Final = 0.5
"""Seconds after which an input is whole: libFuzzer writes it under its name."""


@dataclass(slots=True)
class SmokeProgress:
    """What is known of a run under way, or at its end; of all its processes together."""

    seconds: float = 0.0
    """Since the first generated execution: of a worker's processes, added up; of the worker that has most."""
    stats: Stats = field(default_factory=Stats)
    findings: list[Filed] = field(default_factory=list)
    compared: list[tuple[dict[str, str], ...]] = field(default_factory=list)
    """The identities of every two executors that were compared, each pair once."""
    boots: int = 0
    kernels: int = 0
    """Test kernels that would have been booted if none had been restarted."""
    edges: list[tuple[int, int]] = field(default_factory=list)
    """Of every kernel image: edges of the hosted file reached, and how many there are."""
    images: list[str] = field(default_factory=list)
    """Of every kernel image, of which side and granule it is."""
    features: int = 0
    """libFuzzer's, of the process that has most."""
    corpus: int = 0
    """Inputs that are kept."""
    model_lines: tuple[int, int] = (0, 0)
    """Lines of the model's functions that the kept inputs reach, and how many there are; known at the end."""
    silent: float = 0.0
    """Seconds for which the process that is busiest has said nothing."""
    interrupted: bool = False
    compiling: str = ""
    """How far the compiling is that goes on behind the run; empty where none does."""

    @property
    def identities(self) -> list[dict[str, str]]:
        """Of all executors, each once."""
        return [dict(one) for one in dict.fromkeys(tuple(one.items()) for pair in self.compared for one in pair)]

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

    def __init__(self, progress: SmokeProgress) -> None:
        super().__init__("interrupted")
        self.progress = progress


def smoke(
    assignments: Sequence[Assignment],
    workers: int,
    show: Callable[[SmokeProgress], None],
    shares: Sequence[float] = (),
    compiling: Compiling | None = None,
    tell: Callable[[str], None] = lambda _line: None,
    kernels: Kernels | None = None,
) -> SmokeProgress:
    """Run fuzzing processes, `workers` at a time, as `plan` says, to their end; the first finding ends them all
    unless they are to keep going. A worker's others wait for their turn, or are started to be ready for it. `show` is
    called whenever there is something new to show. All go over to what `compiling` makes once that is there; `tell`
    hears of it. `kernels` has those that the processes need, or will have.

    Raises Interrupted on SIGINT or SIGTERM, after an orderly stop, which a second one cuts short; ToolFailure when a
    process fails, or cannot start because Atheris is missing.
    """
    require_atheris()
    with tempfile.TemporaryDirectory(prefix="s2fuzz-") as scratch, CountedBehind() as lines:
        lanes = [_Lane(work, deque(turns(work))) for work in plan(assignments, workers, shares)]
        progress = _Run(Path(scratch), show, assignments[0], compiling, tell, lines, kernels).run(lanes)
    if not progress.stats.executions + progress.stats.replayed:
        raise ToolFailure("no program was run, so nothing can be said of the sides: give it more time")
    return progress


@dataclass(slots=True)
class _Lane:
    """A worker: what its processes are to do, whose turns are to come, and its processes so far, by their numbers."""

    work: Sequence[Assignment]
    turns: deque[int]
    processes: dict[int, FuzzingProcess] = field(default_factory=dict)
    open: list[FuzzingProcess] = field(default_factory=list)
    """Those of them that have not ended."""
    running: FuzzingProcess | None = None
    """That whose turn it is."""


class _Run:
    def __init__(
        self,
        scratch: Path,
        show: Callable[[SmokeProgress], None],
        first: Assignment,
        compiling: Compiling | None,
        tell: Callable[[str], None],
        lines: CountedBehind,
        kernels: Kernels | None,
    ) -> None:
        self.scratch = scratch
        self.lines = lines
        self.show = show
        self.first = first
        """Of the assignments, which agree in what ends them."""
        self.compiling = compiling
        self.tell = tell
        self.kernels = kernels
        self.progress = SmokeProgress()
        self.signals = StopSignals()
        self.lanes: list[_Lane] = []

    @property
    def processes(self) -> list[FuzzingProcess]:
        """All so far, worker by worker."""
        return [process for lane in self.lanes for process in lane.processes.values()]

    def run(self, lanes: list[_Lane]) -> SmokeProgress:
        """To its end, or that of a run that was interrupted."""
        self.lanes = lanes
        with StopSignals() as self.signals:
            try:
                self._attend()
            finally:
                for lane in lanes:
                    for process in [*lane.open]:
                        self._end(lane, process)
            self.progress.compiling = ""
            for process in self.processes:
                process.settle(self.progress.interrupted)
        self._sum_up()
        if not self.progress.interrupted:
            try:
                self.progress.model_lines = self.lines.result()
            except KeyboardInterrupt:
                self.progress.interrupted = True
        if self.progress.interrupted:
            raise Interrupted(self.progress)
        return self.progress

    def _attend(self) -> None:
        """Hear what the processes say until all have ended; each has its turns."""
        ending, shown, counted = False, time.monotonic(), time.monotonic()
        while True:
            for lane in self.lanes:
                for process in [process for process in lane.open if not process.sources]:
                    ending = ending or process.failed
                    self._end(lane, process)
                if not ending:
                    self._take_turns(lane)
                    self._make_ready(lane)
            processes = [process for lane in self.lanes for process in lane.open]
            if not processes:
                return
            running = [lane.running for lane in self.lanes if lane.running is not None]
            sources = {source: process for process in processes for source in process.sources}
            news = [sources[source].hear(source) for source in select.select(sorted(sources), [], [], 0.1)[0]]
            self._attend_compiling()
            if time.monotonic() - counted > _COUNTED_EVERY:
                counted = time.monotonic()
                for process in running:
                    self._count(process, _SETTLED)
            if any(news) or time.monotonic() - shown > _SHOWN_EVERY:  # one that is busy says nothing
                shown = time.monotonic()
                self._sum_up()
                self.progress.silent = max([shown - process.heard for process in running], default=0.0)
                self.show(self.progress)
            self.progress.interrupted = self.signals.count > 0
            found = any(self._ends(one) for one in self.progress.findings)
            if self.progress.interrupted or found or any(process.failed for process in processes):
                ending = True
                for process in processes:
                    process.dismiss()
                    if self.signals.count > 1:
                        process.kill()
            for process in processes:
                process.watch()

    def _ends(self, finding: Filed) -> bool:
        """Whether a finding ends them all."""
        return not self.first.keep_going and (self.first.strict or not finding.shared)

    def _attend_compiling(self) -> None:
        if self.compiling is None:
            return
        for line in self.compiling.attend():
            self.tell(line)
        self.progress.compiling = self.compiling.state
        for number, lane in enumerate(self.lanes):
            for process in lane.open:
                if self.compiling.folder is not None:
                    process.go_over(self.compiling.folder)
                for message in process.news:
                    if isinstance(message, WentOver):
                        self.tell(f"worker {number} went over to compiled modules after {message.executions} programs")
                process.news.clear()

    def _take_turns(self, lane: _Lane) -> None:
        """Begin the next turn of a worker whose last one is over."""
        if lane.running is not None and (lane.running.waits or lane.running.done):
            lane.running = None
        while lane.running is None and lane.turns:
            number = lane.turns.popleft()
            process = lane.processes.get(number) or self._start(lane, number)
            if process.done:  # hangs among the corpora have taken its time
                continue
            filed = Counter(finding.bucket for finding in self.progress.findings)
            process.begin(filed)
            if lane.turns and lane.turns[0] == number:  # it generates when it has replayed the corpora
                lane.turns.popleft()
                process.begin(filed)
            lane.running = process

    def _make_ready(self, lane: _Lane) -> None:
        """Start the processes that come next while one is at work, not while that is being started itself."""
        if lane.running is None or not lane.running.has_spoken:
            return
        for number in lane.turns:
            is_there = self.kernels is None or self.kernels.are_there(lane.work[number])
            if number not in lane.processes and len(lane.open) < MOST_OPEN and is_there:
                self._start(lane, number)

    def _start(self, lane: _Lane, number: int) -> FuzzingProcess:
        """A process, held. Raises as `Kernels.wait_for` does."""
        assignment = lane.work[number]
        if self.kernels is not None:
            self.kernels.wait_for(assignment)
        folder = self.scratch / f"{len(self.processes)}"
        folder.mkdir()
        compiled = None if self.compiling is None else self.compiling.folder
        process = FuzzingProcess(replace(assignment, held=True, compiled=compiled), folder)
        lane.processes[number] = process
        lane.open.append(process)
        return process

    def _end(self, lane: _Lane, process: FuzzingProcess) -> None:
        process.close()
        lane.open.remove(process)
        if process is lane.running:
            lane.running = None
        if not self.progress.interrupted:
            self._count(process)

    def _count(self, process: FuzzingProcess, settled: float = 0.0) -> None:
        """Have the model's lines counted that new inputs reach: behind the fuzzing, for all together take seconds."""
        if programs := process.newly_kept(settled):
            self.lines.add(Model(model_of(process.assignment.sides)), programs)

    def _sum_up(self) -> None:
        states = [process.state for process in self.processes if process.state is not None]
        progress = self.progress
        if not self.processes:
            return
        progress.seconds = max(sum(one.seconds for one in lane.processes.values()) for lane in self.lanes)
        progress.stats = sum([state.stats for state in states], Stats())
        progress.findings = [finding for state in states for finding in state.findings]
        progress.boots = sum(state.boots for state in states)
        progress.kernels = sum(len(state.edges) for state in states)
        progress.features = max(process.features for process in self.processes)
        progress.corpus = sum(process.kept for process in self.processes)
        self._sum_up_kernels([(process.assignment, process.state) for process in self.processes if process.state])

    def _sum_up_kernels(self, states: list[tuple[Assignment, ProcessState]]) -> None:
        """Processes that run the same image reach its edges together."""
        reached: dict[tuple[str, int], tuple[int, int]] = {}
        names: dict[tuple[str, int], str] = {}
        compared: list[tuple[dict[str, str], ...]] = []
        for work, state in states:
            kernels = [side.full_name for side in work.sides if side.kind == "kernel"]
            if state.identities not in compared:
                compared.append(state.identities)
            for side, edges in enumerate(state.edges):
                key = (edges.image, side)
                before = reached.get(key, (0, 0))[0]
                reached[key] = (before | edges.reached, edges.of)
                names[key] = f"{kernels[side]}, {work.granule}"
        self.progress.compared = compared
        self.progress.images = list(names.values())
        self.progress.edges = [(bits.bit_count(), of) for bits, of in reached.values()]
