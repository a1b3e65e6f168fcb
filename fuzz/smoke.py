"""A short fuzzing run: the parent of the fuzzing process. It keeps the clock, shows progress and sums up."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any, Final

from fuzz.corpus import first_inputs
from fuzz.model_coverage import model_lines
from fuzz.worker import Assignment
from harness.codec import decode
from harness.errors import BadInput, ToolFailure

LAUNCHER: Final = Path(__file__).with_name("stage2_fuzzer.py")

_GRACE: Final = 20.0
"""Seconds that the child has for its last program and its report, once it was told to stop or should have."""
_START_LIMIT: Final = 300.0
_LOG_KEPT: Final = 65536
_LONGEST_LINE: Final = 512
"""Of libFuzzer's log, as far as it is looked at: a line may come in two parts."""
_COVERAGE: Final = re.compile(rb"ft: (\d+) corp: (\d+)")


@dataclass(slots=True)
class Progress:
    """What is known of a run under way, or at its end."""

    seconds: float = 0.0
    tally: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, str]] = field(default_factory=list)
    identities: list[dict[str, str]] = field(default_factory=list)
    boots: int = 0
    edges: list[dict[str, int]] = field(default_factory=list)
    """Of every kernel: edges of the hosted file reached, and how many there are."""
    features: int = 0
    """libFuzzer's: edges by how often they are taken, of whatever steers."""
    corpus: int = 0
    """Inputs that libFuzzer keeps."""
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


class Interrupted(Exception):
    """The run was stopped by a signal; `progress` holds what it came to until then."""

    def __init__(self, progress: Progress) -> None:
        super().__init__("interrupted")
        self.progress = progress


def smoke(assignment: Assignment, show: Callable[[Progress], None]) -> Progress:
    """Run one fuzzing process to its end. `show` is called whenever there is something new to show.

    Raises Interrupted on SIGINT or SIGTERM, after an orderly stop; ToolFailure when the process fails, or cannot
    start because Atheris is missing.
    """
    if not atheris_available():
        raise ToolFailure(
            "fuzzing needs Atheris, which is not installed: pip install 's2fuzz[fuzz]' (x86-64, Python 3.11 to 3.13)"
        )
    with tempfile.TemporaryDirectory(prefix="s2fuzz-") as scratch:
        return _Run(assignment, Path(scratch), show).run()


class _Run:
    def __init__(self, assignment: Assignment, scratch: Path, show: Callable[[Progress], None]) -> None:
        self.assignment = assignment
        self.scratch = scratch
        self.show = show
        self.progress = Progress()
        self.done = False
        self.failure: Exception | None = None
        self.fuzzing_since: float | None = None
        self.stopping_since: float | None = None
        self.log = bytearray()

    def run(self) -> Progress:
        corpus = self.scratch / "corpus"
        first_inputs(corpus, self.assignment.seed)
        messages_in, messages_out = os.pipe()
        control_in, control_out = os.pipe()
        work = replace(self.assignment, messages=messages_out, control=control_in, parent=os.getpid())
        with self._signals(), self._child(work, corpus) as child:
            os.close(messages_out)
            os.close(control_in)
            try:
                self._attend(child, messages_in, control_out)
            finally:
                os.close(messages_in)
                if self.stopping_since is None:
                    os.close(control_out)
        self._settle(child)
        inputs = (decode(path.read_bytes()) for path in sorted(corpus.iterdir()))
        self.progress.model_lines = model_lines(inputs)
        if self.progress.interrupted:
            raise Interrupted(self.progress)
        return self.progress

    @contextlib.contextmanager
    def _child(self, work: Assignment, corpus: Path) -> Iterator[subprocess.Popen[bytes]]:
        command = [
            *(sys.executable, str(LAUNCHER)),
            *(f"-seed={self.assignment.seed % (1 << 32) or 1}", "-len_control=0", "-max_len=192", "-reload=0"),
            *("-timeout=120", "-rss_limit_mb=0", f"-artifact_prefix={self.scratch}/", str(corpus)),
        ]
        assert work.messages is not None and work.control is not None
        child = subprocess.Popen(
            command,
            env={**os.environ, "S2FUZZ_ASSIGNMENT": work.to_json()},
            pass_fds=(work.messages, work.control),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()
            child.wait()
            if child.stdout is not None:
                child.stdout.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self.progress.interrupted = True

        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _attend(self, child: subprocess.Popen[bytes], messages: int, control: int) -> None:
        """Read what the child says until it ends; stop it when its time is up or a signal came."""
        assert child.stdout is not None
        sources = {messages: bytearray(), child.stdout.fileno(): bytearray()}
        begun = time.monotonic()
        open_sources = set(sources)
        while open_sources:
            for source in select.select(sorted(open_sources), [], [], 0.1)[0]:
                data = os.read(source, 65536)
                if not data:
                    open_sources.discard(source)
                elif source == messages:
                    self._messages(sources[source], data)
                else:
                    self._log(data)
            self._watch(child, control, time.monotonic() - begun)

    def _watch(self, child: subprocess.Popen[bytes], control: int, age: float) -> None:
        limit = self.assignment.seconds
        fuzzing = None if self.fuzzing_since is None else time.monotonic() - self.fuzzing_since
        late = limit is not None and (age > limit + _START_LIMIT if fuzzing is None else fuzzing > limit + _GRACE)
        if self.stopping_since is None and (self.progress.interrupted or late):
            os.close(control)
            self.stopping_since = time.monotonic()
        if self.stopping_since is not None and time.monotonic() - self.stopping_since > _GRACE:
            child.kill()

    def _messages(self, buffer: bytearray, data: bytes) -> None:
        buffer += data
        *lines, rest = buffer.split(b"\n")
        buffer[:] = rest
        for line in lines:
            self._message(json.loads(line))
        self.show(self.progress)

    def _message(self, message: dict[str, Any]) -> None:
        if message["event"] == "failed":
            self.failure = (BadInput if message["bad_input"] else ToolFailure)(message["message"])
        elif message["event"] in ("progress", "done"):
            if self.fuzzing_since is None and message["seconds"]:
                self.fuzzing_since = time.monotonic()
            self.progress.seconds = message["seconds"]
            self.progress.tally = message["tally"]
            self.progress.findings = message["findings"]
            self.progress.identities = message["identities"]
            self.progress.boots = message["boots"]
            self.progress.edges = message["edges"]
            self.done = message["event"] == "done"

    def _log(self, data: bytes) -> None:
        self.log += data
        del self.log[:-_LOG_KEPT]
        found = _COVERAGE.findall(self.log, max(0, len(self.log) - len(data) - _LONGEST_LINE))
        if found:
            self.progress.features, self.progress.corpus = map(int, found[-1])

    def _settle(self, child: subprocess.Popen[bytes]) -> None:
        """Every way in which the child may have ended, other than being done, is a failure of the tool."""
        if self.done:
            return
        status = child.returncode
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        if self.failure is None and self.progress.interrupted:
            return
        tail = "\n".join(self.log.decode(errors="replace").splitlines()[-15:])
        raise self.failure or ToolFailure(f"the fuzzing process {how}; it said last:\n{tail}")
