"""A campaign: fuzzing processes for hours, kept going, and what they find kept in the campaign's directory.

The processes' own folders are spools. An input counts as recorded once the supervisor has seen that its file holds what
its name says, and has it on the disk below corpus/; a finding, once it has been moved to findings/. What is recorded
survives everything that may happen to the processes and to the supervisor; what is in a spool, mostly: the next run
looks there first.

This is the loop. Which process runs when is decided in slots.py; what is recorded, in spool.py, inputs.py, kept.py and
incidents.py; how far it all has come, in counts.py, growth.py and progress.py; what an earlier run left, in
recovery.py.
"""

from __future__ import annotations

import contextlib
import select
import shutil
import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from fuzz.campaign.counts import Counts
from fuzz.campaign.incidents import Incidents
from fuzz.campaign.inputs import Inputs
from fuzz.campaign.kept import KeptFindings
from fuzz.campaign.minimiser import Minimiser
from fuzz.campaign.progress import CampaignProgress, slot_state
from fuzz.campaign.recovery import open_ledger, rescue_spools
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.slots import BARREN, STRIKES, Slot, Slots
from fuzz.campaign.spool import Spool
from fuzz.campaign.state import DISK, FAILED, GAVE_UP, INTERRUPTED, ON_TIME, CampaignState, RunResult, SlotState
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.corpus.store import name_of
from fuzz.engine.background import Compiling
from fuzz.engine.in_flight import last_in_flight
from fuzz.engine.messages import LostKernel, Retried, WentOver
from fuzz.engine.process import LAUNCHER, FuzzingProcess, require_atheris
from fuzz.engine.stop_signals import StopSignals
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import Finding
from harness.full_disk import DiskFull, explained, is_full, says_full
from harness.outside import shown
from reference.link.executor import INPUT_TIMEOUT

_COLLECT_INTERVAL: Final = 1.0
_SAMPLE_INTERVAL: Final = 10.0
_SHOW_INTERVAL: Final = 0.5
_MEASURING: Final = 0.1
"""Of a CPU's time, what is spent on following the model through new inputs; and seconds for it at a time."""
_LAST_MEASURING: Final = 1.0
"""Seconds for what is left of that in the end."""
_LAST_MINIMISING: Final = 60.0
"""Seconds for findings that are not minimised yet, when time is up."""
_SILENCE: Final = 2.0 * INPUT_TIMEOUT
"""Seconds without a word after which a process is given up. libFuzzer ends a program that takes half of that."""
_FIRST_PROGRAM: Final = 300.0
"""Seconds for which a run goes on beyond its time until it has run a program at least."""


@dataclass(slots=True)
class _Running:
    """A slot's process, while it goes on."""

    process: FuzzingProcess
    row: int
    """Of the process, in the ledger."""
    folder: Path
    """Its own, with its spool in it."""
    spool: Spool


class Campaign:
    """A run of the campaign in `place`, which is locked by the descriptor `lock`.

    `seconds` is when it is to end (None: when it is told to), `slice_seconds` how long a process stays with one of
    several comparisons where there are more of them than workers, `min_free` the bytes that are to stay free on the
    disk. `corpora` are folders of programs to begin with. `say` hears of events, `show` of the state, often. All
    processes go over to what `compiling` makes once that is there.
    """

    def __init__(
        self,
        place: WorkDirectory,
        setup: CampaignSetup,
        lock: int,
        workers: int,
        seconds: float | None,
        slice_seconds: float,
        min_free: int,
        corpora: tuple[Path, ...],
        say: Callable[[str], None],
        show: Callable[[CampaignState], None],
        launcher: Path = LAUNCHER,
        compiling: Compiling | None = None,
    ) -> None:
        self.place = place
        self.setup = setup
        self.workers = workers
        self.seconds = seconds
        self.slice_seconds = slice_seconds
        self.min_free = min_free
        self.corpora = corpora
        self._lock = lock
        self._say = say
        self._show = show
        self._launcher = launcher
        self._compiling = compiling
        self.slots = Slots(len(setup.work), workers)
        self._running: dict[int, _Running] = {}
        """By slot."""
        self._signals = StopSignals()
        self._ending: str | None = None
        self._ended = 0.0
        self._killed = False
        self._started = time.monotonic()
        self._before = 0.0
        """Seconds of the runs before this one."""
        self._run = 0
        self._why_lost = ""
        """What the process said that was lost last."""
        self._minimiser = Minimiser(say)
        self._findings = KeptFindings(place, setup, say, self._minimiser.add)

    def run(self) -> RunResult:
        """To its end. Raises BadInput for what a process says is bad input, and ToolFailure when the processes cannot
        be kept going, or the disk is full; whatever was recorded is there."""
        require_atheris()
        self._check_space()
        with StopSignals() as self._signals:
            try:
                self._prepare()
                self._go()
                if self._ending == ON_TIME and not self._counts.has_run:
                    raise ToolFailure(f"no program was run{f': {self._why_lost}' if self._why_lost else ''}")
                return RunResult(self._ending or ON_TIME, self.state(), self._findings.by_bucket())
            except (BadInput, ToolFailure) as error:
                self._note_end(DISK if says_full(str(error)) else GAVE_UP)
                raise
            except (OSError, sqlite3.Error) as error:
                self._note_end(DISK if _is_full(error) else FAILED)
                there = "what was recorded is there, and `s2fuzz campaign` goes on from it"
                raise ToolFailure(f"{shown(self.place.root)}: {_why(error)}; {there}") from error
            finally:
                self._minimiser.close()
                for running in self._running.values():
                    running.process.close()
                if self._run:
                    self.ledger.close()

    def _note_end(self, why: str) -> None:
        """Have the ledger, or where it cannot be written a file beside it, say how this run ended."""
        if not self._run:
            return
        try:
            self.ledger.note_run(self._run, round(self._now() - self._before, 3), why)
        except sqlite3.Error:
            with contextlib.suppress(OSError):  # what went wrong is being raised already
                self.place.say_last_word(self._run, why)

    def _check_space(self) -> None:
        free = shutil.disk_usage(self.place.root).free
        if free < self.min_free:
            raise ToolFailure(
                f"{shown(self.place.root)}: {free >> 20} MiB are free, {self.min_free >> 20} must be (--min-free)"
            )

    # Before the first process

    def _prepare(self) -> None:
        self.place.scratch.mkdir(exist_ok=True)
        for leftover in self.place.scratch.iterdir():
            leftover.unlink()
        self._inputs = Inputs(self.place, self.setup, self._say, self._now)
        self._inputs.put_damaged_aside()
        self._findings.count()
        rescue_spools(self.place, self._inputs, self._findings)
        self.ledger = open_ledger(self.place, self._say)
        self._before = self.ledger.seconds()
        self._counts = Counts(self.ledger, len(self.setup.work))
        self._incidents = Incidents(self.place, self.ledger, self._now)
        self._progress = CampaignProgress(
            self.place, self.setup, self._counts, self._inputs, self._findings, self._incidents, self.ledger
        )
        self._inputs.follow(self.ledger)
        known = set(self.ledger.rows("SELECT directory, flaky FROM findings"))
        for finding in self._findings.all():
            if (finding.directory.name, int(self._findings.is_flaky(finding))) not in known:
                self._note_finding(finding, None)
        self._reopen_incidents()
        self._run = self.ledger.begin_run(self.workers)
        self.place.make_room_for_last_word()
        self._inputs.begin(self.corpora)

    def _reopen_incidents(self) -> None:
        """What was in flight when a process was lost is yet to be judged, where a run ended before."""
        for incident, program in self._incidents.open():
            for slot in self.slots:
                data = self._inputs.store_of(slot.comparison).encode(program)
                if data is not None:
                    slot.suspects[data] = incident
                    break

    # The loop

    def _go(self) -> None:
        collected = sampled = shown = 0.0
        measured = time.monotonic()
        while True:
            self._listen()
            now = time.monotonic()
            if self._ending is None and (reason := self._reason_to_end(now)):
                self._end(reason)
            self._kill_if_told_twice()
            if now - collected >= _COLLECT_INTERVAL:
                collected = now
                for slot in self.slots:
                    self._collect_from(slot)
                self._counts.tick(now)
                self._progress.tick(self._now())
            for slot in self.slots:
                self._attend(slot, now)
            if (minimised := self._minimiser.attend()) is not None:
                self._findings.minimised(minimised)
            if self._ending is not None and not self._running and self._minimiser_is_done(now):
                break
            if now - sampled >= _SAMPLE_INTERVAL:
                sampled = now
                self._record()
            if now - measured >= 1:
                measured = now
                self._inputs.measure(_MEASURING)
            if now - shown >= _SHOW_INTERVAL:
                shown = now
                self._show(self.state())
        if self._ending == ON_TIME:
            self._inputs.measure(_LAST_MEASURING)
        self._record(self._ending)
        for folder in self.place.spool.iterdir():
            shutil.rmtree(folder)

    def _kill_if_told_twice(self) -> None:
        if self._signals.count > 1 and not self._killed:
            self._killed = True
            for running in self._running.values():
                running.process.kill()

    def _listen(self) -> None:
        processes = [running.process for running in self._running.values()]
        sources = {source: process for process in processes for source in process.sources}
        for source in select.select(sorted(sources), [], [], 0.1)[0]:
            sources[source].hear(source)
        for line in [] if self._compiling is None else self._compiling.attend():
            self._say(line)

    def _reason_to_end(self, now: float) -> str | None:
        if self._signals.count:
            return INTERRUPTED
        if self.seconds is not None and now - self._started >= self.seconds:
            late = now - self._started >= self.seconds + _FIRST_PROGRAM
            return ON_TIME if late or self._counts.has_run else None  # else nothing could be said of the sides
        if shutil.disk_usage(self.place.root).free < self.min_free:
            return DISK
        return None

    def _minimiser_is_done(self, now: float) -> bool:
        """Findings that came last are still minimised, for a while, where time alone ended the run."""
        late = self._signals.count or self._ending != ON_TIME or now - self._ended > _LAST_MINIMISING
        return bool(late) or not self._minimiser.waiting

    def _end(self, reason: str) -> None:
        self._ending, self._ended = reason, time.monotonic()
        for running in self._running.values():
            running.process.stop()

    # Processes

    def _attend(self, slot: Slot, now: float) -> None:
        """Keep a slot's process going, or have another follow it."""
        running = self._running.get(slot.number)
        if running is None:
            if self._ending is None and now >= slot.not_before:
                self._start(slot)
            return
        process = running.process
        if (compiled := self._compiled) is not None:
            process.go_over(compiled)
        for message in process.news:
            self._hear_news(slot, message)
        process.news.clear()
        if process.state is not None:
            self._counts.note(slot.number, slot.comparison, process.state)
            self._counts.note_features(slot.comparison, process.features)
        process.watch()
        if now - process.heard > _SILENCE:
            process.kill()
        if not process.sources:
            process.close()
            self._bury(slot, running)

    @property
    def _compiled(self) -> Path | None:
        """Where compiled modules are, once they are there."""
        return None if self._compiling is None else self._compiling.folder

    def _start(self, slot: Slot) -> None:
        number = slot.comparison
        work, name = self.setup.work[number], self.setup.stores[number]
        row, seed = self.ledger.begin_process(self._run, slot.number, number, work.seed, self._now())
        folder = self.place.spool / f"{self._run}-{row}.{name}"
        folder.mkdir()
        assignment = replace(
            work,
            out=folder / "found",
            corpora=self.corpora if self.slots.begin(slot) else (),
            seed=seed,
            compiled=self._compiled,
            seconds=self.slice_seconds if slot.takes_turns else None,
            in_flight=folder / "in_flight",
            suspects=tuple(slot.suspects),
            filed=self._findings.filed(number),
        )
        process = FuzzingProcess(
            assignment, folder, self._inputs.stores[name].folder, keep=(self._lock,), launcher=self._launcher
        )
        self._running[slot.number] = _Running(process, row, folder, Spool(process.corpus))

    def _bury(self, slot: Slot, running: _Running) -> None:
        """See to what a process left that has ended, and to what comes next."""
        process = running.process
        self._collect_from(slot, last=True)
        self._note_process(slot.number, running, "stopped" if self._ending else "done" if process.done else "lost")
        self._counts.settle(slot.number)
        del self._running[slot.number]
        if process.done:
            slot.done()
        elif self._ending is None:
            if isinstance(process.failure, BadInput):
                raise process.failure
            self._lose(slot, running)
        shutil.rmtree(running.folder)

    def _lose(self, slot: Slot, running: _Running) -> None:
        """A process was lost: keep what it did, and decide how to go on."""
        process = running.process
        details = self._why_lost = str(process.failure) if process.failure else process.obituary()
        slot.lost(process.seconds, time.monotonic())
        headline = details.partition(";")[0].partition("\n")[0]
        self._say(f"worker {slot.number}: the fuzzing process {headline}; another follows")
        data = last_in_flight(running.folder / "in_flight")
        dialect = self._inputs.store_of(slot.comparison).dialect
        incident = self._incidents.note(slot.number, f"the fuzzing process {headline}", details, data, dialect)
        if data is not None and not self.slots.suspect(slot, data, incident):
            verdict = f"lost {STRIKES} processes: a tool incident that happens again; no longer run"
            self._incidents.judge(incident, verdict)
            self._inputs.drop(slot.comparison, data)
            self._say(f"the program in incidents/{name_of(data)}.s2 {verdict}")
        if slot.is_hopeless:
            raise ToolFailure(f"{BARREN} fuzzing processes in a row ended before their first program:\n{details}")

    def _hear_news(self, slot: Slot, message: LostKernel | Retried | WentOver) -> None:
        if isinstance(message, WentOver):
            self._say(f"worker {slot.number} went over to compiled modules after {message.executions} programs")
            return
        if isinstance(message, LostKernel):
            self._say(f"worker {slot.number}: {message.what}")
            dialect = self._inputs.store_of(slot.comparison).dialect
            incident = self._incidents.note(slot.number, message.what, message.what, message.data, dialect)
            self._incidents.judge(incident, "the program ran on the other one: a tool incident")
            return
        suspected = slot.suspects.pop(message.data, None)
        if suspected is not None:
            self._collect_findings(slot)
            verdict = "a finding" if message.found else "did not happen again: a tool incident"
            self._incidents.judge(suspected, verdict)

    # What they leave

    def _collect_from(self, slot: Slot, last: bool = False) -> None:
        """Record new inputs and findings. What is not whole is still being written, or, at the `last`, damaged."""
        running = self._running.get(slot.number)
        if running is None:
            return
        name = self.setup.stores[slot.comparison]
        kept = self._inputs.keep(name, running.spool.whole(), slot.number)
        running.spool.found(kept)
        if last:
            for path, size in running.spool.broken():
                self._incidents.note(slot.number, "a damaged file in a spool", f"{shown(path.name)}: {size} bytes")
                self._say(f"worker {slot.number}: {shown(path.name)} in its spool is damaged, and left out")
        if not last or running.process.done:
            self._let_go(name, running.spool)
        for other in self.slots:  # whoever else can run them gets them
            if other is not slot and self.setup.stores[other.comparison] == name and other.number in self._running:
                for one in kept:
                    self._running[other.number].process.give(self._inputs.stores[name].read(one))
        self._collect_findings(slot)

    def _let_go(self, name: str, spool: Spool) -> None:
        """Take what a process replaced out of the store of that name as well, unless another has it, or another
        comparison uses that store: what it reaches there is another matter."""
        if self.setup.stores.count(name) == 1:
            others = [running.spool for running in self._running.values() if running.spool is not spool]
            self._inputs.replace(name, spool.replaced(others))

    def _collect_findings(self, slot: Slot) -> None:
        for finding in self._findings.take(self._running[slot.number].folder / "found"):
            self._note_finding(finding, slot.number)

    def _note_finding(self, finding: Finding, finder: int | None) -> None:
        number, bucket = self._findings.key(finding)
        flaky, ops = self._findings.is_flaky(finding), len(finding.program.ops)
        self.ledger.note_finding(finding.directory, number, bucket, finding.kind, flaky, ops, self._now(), finder)

    # How far it has come

    def _now(self) -> float:
        """Seconds of campaign, this run's included."""
        return round(self._before + time.monotonic() - self._started, 3)

    def _record(self, ended: str | None = None) -> None:
        """Have the ledger know how far everything has come."""
        self.ledger.note_run(self._run, round(self._now() - self._before, 3), ended)
        for number, running in self._running.items():
            self._note_process(number, running, None)
        self._progress.record(self.ledger, self._now())

    def _note_process(self, slot: int, running: _Running, ended: str | None) -> None:
        state = running.process.state
        if state is not None:
            rate = self._counts.rate_of(slot)
            self.ledger.note_process(running.row, state, running.process.features, rate, ended)

    def state(self) -> CampaignState:
        """As of now."""
        now = time.monotonic()
        left = None if self.seconds is None else max(0.0, self._started + self.seconds - now)
        slots = [self._slot_state(slot, now) for slot in self.slots]
        state = self._progress.state(self._now(), now - self._started, left, self._minimiser.waiting, slots)
        return replace(state, compiling="" if self._compiling is None else self._compiling.state)

    def _slot_state(self, slot: Slot, now: float) -> SlotState:
        running = self._running.get(slot.number)
        process = None if running is None else running.process
        rate = self._counts.rate_of(slot.number)
        return slot_state(self.setup, slot, process, rate, now, self._ending is not None)


def _is_full(error: OSError | sqlite3.Error) -> bool:
    """Whether the disk is full, or one's share of it."""
    if isinstance(error, OSError):
        return is_full(error)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL


def _why(error: OSError | sqlite3.Error) -> str:
    return str(DiskFull("the ledger")) if isinstance(error, sqlite3.Error) and _is_full(error) else explained(error)
