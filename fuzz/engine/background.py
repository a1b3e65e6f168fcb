"""Compiling behind a run: in a process of its own, which leaves the CPU to the fuzzing and ends with the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from fuzz.engine import compiling
from harness.errors import ToolFailure
from harness.outside import printable
from harness.parent_death import die_with
from reference.build.progress import HowFar

_COMMAND: Final = "from fuzz.engine.background import run; run({parent})"
_NICENESS: Final = 5
_ROOT: Final = Path(__file__).resolve().parents[2]


class Compiling:
    """The compiled modules of a run: there already, or made while it goes on. Raises CannotCompile."""

    def __init__(self) -> None:
        self.folder: Path | None = compiling.in_cache()
        """Where they are, once they are there."""
        self.is_news = self.folder is None
        """Whether they were not there when it began."""
        self.state = ""
        """How far it is, in a few words; empty when there is nothing to do, or nothing more."""
        self._child: subprocess.Popen[bytes] | None = None
        self._said = bytearray()
        self._last_words = bytearray()
        if self.folder is None:
            self._start()

    def _start(self) -> None:
        self.state = "compiling"
        python_path = os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._child = subprocess.Popen(
            [sys.executable, "-P", "-c", _COMMAND.format(parent=os.getpid())],
            env={**os.environ, "PYTHONPATH": python_path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        for stream in (self._child.stdout, self._child.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def attend(self) -> list[str]:
        """To be called now and then: what there is to say, a line each."""
        if self._child is None:
            return []
        assert self._child.stdout is not None and self._child.stderr is not None
        ended = self._child.poll() is not None  # asked first: what it said before is then there
        self._said += self._child.stdout.read() or b""
        self._last_words += self._child.stderr.read() or b""
        *whole, rest = self._said.split(b"\n")
        self._said[:] = rest
        lines = [line for one in whole if (line := self._hear(json.loads(one))) is not None]
        if ended:
            if self.folder is None and self.state:
                lines.append(self._failed(printable(self._last_words.decode(errors="replace"))[-1000:]))
            self.close()
        return lines

    def _hear(self, said: dict[str, Any]) -> str | None:
        if "how_far" in said:
            self.state = said["how_far"]
            return None
        if "made" in said:
            self.folder = compiling.in_cache(said["made"])
            if self.folder is None:
                return self._failed("what was compiled has gone from the cache")
            self.state = ""
            return "the model and its driver are compiled"
        if "failure" in said:
            return self._failed(said["failure"])
        return f"in the background: {said['step']}"

    def _failed(self, why: str) -> str:
        self.state = ""
        return f"the model runs as it is, more slowly than compiled: {why}"

    def close(self) -> None:
        """End it, with all that it has started. What it has compiled so far is kept for the next run."""
        if self._child is None:
            return
        if self._child.poll() is None:
            os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()
        self._child = None
        self.state = ""


def run(parent: int) -> None:
    """The process: compiles, and says on stdout how it goes. It does not outlive `parent`, and nor do the compilers
    that it starts."""
    signal.signal(signal.SIGTERM, _end_group)
    die_with(parent, signal.SIGTERM)
    os.nice(_NICENESS)
    try:
        _say(made=compiling.compiled(_tell).name)
    except (ToolFailure, OSError) as error:
        _say(failure=str(error))


def _end_group(_number: int, _frame: Any) -> NoReturn:
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("it has ended")


def _tell(step: str) -> None:
    _say(**{"how_far" if isinstance(step, HowFar) else "step": step})


def _say(**what: Any) -> None:
    print(json.dumps(what), flush=True)
