"""Minimises the findings of a campaign, one after another, each in a process of its own beside the fuzzing."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, NoReturn

from fuzz.triage.shrinking import shrink
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import load
from harness.full_disk import explained
from harness.outside import printable, shown
from harness.parent_death import die_with

_LIMIT: Final = 900.0
"""Seconds for one finding."""
_COMMAND: Final = "from fuzz.campaign.minimiser import minimise_alone; minimise_alone({parent}, {finding!r})"
_BAD_INPUT: Final = 2
_TOOL_FAILURE: Final = 3


def minimise_alone(parent: int, finding: str) -> NoReturn:
    """What the process does: its last line says what came of it, its status is 0, 2 for BadInput (it does not
    reproduce), or 3 where something failed. It does not outlive `parent`, and leaves the CPU to the fuzzing."""
    die_with(parent)
    os.nice(5)
    try:
        found = load(Path(finding))
        print(shrink(found, _print).summary(found))
        sys.exit(0)
    except (BadInput, ToolFailure, OSError) as error:
        _print(f"s2fuzz: {explained(error)}")
        sys.exit(_BAD_INPUT if isinstance(error, BadInput) else _TOOL_FAILURE)


def _print(text: str) -> None:
    print(text, flush=True)


class Minimiser:
    """Findings wait here to be minimised. `say` hears what came of each."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._waiting: deque[Path] = deque()
        self._present: tuple[Path, subprocess.Popen[bytes], float] | None = None
        self._said: IO[bytes] | None = None

    @property
    def waiting(self) -> int:
        """How many findings there are left, with the one under way."""
        return len(self._waiting) + (self._present is not None)

    def add(self, finding: Path) -> None:
        """Have a finding minimised."""
        self._waiting.append(finding)

    def attend(self) -> Path | None:
        """To be called now and then. A finding that has been minimised, when it has."""
        if self._present is None:
            if self._waiting:
                self._start(self._waiting.popleft())
            return None
        finding, child, began = self._present
        if child.poll() is None and time.monotonic() - began > _LIMIT:
            child.kill()
        status = child.poll()
        if status is None:
            return None
        assert self._said is not None
        self._said.seek(0)
        last = self._said.read().decode(errors="replace").splitlines()[-1:]
        self.close()
        said = f": {printable(last[0])}" if last else ""
        self._say(f"minimised{said}" if status == 0 else f"{shown(finding)}: not minimised (status {status}){said}")
        return finding if status == 0 else None

    def _start(self, finding: Path) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (kept open; a pipe could fill)
        child = subprocess.Popen(
            [sys.executable, "-c", _COMMAND.format(parent=os.getpid(), finding=str(finding))],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._present = (finding, child, time.monotonic())

    def close(self) -> None:
        """End what goes on; a finding is as it was until it is minimised."""
        if self._present is not None:
            _, child, _ = self._present
            if child.poll() is None:
                child.kill()
            child.wait()
            self._present = None
        if self._said is not None:
            self._said.close()
