"""One fuzzing process, as its parent sees it: started, listened to, told to stop, and settled when it has ended."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fuzz.corpus.store import MAX_INPUT, check_codec
from fuzz.engine.assignment import Assignment
from fuzz.engine.first_inputs import first_inputs
from fuzz.engine.messages import (
    Begin,
    Failed,
    Given,
    GoOver,
    LostKernel,
    Message,
    ProcessState,
    Retried,
    WentOver,
    from_line,
    to_line,
)
from fuzz.sides import capabilities_of
from harness.errors import BadInput, ToolFailure
from harness.program.codec import decode, dialect_for
from harness.program.granule import granule_named
from harness.program.program import Program
from reference.link.console import printable
from reference.link.executor import INPUT_TIMEOUT

LAUNCHER: Final = Path(__file__).parents[1] / "stage2_fuzzer.py"

_GRACE: Final = 90.0
"""Seconds that the process has for its last program and its report, once it was told to stop or should have: a hang is
confirmed in that time, mostly."""
_START_LIMIT: Final = 300.0
_LOG_KEPT: Final = 65536
_LONGEST_LINE: Final = 512
"""Of libFuzzer's log, as far as it is looked at: a line may come in two parts."""
_COVERAGE: Final = re.compile(rb"ft: (\d+) corp: (\d+)")


def require_atheris() -> None:
    """Raise ToolFailure where the `fuzz` extra is not installed."""
    if importlib.util.find_spec("atheris") is None:
        raise ToolFailure(
            "fuzzing needs Atheris, which is not installed: pip install 's2fuzz[fuzz]' (x86-64, Python 3.11 to 3.13)"
        )


class FuzzingProcess:
    """A running fuzzing process. It keeps its inputs in `folder`/corpus. To be waited for by `sources` and `hear`.

    It starts from the inputs in `start_from`, or else from some that its seed makes. It inherits the file descriptors
    `keep`, and runs `launcher`. Where its assignment has it `held`, it has its turns when it is told to `begin`.
    """

    def __init__(
        self,
        assignment: Assignment,
        folder: Path,
        start_from: Path | None = None,
        keep: tuple[int, ...] = (),
        launcher: Path = LAUNCHER,
    ) -> None:
        self.assignment = assignment
        self.state: ProcessState | None = None
        """What it said last of how far it has come; None before it said anything."""
        self.features = 0
        """libFuzzer's: edges by how often they are taken, of whatever steers."""
        self.kept = 0
        """Inputs that libFuzzer keeps."""
        self.corpus = folder / "corpus"
        self._given: set[str] = set()
        """Names of the inputs that `newly_kept` has had."""
        self.done = False
        """Whether it said that it had finished what it was to do."""
        self.waits = False
        """Whether it has replayed the corpora, and waits for its turn to generate."""
        self._is_on = not assignment.held
        """Whether it is its turn."""
        self._failure: Exception | None = None
        self._begun = time.monotonic()
        self._fuzzing_since: float | None = None
        self._stopping_since: float | None = None
        self._told = self._begun
        """When it said last how far it was."""
        self._has_spoken = self._is_closed = self._dismissed = False
        self.heard = self._begun
        """When it last said anything, by the monotonic clock."""
        self.news: list[LostKernel | Retried | WentOver] = []
        """Of QEMUs that it lost, of suspects that it ran, of compiled modules; for its parent to take."""
        self._compiled = assignment.compiled
        self._to_say = bytearray()
        self._log = bytearray()
        self._said = bytearray()
        self.dialect = dialect_for(capabilities_of(assignment.sides), granule_named(assignment.granule))
        if start_from is None:
            first_inputs(self.corpus, assignment.seed, self.dialect)
        else:
            check_codec(self.corpus, self.dialect)
        self._messages, messages_out = os.pipe()
        control_in, self._control = os.pipe()
        os.set_blocking(self._control, False)
        work = replace(assignment, messages=messages_out, control=control_in, parent=os.getpid())
        command = [
            *(sys.executable, str(launcher)),
            *(f"-seed={assignment.seed % (1 << 32) or 1}", "-len_control=0", f"-max_len={MAX_INPUT}", "-reload=0"),
            *(f"-timeout={INPUT_TIMEOUT}", "-rss_limit_mb=0", f"-artifact_prefix={folder}/"),
            *(str(self.corpus), *(() if start_from is None else (str(start_from),))),
        ]
        try:
            self._child = subprocess.Popen(
                command,
                env={**os.environ, "S2FUZZ_ASSIGNMENT": work.to_json()},
                pass_fds=(messages_out, control_in, *keep),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            os.close(messages_out)
            os.close(control_in)
        assert self._child.stdout is not None
        self._output = self._child.stdout
        self._open = {self._messages, self._output.fileno()}

    @property
    def failed(self) -> bool:
        """Whether it said that it cannot go on, or ended without a word."""
        return self._failure is not None or (not self._open and not self.done and not self._dismissed)

    @property
    def seconds(self) -> float:
        """Since its first generated execution. The clock goes on while it is busy and says nothing."""
        if self.state is None:
            return 0.0
        goes_on = self._fuzzing_since is not None and not self.done and not self._is_closed
        return self.state.seconds + (time.monotonic() - self._told if goes_on else 0.0)

    @property
    def _limit(self) -> float | None:
        """Seconds that it may take from its first execution, or from the first hang among the corpora."""
        seconds = self.assignment.seconds
        return None if seconds is None else max(seconds, self.assignment.corpora_seconds or 0.0)

    @property
    def has_spoken(self) -> bool:
        """Whether it has said anything, which it does from its first program on."""
        return self._has_spoken

    @property
    def executions(self) -> int:
        """Programs that it generated and ran, as far as it has said."""
        return 0 if self.state is None else self.state.stats.executions

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._child.pid

    @property
    def sources(self) -> frozenset[int]:
        """File descriptors to wait for; none when the process has said its last."""
        return frozenset(self._open)

    def hear(self, source: int) -> bool:
        """Read one of the `sources`; whether it was a message."""
        data = os.read(source, 65536)
        self.heard = time.monotonic()
        if not data:
            self._open.discard(source)
        elif source == self._messages:
            self._said += data
            *lines, rest = self._said.split(b"\n")
            self._said[:] = rest
            for line in lines:
                self._message(from_line(bytes(line)))
            return bool(lines)
        else:
            self._read_log(data)
        return False

    def watch(self) -> None:
        """To be called now and then: stops the process when its time is up, kills it when it does not stop."""
        self._talk()
        now = time.monotonic()
        if self._fuzzing_since is None:
            late = now - self._begun > (self._limit or 0.0) + _START_LIMIT
        else:
            late = self._limit is not None and now - self._fuzzing_since > self._limit + _GRACE
        if late and self._is_on:
            self.stop()
        if self._stopping_since is not None and now - self._stopping_since > _GRACE:
            self._child.kill()

    def begin(self, filed: Mapping[str, int]) -> None:
        """It is its turn: to replay the corpora if there are any, and the next time to generate. `filed` is as in an
        assignment, of now."""
        self._is_on, self.waits = True, False
        self._begun = self.heard = time.monotonic()
        self._to_say += to_line(Begin(filed))
        self._talk()

    def give(self, data: bytes) -> None:
        """Give it an input that another process found; it runs it soon."""
        self._to_say += to_line(Given(data))

    def go_over(self, compiled: Path) -> None:
        """Have it go on with the compiled modules in that folder, unless it has some; more than once is the same."""
        if self._compiled is None:
            self._compiled = compiled
            self._to_say += to_line(GoOver(compiled))

    def _talk(self) -> None:
        if self._to_say and self._stopping_since is None:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it is busy, or dead, which will be found out
                del self._to_say[: os.write(self._control, self._to_say)]

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()

    def stop(self) -> None:
        """Tell it to end after the program under way; more than once is the same."""
        if self._stopping_since is None:
            os.close(self._control)
            self._stopping_since = time.monotonic()

    def dismiss(self) -> None:
        """As `stop`, but one that has nothing to tell is ended at once."""
        if self._stopping_since is None and not self._has_spoken and not self.failed:
            self._dismissed = True
            self._child.kill()
        self.stop()

    def close(self) -> None:
        """Kill it if it still runs, and release what it held here."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        self._is_closed = True
        self.stop()
        os.close(self._messages)
        self._output.close()

    def newly_kept(self, settled: float = 0.0) -> list[Program]:
        """What libFuzzer has kept since this was last asked, written at least `settled` seconds ago."""
        programs = []
        for path in sorted(self.corpus.iterdir()):
            with contextlib.suppress(FileNotFoundError):  # libFuzzer has put a shorter one in its place
                if path.name not in self._given and time.time() - path.stat().st_mtime >= settled:
                    programs.append(decode(path.read_bytes(), self.dialect))
                    self._given.add(path.name)
        return programs

    def settle(self, interrupted: bool) -> None:
        """Once it has ended and is closed: raise BadInput or ToolFailure unless it said that it was done. When the run
        was `interrupted` it need not have."""
        if self.done or (self._failure is None and (interrupted or self._dismissed)):
            return
        raise self._failure or ToolFailure(f"the fuzzing process {self.obituary()}")

    @property
    def failure(self) -> Exception | None:
        """BadInput or ToolFailure, where it said that it could not go on."""
        return self._failure

    def obituary(self) -> str:
        """How a process that is closed ended, and what it said last."""
        status = self._child.returncode
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        said = printable(bytes(self._log)).splitlines()[-15:]
        return "\n".join([f"{how}; it said last:", *said])

    def _message(self, message: Message) -> None:
        self._has_spoken = True
        if isinstance(message, Failed):
            self._failure = (BadInput if message.bad_input else ToolFailure)(message.message)
        elif isinstance(message, LostKernel | Retried | WentOver):
            self.news.append(message)
        elif isinstance(message, ProcessState):
            if self._fuzzing_since is None and message.seconds:
                self._fuzzing_since = time.monotonic()
            self.state, self.done, self._told = message, message.done, time.monotonic()
            if message.waits:
                self._is_on, self.waits, self._fuzzing_since = False, True, None

    def _read_log(self, data: bytes) -> None:
        self._log += data
        del self._log[:-_LOG_KEPT]
        found = _COVERAGE.findall(self._log, max(0, len(self._log) - len(data) - _LONGEST_LINE))
        if found:
            self.features, self.kept = map(int, found[-1])
