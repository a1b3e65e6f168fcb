"""A short fuzzing run: the parent of one or more fuzzing processes. It shows progress and sums up."""

from __future__ import annotations

import importlib.util
import select
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from fuzz.coverage.model_lines import model_lines
from fuzz.engine.assignment import Assignment
from fuzz.engine.process import FuzzingProcess, Report
from fuzz.engine.tally import Tally
from fuzz.sides import model_of
from fuzz.stop_signals import StopSignals
from harness.errors import ToolFailure
from harness.model import Model
from harness.program import Program


@dataclass(slots=True)
class Progress:
    """What is known of a run under way, or at its end; of all its processes together."""

    seconds: float = 0.0
    """Since the first generated execution: of the longest process in each slice of time, added up."""
    tally: dict[str, Any] = field(default_factory=dict)
    """`Tally.summary`."""
    findings: list[dict[str, Any]] = field(default_factory=list)
    identities: list[dict[str, str]] = field(default_factory=list)
    boots: int = 0
    kernels: int = 0
    """Test kernels that would have been booted if none had been restarted."""
    edges: list[dict[str, int]] = field(default_factory=list)
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
        count: int = self.tally.get("executions", 0)
        return count

    @property
    def rate(self) -> float:
        """Generated executions per second."""
        return self.executions / self.seconds if self.seconds else 0.0


def atheris_available() -> bool:
    """Whether the `fuzz` extra is installed."""
    return importlib.util.find_spec("atheris") is not None


def require_atheris() -> None:
    """Raise ToolFailure where the `fuzz` extra is not installed."""
    if not atheris_available():
        raise ToolFailure(
            "fuzzing needs Atheris, which is not installed: pip install 's2fuzz[fuzz]' (x86-64, Python 3.11 to 3.13)"
        )


class Interrupted(Exception):
    """The run was stopped by a signal; `progress` holds what it came to until then."""

    def __init__(self, progress: Progress) -> None:
        super().__init__("interrupted")
        self.progress = progress


def slices(assignments: Sequence[Assignment], workers: int) -> list[list[Assignment]]:
    """Who runs when. A fuzzing process stays with one kernel image, so several `assignments`, which differ in that,
    rotate by worker and, where there are fewer workers than images, by slices of time. Each slice runs at once.

    Every process has a seed of its own, the first that of its assignment; only the first of each assignment replays
    the corpora. The run's seconds and executions are those of the first assignment.
    """
    count = max(workers, len(assignments))
    rounds = -(-count // workers)
    seconds, executions = assignments[0].seconds, assignments[0].executions
    work = [
        replace(
            assignments[number % len(assignments)],
            seed=assignments[0].seed + number,
            seconds=None if seconds is None else seconds / rounds,
            executions=None if executions is None else -(-executions // count),
            corpora=assignments[0].corpora if number < len(assignments) else (),
        )
        for number in range(count)
    ]
    return [work[start : start + workers] for start in range(0, count, workers)]


def smoke(assignments: Sequence[Assignment], workers: int, show: Callable[[Progress], None]) -> Progress:
    """Run fuzzing processes, `workers` at a time, as `slices` says, to their end; the first finding ends them all
    unless they are to keep going. `show` is called whenever there is something new to show.

    Raises Interrupted on SIGINT or SIGTERM, after an orderly stop; ToolFailure when a process fails, or cannot start
    because Atheris is missing.
    """
    require_atheris()
    with tempfile.TemporaryDirectory(prefix="s2fuzz-") as scratch:
        progress = _Run(Path(scratch), show).run(slices(assignments, workers))
    if not progress.executions + int(progress.tally.get("replayed", 0)):
        raise ToolFailure("no program was run, so nothing can be said of the sides: give it more time")
    return progress


def _kept(process: FuzzingProcess) -> Iterator[tuple[Model, Program]]:
    """The programs that a process has kept, and the model that runs them."""
    model = Model(model_of(process.assignment.sides))
    return ((model, program) for program in process.kept_programs())


class _Run:
    def __init__(self, scratch: Path, show: Callable[[Progress], None]) -> None:
        self.scratch = scratch
        self.show = show
        self.progress = Progress()
        self.signals = StopSignals()
        self.past: list[list[FuzzingProcess]] = []
        """The processes of each slice of time so far, the present one last."""

    def run(self, rounds: list[list[Assignment]]) -> Progress:
        with StopSignals() as self.signals:
            for work in rounds:
                self._round(work)
                if self.progress.interrupted or (self.progress.findings and not work[0].keep_going):
                    break
        self.progress.model_lines = model_lines(chain.from_iterable(map(_kept, chain.from_iterable(self.past))))
        if self.progress.interrupted:
            raise Interrupted(self.progress)
        return self.progress

    def _round(self, work: list[Assignment]) -> None:
        processes: list[FuzzingProcess] = []
        self.past.append(processes)
        try:
            for number, assignment in enumerate(work):
                folder = self.scratch / f"{len(self.past)}-{number}"
                folder.mkdir()
                processes.append(FuzzingProcess(assignment, folder))
            self._attend(processes)
        finally:
            for process in processes:
                process.close()
        for process in processes:
            process.settle(self.progress.interrupted)

    def _attend(self, processes: list[FuzzingProcess]) -> None:
        """Hear what the processes say until all have ended."""
        while sources := {source: process for process in processes for source in process.sources}:
            news = [sources[source].hear(source) for source in select.select(sorted(sources), [], [], 0.1)[0]]
            if any(news):
                self._sum_up()
                self.show(self.progress)
            self.progress.interrupted = self.signals.count > 0
            found = self.progress.findings and not processes[0].assignment.keep_going
            if self.progress.interrupted or found or any(process.failed for process in processes):
                for process in processes:
                    process.stop()
            for process in processes:
                process.watch()

    def _sum_up(self) -> None:
        reports = [process.report for processes in self.past for process in processes]
        tallies = [Tally.from_json(report.tally) for report in reports if report.tally is not None]
        progress = self.progress
        progress.seconds = sum(max(one.report.seconds for one in processes) for processes in self.past)
        progress.tally = sum(tallies, Tally()).summary()
        progress.findings = [finding for report in reports for finding in report.findings]
        progress.boots = sum(report.boots for report in reports)
        progress.kernels = sum(len(report.edges) for report in reports)
        progress.features = max(report.features for report in reports)
        progress.corpus = sum(report.kept for report in reports)
        self._sum_up_kernels(reports)

    def _sum_up_kernels(self, reports: list[Report]) -> None:
        """Processes that run the same image reach its edges together."""
        reached: dict[tuple[str, int], tuple[int, int]] = {}
        identities: dict[str, dict[str, str]] = {}
        for report in reports:
            identities.update({repr(sorted(identity.items())): identity for identity in report.identities})
            for side, edges in enumerate(report.edges):
                key = (edges["image"], side)
                before = reached.get(key, (0, 0))[0]
                reached[key] = (before | int(edges["reached"], 16), edges["of"])
        self.progress.identities = list(identities.values())
        self.progress.edges = [{"of": of, "reached": bits.bit_count()} for bits, of in reached.values()]
