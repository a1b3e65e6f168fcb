"""What happens to every input in the fuzzing process: decode, judge, count, file.

Nothing here imports Atheris. The worker's parent reads its messages (fuzz/engine/messages.py) from a pipe, and ends
it by closing the other one.
"""

from __future__ import annotations

import os
import pickle
import select
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NoReturn

from fuzz.coverage.joint import JointCoverage
from fuzz.engine.assignment import KEPT_PER_BUCKET, Assignment
from fuzz.engine.in_flight import InFlight
from fuzz.engine.messages import (
    Edges,
    Failed,
    Found,
    Given,
    GoOver,
    LostKernel,
    Message,
    ProcessState,
    Retried,
    WentOver,
    order_from_line,
    to_line,
)
from fuzz.engine.stats import Stats
from fuzz.sides import Side
from fuzz.triage.filed import Filed
from fuzz.triage.filing import Filer
from fuzz.triage.telling import telling_variant
from harness.errors import BadInput, CannotRun, ToolFailure
from harness.full_disk import explained
from harness.model.executor import Model
from harness.observation.execution import Feedback
from harness.observation.executor import Executor, TargetDied
from harness.outside import program_files
from harness.program.codec import decode, dialect_for
from harness.program.granule import granule_named
from harness.program.program import Program
from harness.program.text import format_program, read
from harness.verdict.judge import Judge
from harness.verdict.verdicts import FirstLook, Inconclusive, Suspicion, Unconfirmed, Verdict
from reference.link.executor import Reference
from reference.probe.coverage import Registration

_MESSAGE_INTERVAL: Final = 0.25

Handover = dict[str, Any]
"""What a worker leaves to the one that takes its place in the same process: plain data, and what has to stay where it
is in memory. Nothing of it is an object of ours, whose class may be a compiled one then. Its keys are those that
`Worker.hand_over` writes."""


class Worker:
    """One fuzzing process's work. `run_one` is the target; `leave` is how the process ends. `executors` are the
    assignment's sides where they need not be opened, and `found` is what to do with a finding, its bucket and its
    report, instead of filing it; what is flaky is then only said."""

    def __init__(
        self,
        assignment: Assignment,
        leave: Callable[[int], NoReturn] = os._exit,
        executors: tuple[Executor, Executor] | None = None,
        found: Callable[[str, str], NoReturn] | None = None,
    ) -> None:
        self.assignment = assignment
        self.stats = Stats()
        self._leave = leave
        self.granule = granule_named(assignment.granule)
        self._found = found
        if executors is None:
            right = assignment.sides[1].open_for(self.granule)
            executors = (right if assignment.is_alone else assignment.sides[0].open_for(self.granule), right)
        left, right = self.executors = executors
        self.judge = Judge(left, right, assignment.tiers, assignment.judging)
        self.dialect = dialect_for(left.capabilities & right.capabilities, self.granule)
        """In which inputs are read: what both sides can run."""
        origin = {"seed": assignment.seed}
        self.filer = Filer(assignment.out, assignment.sides, self.executors, origin, assignment.tiers)
        self.coverage = [
            side.coverage()
            for side in dict.fromkeys(self.executors)
            if isinstance(side, Reference) and side.image.has_counters
        ]
        """Of every kernel among the sides that counts."""
        self.joint = [JointCoverage()] if any(side.gives_feedback for side in self.executors) else []
        self.diverging: set[int] = set()
        """Hashes of the generated inputs on which the sides differed: nothing is bred from them."""
        self._confirmed: dict[str, str] = {}
        """From what was seen to the bucket that it was confirmed as; how many of a bucket were filed."""
        self._filed: Counter[str] = Counter(assignment.filed)
        self._flaky: Counter[str] = Counter()
        """How often something was seen that did not happen every time."""
        self.inbox: deque[bytes] = deque()
        """Inputs that other processes found, to be run soon."""
        self.compiled: Path | None = None
        """Where compiled modules lie, once it was told to go over to them."""
        self._heard = bytearray()
        self._told_to_stop = False
        self._turns = 0
        """How often it was told to begin, and has not begun yet."""
        self._has_begun = False
        self._in_flight = None if assignment.in_flight is None else InFlight(assignment.in_flight)
        self._kernels = [side for side in dict.fromkeys(self.executors) if isinstance(side, Reference)]
        self._lost = 0
        self._started: float | None = None
        self._last_message = 0.0
        self._inputs = None if assignment.inputs is None else assignment.inputs.open("w")
        if assignment.control is not None:
            os.set_blocking(assignment.control, False)

    def hand_over(self) -> Handover:
        """End here, between two executions, and have `Worker.in_place_of` go on: then nothing is lost, and what is
        generated is the same as if nothing had happened."""
        for side in self.executors:
            side.close()
        images = [kernel.image for kernel in self._kernels]
        return {
            "assignment": pickle.dumps((replace(self.assignment, compiled=self.compiled), images)),
            "boots": [kernel.boots for kernel in self._kernels],
            "calls": [side.known_calls for side in self.executors if isinstance(side, Model)],
            "confirmed": self._confirmed,
            "diverging": self.diverging,
            "filed": [one.to_json() for one in self.filer.filed],
            "filed_of": self._filed,
            "flaky": self._flaky,
            "heard": self._heard,
            "inbox": self.inbox,
            "inputs": self._inputs,
            "joint": [joint.memory for joint in self.joint],
            "lost": [kernel.lost for kernel in self._kernels],
            "memory": [kernel.memory for kernel in self._kernels],
            "taken": [hosted.taken for hosted in self.coverage],
            "started": self._started,
            "stats": self.stats.to_json(),
            "told_to_stop": self._told_to_stop,
        }

    @classmethod
    def in_place_of(cls, left: Handover) -> Worker:
        """The worker that goes on where another one `left` off. Its counters are registered already. Raises as the
        sides do when they are opened."""
        assignment, images = pickle.loads(left["assignment"])
        kernels = iter(zip(images, left["memory"], strict=True))
        granule = granule_named(assignment.granule)

        def open_side(side: Side) -> Executor:
            opened = side.open_for(granule)
            if not isinstance(opened, Reference):
                return opened
            image, memory = next(kernels)
            return Reference.in_place_of(image, side.full_name, memory)

        one, other = assignment.sides
        first = open_side(one)
        executors = first, first if assignment.is_alone else open_side(other)
        worker = cls(replace(assignment, inputs=None), executors=executors)
        worker._take_over(left)
        return worker

    def _take_over(self, left: Handover) -> None:
        for kernel, boots, lost in zip(self._kernels, left["boots"], left["lost"], strict=True):
            kernel.boots, kernel.lost = max(0, boots - 1), lost  # the boot that is to come is none of a restart
        self._lost = sum(left["lost"])
        models = [side for side in self.executors if isinstance(side, Model)]
        for model, calls in zip(models, left["calls"], strict=True):
            model.take_over(calls)
        for hosted, taken in zip(self.coverage, left["taken"], strict=True):
            hosted.taken = taken
        self.joint = [JointCoverage(memory) for memory in left["joint"]]
        self.stats = Stats.from_json(left["stats"])
        self.filer.filed += map(Filed.from_json, left["filed"])
        self.diverging, self.inbox = left["diverging"], left["inbox"]
        self._confirmed, self._filed, self._flaky = left["confirmed"], left["filed_of"], left["flaky"]
        self._heard, self._told_to_stop = left["heard"], left["told_to_stop"]
        self._inputs, self._started = left["inputs"], left["started"]
        self._say(WentOver(self.stats.executions))

    def registrations(self) -> list[Registration]:
        """The counters that steer besides Atheris' own, which are the model's where it was instrumented."""
        kernels = self.coverage if self.assignment.guidance in ("kernel", "both") else []
        return [kernel.registration() for kernel in kernels] + [joint.registration() for joint in self.joint]

    def await_turn(self) -> None:
        """Where it is held, go on when it is told to begin; from the second time on it says that it waits. Ends the
        process when it is told to stop instead."""
        control = self.assignment.control
        if not self.assignment.held or control is None:
            return
        if self._was_told_to_stop():
            self.finish()
        if self._has_begun and not self._turns:
            self._say(self._state(done=False, waits=True))
        while not self._turns:
            select.select([control], [], [])
            if self._was_told_to_stop():
                self.finish()
        self._turns -= 1
        self._has_begun = True

    def retry_suspects(self) -> None:
        """Run them, and say of each that it has run, and whether the sides differed."""
        for data in self.assignment.suspects:
            if self._in_flight is not None:
                self._in_flight.note(data)
            program = self._with_budget(decode(data, self.dialect))
            look, found = self._run(program)
            if self.judge.wants_hardware(program, look, is_new=True):
                found = self._ask_hardware(program)
            self._say(Retried(data, found))

    def replay_corpora(self) -> None:
        """Run every program of the corpora that is for this granule, in order of their names. One that a side cannot
        run is skipped. Ends the process where it is to generate none, when it is told to stop, and when hangs have
        taken all of its time. Where it is held, it awaits its turn first, if there are any."""
        if self.assignment.corpora:
            self.await_turn()
        for folder in self.assignment.corpora:
            files = program_files(folder)
            for number, path in enumerate(files, start=1):
                program = self._with_budget(read(path))
                name = program.machine.granule.name
                if name != self.granule.name:
                    self.stats.other_granules[name] += 1
                    continue
                try:
                    look, found = self._run(program)
                    self._know(program, look, found)
                    if self.judge.wants_hardware(program, look, is_new=True):
                        found = self._ask_hardware(program)
                    self.stats.mended.update(self._mended(path, program))
                except BadInput as error:
                    self.stats.skipped += 1
                    self.stats.lacking[error.why if isinstance(error, CannotRun) else str(error)] += 1
                    continue
                self.stats.replayed += 1
                self.stats.granules[name] += 1
                self._report_progress()
                if self._is_late():
                    self.stats.unreplayed += len(files) - number
                if (found and not self.assignment.keep_going) or self._is_over():
                    self.finish()
        if self.assignment.executions == 0:
            self.finish()

    def run_one(self, data: bytes) -> None:
        """One generated input. Never raises for a divergence, which is filed, unless there is `found`. Ends the process
        when its work is done."""
        if self._started is None:
            self._started = time.monotonic() - self.stats.hang_seconds  # of the corpora
        program = self._with_budget(decode(data, self.dialect))
        if self.assignment.stages and program.machine["stage"] not in self.assignment.stages:
            return
        if self._in_flight is not None:
            self._in_flight.note(data)
        try:
            look, found = self._run(program)
            if (lost := sum([kernel.lost for kernel in self._kernels])) != self._lost:
                self._report_lost(lost, data)
            self.stats.count(program, look.feedback)
            is_new = self._steer(program, found, look.feedback)
            if self.judge.wants_hardware(program, look, is_new):
                found = self._ask_hardware_unseen(program, self.judge.is_chosen(program, is_new))
            if found:
                self._keep_from_breeding(data)
            if self._inputs is not None:
                self._inputs.write(f"{data.hex()}\n")
            self._report_progress()
        except ToolFailure as error:
            self.fail(str(error))
        except OSError as error:
            self.fail(f"{explained(error)}; the program under way was:\n{format_program(program)}")
        if (found and not self.assignment.keep_going) or self._is_done():
            self.finish()

    def finish(self) -> NoReturn:
        """Report the final state and end the process."""
        self._say(self._state(done=True))
        self._end(0)

    def fail(self, message: str, bad_input: bool = False) -> NoReturn:
        """Report that the tool failed, or that it was given bad input, and end the process."""
        self._say(Failed(bad_input, message))
        if self.assignment.messages is None:
            print(f"s2fuzz: {message}", file=sys.stderr, flush=True)
        self._end(3)

    def _with_budget(self, program: Program) -> Program:
        """The program with the run's least budget, if it has less."""
        least = self.assignment.budget
        if least is None or program.machine["budget"] >= least:
            return program
        return replace(program, machine=program.machine.replace("budget", least))

    def _ask_hardware(self, program: Program, is_chosen: bool = True) -> bool:
        """Whether something is found when the hardware judges a program, on which the sides agree so far: one that
        `is_chosen` in every way. Raises as executors do."""
        asked = self.judge.with_probes(program) if is_chosen else program
        look, found = self._run(asked, deeper=True, whole=program, promises=is_chosen)
        if look.judged is not None:
            self.stats.count_judged(look.judged, is_chosen)
        return found

    def _mended(self, path: Path, program: Program) -> list[str]:
        """What a program of corpora/violations shows no more, a line each."""
        try:
            return self.judge.mended(path, program)
        except TargetDied:  # which was found when it ran
            return []

    def _ask_hardware_unseen(self, program: Program, is_chosen: bool) -> bool:
        """The same, so that libFuzzer sees nothing of it; nor what was noted of the program, where something is
        found."""
        with ExitStack() as stack:
            for hosted in self.coverage:
                stack.enter_context(hosted.untouched())
            found = self._ask_hardware(program, is_chosen)
        if found:
            for joint in self.joint:
                joint.take()
        return found

    def _run(
        self, program: Program, deeper: bool = False, whole: Program | None = None, promises: bool = True
    ) -> tuple[FirstLook, bool]:
        """What a program showed at first, or, `deeper`, to the hardware and by what `promises` it breaks, and whether
        something was found. `whole` is the program without what was put at its end, where something was. Raises as
        executors do."""
        began = time.monotonic()
        look = self.judge.look_deeper(program, promises) if deeper else self.judge.look(program)
        found = self._judge(program, look, program if whole is None else whole)
        if isinstance(look.suspicion, Suspicion) and look.suspicion.sighting.kind == "hang":
            self.stats.hangs += 1
            self.stats.hang_seconds += time.monotonic() - began
        return look, found

    def _judge(self, program: Program, look: FirstLook, whole: Program) -> bool:
        """Whether something was found that may end the run. The first of a bucket are confirmed and filed, later ones
        only counted, so that one shallow bug does not take the run's time."""
        seen = look.suspicion
        if look.known:
            self.stats.known.update(look.known)
        if seen is None:
            return False
        if isinstance(seen, Inconclusive):
            self.stats.inconclusive += 1
            return False
        if self._flaky[seen.what] >= KEPT_PER_BUCKET:
            self.stats.unconfirmed += 1
            return False
        bucket = self._confirmed.get(seen.what)
        if bucket is None or self._filed[bucket] < KEPT_PER_BUCKET:
            try:
                verdict = self.judge.confirm(program, seen)
            except Unconfirmed as error:
                self.stats.unconfirmed += 1
                self._flaky[seen.what] += 1
                if self._found is None:
                    self.filer.file_flaky(program, error)
                else:
                    print(f"s2fuzz: not the same on every fresh kernel, so no finding: {error}", file=sys.stderr)
                return False
            bucket = self._confirmed[seen.what] = verdict.bucket
            if self._filed[bucket] < KEPT_PER_BUCKET:
                self._filed[bucket] += 1
                if verdict.record <= len(whole.ops):  # what stands behind has no part in it
                    program = whole
                program, verdict = self._more_telling(program, verdict)
                if self._found is not None:
                    report = self.filer.report(program, verdict)
                    if not self._is_shared(verdict):
                        self._found(bucket, report)
                    print(f"s2fuzz: no finding, as both sides do it: {report}", file=sys.stderr)
                    return False
                directory = self.filer.file(program, verdict)
                self._say(Found(str(directory), bucket))
        self.stats.buckets[bucket] += 1
        return not self._is_shared(seen.sighting)

    def _is_shared(self, verdict: Verdict) -> bool:
        """Whether a verdict is kept and told, but nothing that ends a run, for both sides do it alike."""
        return verdict.is_shared and not self.assignment.strict

    def _more_telling(self, program: Program, verdict: Verdict) -> tuple[Program, Verdict]:
        """A program of that bucket that shows what is wrong, and the verdict on it; the same where none is found."""
        better = telling_variant(program, verdict, self.judge)
        if better is None:
            return program, verdict
        variant, sighting = better
        try:
            confirmed = self.judge.confirm(variant, Suspicion(sighting.bucket, sighting))
        except Unconfirmed:
            return program, verdict
        return (variant, confirmed) if confirmed.bucket == verdict.bucket else (program, verdict)

    def _report_lost(self, lost: int, data: bytes) -> None:
        """A QEMU ended by itself, or spoke nonsense; the program has run again on another."""
        self._lost = lost
        self._say(LostKernel(data, "QEMU ended by itself; another one took over"))

    def _steer(self, program: Program, diverged: bool, feedback: Feedback | None) -> bool:
        """Show libFuzzer what the execution reached, and tell whether it is the first to reach some of it."""
        news = [hosted.note() for hosted in self.coverage]
        if not diverged and feedback is not None:
            news += [joint.note(program, feedback) for joint in self.joint]
        return any(news)

    def _know(self, program: Program, look: FirstLook, found: bool) -> None:
        """Count what a program of the corpora did as done: a generated one that does the same brings nothing new. Shows
        libFuzzer nothing."""
        if found or look.feedback is None:
            return
        for joint in self.joint:
            joint.note(program, look.feedback)
            joint.take()

    def _keep_from_breeding(self, data: bytes) -> None:
        """Show libFuzzer nothing of an execution that diverged, so that it does not keep it."""
        self.diverging.add(hash(data))
        for hosted in self.coverage:
            hosted.forget()

    def _is_done(self) -> bool:
        work = self.assignment
        if work.executions is not None and self.stats.executions >= work.executions:
            return True
        return self._is_over()

    def _is_over(self) -> bool:
        """Whether its time is up, or it was told to stop."""
        return self._is_late() or self._was_told_to_stop()

    def _is_late(self) -> bool:
        limit = self.assignment.seconds
        if self._started is None and self.assignment.corpora_seconds is not None:
            limit = self.assignment.corpora_seconds
        return limit is not None and self._seconds() >= limit

    def _seconds(self) -> float:
        """Since its first generated execution, and what hangs took before that."""
        return self.stats.hang_seconds if self._started is None else time.monotonic() - self._started

    def _was_told_to_stop(self) -> bool:
        """Listens to the parent: a line is an order; the end means stop."""
        if self.assignment.control is None or self._told_to_stop:
            return self._told_to_stop
        try:
            said = os.read(self.assignment.control, 65536)
        except BlockingIOError:
            return False
        self._told_to_stop = not said
        self._heard += said
        *lines, rest = self._heard.split(b"\n")
        self._heard[:] = rest
        for line in lines:
            order = order_from_line(bytes(line))
            if isinstance(order, Given):
                self.inbox.append(order.data)
            elif isinstance(order, GoOver):
                self.compiled = order.compiled
            else:
                self._turns += 1
                self._filed = Counter(order.filed)
        return self._told_to_stop

    def _report_progress(self) -> None:
        now = time.monotonic()
        if now - self._last_message >= _MESSAGE_INTERVAL:
            self._last_message = now
            self._say(self._state(done=False))

    def _state(self, done: bool, waits: bool = False) -> ProcessState:
        boots = sum(kernel.boots for kernel in self._kernels)
        return ProcessState(
            done,
            round(self._seconds(), 3),
            self.stats,
            tuple(self.filer.filed),
            tuple([dict(side.identity) for side in self.executors]),
            boots,
            tuple([Edges(hosted.image, hosted.edges, hosted.reached) for hosted in self.coverage]),
            self.joint[0].reached if self.joint else {},
            waits,
        )

    def _say(self, message: Message) -> None:
        if self.assignment.messages is not None:
            rest = to_line(message)
            while rest:  # a signal may end a write early, libFuzzer's timer for one
                rest = rest[os.write(self.assignment.messages, rest) :]

    def _end(self, status: int) -> NoReturn:
        for side in self.executors:
            side.close()
        if self._inputs is not None:
            self._inputs.close()
        self._leave(status)
