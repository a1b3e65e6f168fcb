"""Campaigns under test: started, watched, and what they have recorded."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from processes import descendants, start

from fuzz.corpus.store import name_of

PLAIN = ("--no-corpora", "--no-compile")
"""Nothing that takes time before the fuzzing."""
MODELS = ("--sides", "model:6.12,model:6.12")
"""Two sides without a QEMU: quick to start."""
QEMU = "qemu-system-aar"  # as far as /proc tells


def begin(directory: Path, *arguments: str | Path) -> subprocess.Popen[str]:
    """A campaign, running until it is stopped, with generated programs alone."""
    return start("campaign", directory, *PLAIN, *arguments, cwd=directory.parent)


def await_that(condition: Callable[[], object], run: subprocess.Popen[str] | None = None, seconds: float = 90) -> None:
    """Return once `condition` holds; AssertionError if it does not in time, or the run ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        if run is not None and run.poll() is not None:
            raise AssertionError((run.returncode, *run.communicate()))
        assert time.monotonic() < deadline, "it takes too long"
        time.sleep(0.02)


def recorded(directory: Path) -> set[Path]:
    """Every input that is recorded; AssertionError for one that does not hold what its name says."""
    paths = {path for folder in (directory / "corpus").glob("*/") for path in folder.iterdir()}
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # a shorter one took its place just now
            assert name_of(path.read_bytes()) == path.name
    return paths


def lost(directory: Path, before: set[Path]) -> set[Path]:
    """Of inputs that were recorded, those that are gone, and not because a shorter one took their place."""
    replaced = {name for (name,) in select(directory, "SELECT name FROM replaced")}
    return {path for path in before - recorded(directory) if path.name not in replaced}


def has_found(directory: Path, count: int) -> Callable[[], bool]:
    """Whether so many inputs are recorded that fuzzing processes found."""

    def found() -> bool:
        rows = select(directory, "SELECT count(*) FROM inputs WHERE slot IS NOT NULL")
        return bool(rows) and rows[0][0] >= count

    return found


def select(directory: Path, query: str) -> list[tuple[object, ...]]:
    """From the ledger; nothing where there is none as yet."""
    try:
        base = sqlite3.connect(f"file:{directory / 'ledger.sqlite'}?mode=ro", uri=True)
        try:
            return base.execute(query).fetchall()
        finally:
            base.close()
    except sqlite3.OperationalError:
        return []


def fuzzers(run: subprocess.Popen[str]) -> list[int]:
    """The fuzzing processes, by pid."""
    return [pid for pid, name in descendants(run.pid) if name.startswith("python")]


def qemus(run: subprocess.Popen[str]) -> list[int]:
    return [pid for pid, name in descendants(run.pid) if name.startswith(QEMU)]


def stop(run: subprocess.Popen[str]) -> tuple[str, str]:
    """Have it end in order; what it printed."""
    run.send_signal(2)
    stdout, stderr = run.communicate(timeout=90)
    assert run.returncode == 130, (run.returncode, stderr)
    return stdout, stderr
