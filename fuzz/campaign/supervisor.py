"""A campaign: fuzzing processes for hours, kept going, and what they find kept in the campaign's directory.

The processes' own folders are spools. An input counts as recorded once the supervisor has seen that its file holds what
its name says, and has it on the disk below corpus/; a finding, once it has been moved to findings/. What is recorded
survives everything that may happen to the processes and to the supervisor; what is in a spool, mostly: the next run
looks there first.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import sqlite3
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fuzz.campaign.kept import KeptFindings, free_name
from fuzz.campaign.ledger import Damaged, Ledger, put_aside
from fuzz.campaign.minimiser import Minimiser
from fuzz.campaign.state import DISK, FAILED, GAVE_UP, INTERRUPTED, ON_TIME, Outcome, SlotState, State
from fuzz.campaign.work_directory import Configuration, WorkDirectory
from fuzz.corpus.store import Store, is_whole, name_of, read_input
from fuzz.coverage.model_lines import ModelLines
from fuzz.engine.first_inputs import starting_inputs
from fuzz.engine.in_flight import underway_in
from fuzz.engine.process import LAUNCHER, FuzzingProcess
from fuzz.engine.smoke import require_atheris
from fuzz.engine.stats import Stats
from fuzz.engine.stop_signals import StopSignals
from fuzz.sides import model_of
from harness.durable import write_durably
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import Finding
from harness.model.executor import Model
from harness.outside import program_files, shown
from harness.program.codec import decode
from harness.program.text import format_program, read
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
_SOUND: Final = 60.0
"""Seconds after which the loss of a process is no longer put down to how it was started."""
_LONGEST_WAIT: Final = 60.0
_FIRST_PROGRAM: Final = 300.0
"""Seconds for which a run goes on beyond its time until it has run a program at least."""
_FULL: Final = os.strerror(errno.ENOSPC)
_BARREN: Final = 4
"""Processes of a slot that end before their first program, one after the other, until the campaign gives up."""
_STRIKES: Final = 3
"""Processes that may be lost with the same input under way until it is no longer run."""


@dataclass(slots=True)
class Slot:
    """The place of a fuzzing process, in which one follows another. `rotation` are the numbers of its comparisons."""

    number: int
    rotation: list[int]
    turn: int = 0
    process: FuzzingProcess | None = None
    row: int = 0
    """Of the process, in the ledger."""
    folder: Path = Path()
    began: float = 0.0
    not_before: float = 0.0
    losses: int = 0
    """Processes lost in a row."""
    barren: int = 0
    suspects: dict[bytes, int] = field(default_factory=dict)
    """Inputs that were under way when a process was lost, and the incident in the ledger."""
    collected: set[str] = field(default_factory=set)
    """Names in its spool that have been seen to."""

    @property
    def comparison(self) -> int:
        """The number of what its process compares."""
        return self.rotation[self.turn % len(self.rotation)]


class Campaign:
    """A run of the campaign in `place`, which is locked by the descriptor `lock`.

    `seconds` is when it is to end (None: when it is told to), `slice_seconds` how long a process stays with one of
    several comparisons where there are more of them than workers, `min_free` the bytes that are to stay free on the
    disk. `corpora` are folders of programs to begin with. `say` hears of events, `show` of the state, often.
    """

    def __init__(
        self,
        place: WorkDirectory,
        configuration: Configuration,
        lock: int,
        workers: int,
        seconds: float | None,
        slice_seconds: float,
        min_free: int,
        corpora: tuple[Path, ...],
        say: Callable[[str], None],
        show: Callable[[State], None],
        launcher: Path = LAUNCHER,
    ) -> None:
        self.place = place
        self.configuration = configuration
        self.workers = workers
        self.seconds = seconds
        self.slice_seconds = slice_seconds
        self.min_free = min_free
        self.corpora = corpora
        self._lock = lock
        self._say = say
        self._show = show
        self._launcher = launcher
        count = len(configuration.work)
        self.slots = [
            Slot(number, [number % count] if workers >= count else list(range(number, count, workers)))
            for number in range(workers)
        ]
        self._signals = StopSignals()
        self._ending: str | None = None
        self._ended = 0.0
        self._killed = False
        self._started = time.monotonic()
        self._before = 0.0
        """Seconds of the runs before this one."""
        self._run = 0
        self._first_seen: set[int] = set()
        """Comparisons whose programs in the corpora have been replayed."""
        self._past: list[Stats] = []
        """What the processes that have ended counted, by comparison."""
        self._programs_before = 0
        """Programs that the runs before this one ran."""
        self._why_lost = ""
        """What the process said that was lost last."""
        self._coverage: dict[tuple[str, int], tuple[int, int]] = {}
        self._images: dict[int, set[tuple[str, int]]] = {}
        self._counts: Counter[str] = Counter()
        """Inputs by store."""
        self._strikes: Counter[bytes] = Counter()
        self._incidents = 0
        self._minimiser = Minimiser(say)
        self._findings = KeptFindings(place, configuration, say, self._minimiser.add)
        self._lines = ModelLines()
        self._unmeasured: deque[tuple[str, str]] = deque()
        self._rates: deque[tuple[float, int]] = deque(maxlen=12)

    # The run

    def run(self) -> Outcome:
        """To its end. Raises BadInput for what a process says is bad input, and ToolFailure when the processes cannot
        be kept going, or the disk is full; whatever was recorded is there."""
        require_atheris()
        self._check_space()
        with StopSignals() as self._signals:
            try:
                self._prepare()
                self._go()
                if self._ending == ON_TIME and not self._has_run():
                    raise ToolFailure(f"no program was run{f': {self._why_lost}' if self._why_lost else ''}")
                return self._outcome()
            except (BadInput, ToolFailure) as error:
                self._note_end(DISK if _FULL in str(error) else GAVE_UP)
                raise
            except (OSError, sqlite3.Error) as error:
                self._note_end(DISK if _is_full(error) else FAILED)
                there = "what was recorded is there, and `s2fuzz campaign` goes on from it"
                raise ToolFailure(f"{shown(self.place.root)}: {error}; {there}") from error
            finally:
                self._minimiser.close()
                for slot in self.slots:
                    if slot.process is not None:
                        slot.process.close()
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

    def _go(self) -> None:
        collected = sampled = shown = 0.0
        measured = time.monotonic()
        while True:
            self._listen()
            now = time.monotonic()
            if self._ending is None and (reason := self._reason_to_end(now)):
                self._end(reason)
            if self._signals.count > 1 and not self._killed:
                self._killed = True
                for process in self._processes():
                    process.kill()
            if now - collected >= _COLLECT_INTERVAL:
                collected = now
                self._collect()
                self._rates.append((now, self._all_executions()))
            for slot in self.slots:
                self._attend(slot, now)
            self._minimiser.attend()
            if self._ending is not None and not any(self._processes()) and self._minimiser_is_done(now):
                break
            if now - sampled >= _SAMPLE_INTERVAL:
                sampled = now
                self._record()
            if now - measured >= 1:
                measured = now
                self._measure(_MEASURING)
            if now - shown >= _SHOW_INTERVAL:
                shown = now
                self._show(self.state())
        if self._ending == ON_TIME:
            self._measure(_LAST_MEASURING)
        self._record(self._ending)
        for folder in self.place.spool.iterdir():
            shutil.rmtree(folder)

    def _listen(self) -> None:
        sources = {source: process for process in self._processes() for source in process.sources}
        for source in select.select(sorted(sources), [], [], 0.1)[0]:
            sources[source].hear(source)

    def _processes(self) -> list[FuzzingProcess]:
        return [slot.process for slot in self.slots if slot.process is not None]

    def _reason_to_end(self, now: float) -> str | None:
        if self._signals.count:
            return INTERRUPTED
        if self.seconds is not None and now - self._started >= self.seconds:
            late = now - self._started >= self.seconds + _FIRST_PROGRAM
            return ON_TIME if late or self._has_run() else None  # else nothing could be said of the sides
        if shutil.disk_usage(self.place.root).free < self.min_free:
            return DISK
        return None

    def _minimiser_is_done(self, now: float) -> bool:
        """Findings that came last are still minimised, for a while, where time alone ended the run."""
        late = self._signals.count or self._ending != ON_TIME or now - self._ended > _LAST_MINIMISING
        return bool(late) or not self._minimiser.waiting

    def _end(self, reason: str) -> None:
        self._ending, self._ended = reason, time.monotonic()
        for process in self._processes():
            process.stop()

    def _attend(self, slot: Slot, now: float) -> None:
        """Keep a slot's process going, or have another follow it."""
        process = slot.process
        if process is None:
            if self._ending is None and now >= slot.not_before:
                self._start(slot)
            return
        for message in process.news:
            self._hear_news(slot, message)
        process.news.clear()
        process.watch()
        if now - process.heard > _SILENCE:
            process.kill()
        if not process.sources:
            process.close()
            self._bury(slot, process)

    # Before the first process

    def _prepare(self) -> None:
        self.place.scratch.mkdir(exist_ok=True)
        for leftover in self.place.scratch.iterdir():
            leftover.unlink()
        self.stores = {
            name: self.configuration.open_store(number, self.place)
            for number, name in enumerate(self.configuration.stores)
        }
        for store in self.stores.values():
            self._put_damaged_aside(store)
        self._findings.count()
        self._rescue_spools()
        self._open_ledger()
        if (word := self.place.last_word()) is not None:
            self.ledger.end_run(*word)
        self._run = self.ledger.begin_run(self.workers)
        self.place.make_room_for_last_word()
        for name, store in self.stores.items():
            if not store.names():
                self._begin_store(name, store)

    def _put_damaged_aside(self, store: Store) -> None:
        for path in store.damaged():
            target = free_name(self.place.damaged / path.name)
            path.rename(target)
            self._say(f"{shown(path)}: does not hold what its name says; put aside as {shown(target)}")

    def _rescue_spools(self) -> None:
        """Record what the processes of a run left that was killed."""
        self.place.spool.mkdir(exist_ok=True)
        for folder in sorted(self.place.spool.iterdir()):
            store = self.stores.get(folder.name.partition(".")[2])
            found, inputs = folder / "found", folder / "corpus"
            if store is not None and inputs.is_dir():
                store.add(read_input(path) for path in sorted(inputs.iterdir()) if is_whole(path))
            for _ in self._findings.take(found):
                pass  # the ledger is told when it is opened
            shutil.rmtree(folder)

    def _open_ledger(self) -> None:
        """With everything in it that the files show. A damaged one is put aside."""
        try:
            self.ledger = Ledger(self.place.ledger)
        except Damaged as error:
            aside = put_aside(self.place.ledger)
            self.ledger = Ledger(self.place.ledger)
            self._say(
                f"{shown(self.place.ledger)}: damaged ({error}); put aside as {aside.name}, and begun anew from the "
                "corpus and the findings: counts and times of earlier runs are lost"
            )
        self._before = self.ledger.seconds()
        self._past = [self.ledger.stats(number) for number in range(len(self.configuration.work))]
        self._programs_before = self._programs()
        self._coverage = self.ledger.coverage()
        (self._incidents,) = self.ledger.rows("SELECT count(*) FROM incidents")[0]
        self._lines.know(self.ledger.rows("SELECT file, line FROM model_lines"))
        for name, store in self.stores.items():
            self._reconcile(name, store)
        known = set(self.ledger.rows("SELECT directory, flaky FROM findings"))
        for finding in self._findings.all():
            if (finding.directory.name, int(self._findings.is_flaky(finding))) not in known:
                self._note_finding(finding, None)
        self._reopen_incidents()
        self._unmeasured.extend(self.ledger.rows("SELECT corpus, name FROM inputs WHERE measured = 0"))

    def _reconcile(self, name: str, store: Store) -> None:
        there = set(store.names())
        self._counts[name] = len(there)
        noted = {one for (one,) in self.ledger.rows("SELECT name FROM inputs WHERE corpus = ?", name)}
        self.ledger.note_inputs(name, sorted(there - noted), self._before, None)
        self.ledger.forget_inputs(name, sorted(noted - there))

    def _reopen_incidents(self) -> None:
        """What was under way when a process was lost is yet to be judged, where a run ended before."""
        for incident, kept in self.ledger.rows("SELECT id, input FROM incidents WHERE verdict IS NULL AND input <> ''"):
            try:
                program = read(self.place.incidents / kept)
            except BadInput as error:
                self.ledger.judge_incident(incident, f"cannot be judged: {error}")
                continue
            for slot in self.slots:
                data = self.stores[self.configuration.stores[slot.comparison]].encode(program)
                if data is not None:
                    slot.suspects[data] = incident
                    break

    def _begin_store(self, name: str, store: Store) -> None:
        """Inputs that a fresh corpus starts from: random ones, and the corpora's programs."""
        seed = self.configuration.work[0].seed
        programs = [read(path) for folder in self.corpora for path in program_files(folder)]
        encoded = (data for program in programs if (data := store.encode(program)) is not None)
        self._kept_inputs(name, store.add([*starting_inputs(seed, store.dialect), *encoded]), None)

    # Processes

    def _start(self, slot: Slot) -> None:
        number = slot.comparison
        work, name = self.configuration.work[number], self.configuration.stores[number]
        first = number not in self._first_seen
        self._first_seen.add(number)
        slot.began = self._now()
        slot.row, seed = self.ledger.begin_process(self._run, slot.number, number, work.seed, slot.began)
        slot.folder = self.place.spool / f"{self._run}-{slot.row}.{name}"
        slot.folder.mkdir()
        slot.collected.clear()
        assignment = replace(
            work,
            out=slot.folder / "found",
            corpora=self.corpora if first else (),
            seed=seed,
            seconds=self.slice_seconds if len(slot.rotation) > 1 else None,
            underway=slot.folder / "underway",
            suspects=tuple(slot.suspects),
        )
        slot.process = FuzzingProcess(
            assignment, slot.folder, self.stores[name].folder, keep=(self._lock,), launcher=self._launcher
        )

    def _bury(self, slot: Slot, process: FuzzingProcess) -> None:
        """See to what a process left that has ended, and to what comes next."""
        self._collect_from(slot, last=True)
        self._note_process(slot, process, "stopped" if self._ending else "done" if process.done else "lost")
        number = slot.comparison
        if process.report.stats is not None:
            self._past[number] += Stats.from_json(process.report.stats)
        slot.process = None
        if process.done:
            slot.turn += 1
            slot.losses = slot.barren = 0
        elif self._ending is None:
            if isinstance(process.failure, BadInput):
                raise process.failure
            self._lose(slot, process)
        shutil.rmtree(slot.folder)

    def _lose(self, slot: Slot, process: FuzzingProcess) -> None:
        """A process was lost: keep what it did, and decide how to go on."""
        details = self._why_lost = str(process.failure) if process.failure else process.obituary()
        lived = process.report.seconds
        slot.losses = 1 if lived > _SOUND else slot.losses + 1
        slot.barren = 0 if lived else slot.barren + 1
        wait = 0.0 if slot.losses == 1 else min(_LONGEST_WAIT, 2.0 ** (slot.losses - 2))
        slot.not_before = time.monotonic() + wait
        headline = details.partition(";")[0].partition("\n")[0]
        self._say(f"worker {slot.number}: the fuzzing process {headline}; another follows")
        data = underway_in(slot.folder / "underway")
        incident = self._note_incident(slot, f"the fuzzing process {headline}", details, data)
        if data is not None:
            self._suspect(slot, data, incident)
        if slot.barren >= _BARREN:
            raise ToolFailure(f"{_BARREN} fuzzing processes in a row ended before their first program:\n{details}")

    def _suspect(self, slot: Slot, data: bytes, incident: int) -> None:
        self._strikes[data] += 1
        slot.suspects[data] = incident
        if self._strikes[data] < _STRIKES:
            return
        del slot.suspects[data]
        slot.barren = 0
        verdict = f"lost {_STRIKES} processes: a tool incident that happens again; no longer run"
        self.ledger.judge_incident(incident, verdict)
        name = self.configuration.stores[slot.comparison]
        path = self.stores[name].folder / name_of(data)
        if path.exists():
            self.place.incidents.mkdir(exist_ok=True)
            path.rename(self.place.incidents / path.name)
            self.ledger.forget_inputs(name, [path.name])
            self._counts[name] -= 1
        self._say(f"the program in incidents/{name_of(data)}.s2 {verdict}")

    def _hear_news(self, slot: Slot, message: dict[str, Any]) -> None:
        data = bytes.fromhex(message["input"])
        if message["event"] == "incident":
            self._say(f"worker {slot.number}: {message['what']}")
            incident = self._note_incident(slot, message["what"], message["what"], data)
            self.ledger.judge_incident(incident, "the program ran on the other one: a tool incident")
            return
        suspected = slot.suspects.pop(data, None)
        if suspected is not None:
            self._collect_findings(slot)
            verdict = "a finding" if message["found"] else "did not happen again: a tool incident"
            self.ledger.judge_incident(suspected, verdict)

    def _note_incident(self, slot: Slot, what: str, details: str, data: bytes | None) -> int:
        self._incidents += 1
        kept = None
        if data is not None:
            program = decode(data, self.stores[self.configuration.stores[slot.comparison]].dialect)
            kept = f"{name_of(data)}.s2"
            comment = "".join(f"# {line}\n" for line in [f"{what}; this was under way.", *details.splitlines()])
            self.place.incidents.mkdir(exist_ok=True)
            write_durably(
                self.place.incidents / kept, f"{comment}{format_program(program)}".encode(), self.place.scratch
            )
        return self.ledger.note_incident(self._now(), slot.number, what, details, kept)

    # What they leave

    def _collect(self) -> None:
        for slot in self.slots:
            if slot.process is not None:
                self._collect_from(slot)

    def _collect_from(self, slot: Slot, last: bool = False) -> None:
        """Record new inputs and findings. What is not whole is still being written, or, at the `last`, damaged."""
        name = self.configuration.stores[slot.comparison]
        fresh: list[bytes] = []
        for one in sorted(set(os.listdir(slot.folder / "corpus")) - slot.collected):
            path = slot.folder / "corpus" / one
            try:
                data = read_input(path)
            except FileNotFoundError:  # libFuzzer found a shorter one for it
                continue
            if name_of(data) == path.name:
                slot.collected.add(path.name)
                fresh.append(data)
            elif last:
                self._note_incident(slot, "a damaged file in a spool", f"{shown(path.name)}: {len(data)} bytes", None)
                self._say(f"worker {slot.number}: {shown(path.name)} in its spool is damaged, and left out")
        self._kept_inputs(name, self.stores[name].add(fresh), slot.number)
        self._collect_findings(slot)

    def _kept_inputs(self, name: str, kept: list[str], finder: int | None) -> None:
        """Inputs were recorded: whoever else can run them gets them."""
        self.ledger.note_inputs(name, kept, self._now(), finder)
        self._unmeasured.extend((name, one) for one in kept)
        self._counts[name] += len(kept)
        for slot in self.slots:
            others = slot.number != finder and self.configuration.stores[slot.comparison] == name
            if slot.process is not None and others:
                for one in kept:
                    slot.process.capabilities(self.stores[name].read(one))

    def _collect_findings(self, slot: Slot) -> None:
        for finding in self._findings.take(slot.folder / "found"):
            self._note_finding(finding, slot.number)

    def _note_finding(self, finding: Finding, finder: int | None) -> None:
        number, bucket = self._findings.key(finding)
        flaky, ops = self._findings.is_flaky(finding), len(finding.program.ops)
        self.ledger.note_finding(finding.directory, number, bucket, finding.kind, flaky, ops, self._now(), finder)

    def _measure(self, seconds: float) -> None:
        """Follow the model through inputs that were kept, for so long."""
        until = time.monotonic() + seconds
        while self._unmeasured and time.monotonic() < until:
            name, one = self._unmeasured.popleft()
            work = self.configuration.work[self.configuration.stores.index(name)]
            try:
                program = self.stores[name].program(one)
            except FileNotFoundError:
                continue
            before = self._lines.missing()
            self._lines.be_patient()
            self._lines.run(Model(model_of(work.sides)), [program])
            self.ledger.note_model_lines(name, one, before - self._lines.missing(), self._now())

    # What is known

    def _now(self) -> float:
        """Seconds of campaign, this run's included."""
        return round(self._before + time.monotonic() - self._started, 3)

    def _record(self, ended: str | None = None) -> None:
        """Have the ledger know how far everything has come."""
        now = self._now()
        self.ledger.note_run(self._run, round(now - self._before, 3), ended)
        for slot in self.slots:
            if slot.process is not None:
                self._note_process(slot, slot.process, None)
        for key, (reached, of) in self._coverage.items():
            self.ledger.note_coverage(*key, reached, of)
        for number in range(len(self.configuration.work)):
            edges = [
                {"image": image, "of": of, "reached": reached.bit_count(), "side": side}
                for (image, side), (reached, of) in sorted(self._coverage.items())
                if (image, side) in self._images.get(number, ())
            ]
            self.ledger.sample(
                now,
                number,
                self._executions(number),
                round(self._rate(), 2),
                self._counts[self.configuration.stores[number]],
                edges,
                (self._lines.reached, self._lines.total),
                sum(which == number for which, _ in self._findings.buckets),
            )

    def _note_process(self, slot: Slot, process: FuzzingProcess, ended: str | None) -> None:
        report = process.report
        if report.stats is not None:
            stats = Stats.from_json(report.stats)
            self.ledger.note_process(
                slot.row, report.seconds, stats, report.boots, report.features, report.identities, ended
            )
        for side, edges in enumerate(report.edges):
            key = (str(edges["image"]), side)
            before, _ = self._coverage.get(key, (0, 0))
            self._coverage[key] = (before | int(edges["reached"], 16), edges["of"])
            self._images.setdefault(slot.comparison, set()).add(key)

    def _executions(self, number: int) -> int:
        """Of a comparison, ever."""
        present: list[int] = [
            slot.process.report.stats["executions"]
            for slot in self.slots
            if slot.process is not None and slot.comparison == number and slot.process.report.stats is not None
        ]
        return self._past[number].executions + sum(present)

    def _programs(self) -> int:
        """All that were ever run, those of the corpora among them."""
        present = [slot.process.report.stats for slot in self.slots if slot.process is not None]
        tallies = [*self._past, *(Stats.from_json(stats) for stats in present if stats is not None)]
        return sum(stats.executions + stats.replayed for stats in tallies)

    def _has_run(self) -> bool:
        """Whether this run has run any program."""
        return self._programs() > self._programs_before

    def _all_executions(self) -> int:
        return sum(self._executions(number) for number in range(len(self._past)))

    def _rate(self) -> float:
        if len(self._rates) < 2:
            return 0.0
        (began, before), (ended, after) = self._rates[0], self._rates[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    def state(self) -> State:
        """As of now."""
        now = time.monotonic()
        known = self.place.known_buckets()
        return State(
            at=self._now(),
            seconds=now - self._started,
            left=None if self.seconds is None else max(0.0, self._started + self.seconds - now),
            executions=self._all_executions(),
            rate=self._rate(),
            inputs=self._counts.total(),
            edges=tuple((reached.bit_count(), of) for _, (reached, of) in sorted(self._coverage.items())),
            model_lines=(self._lines.reached, self._lines.total),
            buckets=len(self._findings.buckets),
            known=sum(bucket in known for _, bucket in self._findings.buckets),
            flaky=len(self._findings.flaky),
            incidents=self._incidents,
            minimising=self._minimiser.waiting,
            slots=tuple(self._slot_state(slot, now) for slot in self.slots),
        )

    def _slot_state(self, slot: Slot, now: float) -> SlotState:
        left, right = self.configuration.work[slot.comparison].sides
        what = f"{left.name} {right.name} {self.configuration.work[slot.comparison].granule}"
        process = slot.process
        if process is None:
            wait = max(0.0, slot.not_before - now)
            return SlotState(slot.number, what, "ended" if self._ending else f"waits {wait:.0f} s", 0, 0.0)
        report = process.report
        silent = now - process.heard
        health = f"silent {silent:.0f} s" if silent > 15 else "fuzzing" if report.seconds else "starting"
        executions = 0 if report.stats is None else report.stats["executions"]
        return SlotState(slot.number, what, "stopping" if self._ending else health, executions, report.seconds)

    def _outcome(self) -> Outcome:
        known = self.place.known_buckets()
        findings: dict[str, list[Path]] = {}
        for finding in sorted(self._findings.confirmed(), key=lambda one: len(one.program.ops)):
            if finding.bucket not in known:
                findings.setdefault(finding.bucket, []).append(finding.directory)
        return Outcome(self._ending or ON_TIME, self.state(), findings)


def _is_full(error: OSError | sqlite3.Error) -> bool:
    """Whether the disk is full, or one's share of it."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
