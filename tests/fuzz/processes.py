"""Running the installed command, and finding the processes it starts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

COMMAND = str(Path(sys.executable).with_name("s2fuzz"))
SMOKE = ("smoke", "--granule", "4k", "--no-compile")
"""Where the size of page does not matter: one process instead of three, and no compiling behind it."""


def s2fuzz(*arguments: str | Path, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The finished command."""
    return subprocess.run(
        [COMMAND, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def start(*arguments: str | Path, cwd: Path) -> subprocess.Popen[str]:
    """The command, running."""
    return subprocess.Popen(
        [COMMAND, *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """(pid, command name) of every process below `pid`."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text()
        except OSError:
            continue  # it ended between the listing and the reading
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()
        if int(rest[1]) == pid:
            child = int(entry.parent.name)
            yield child, name
            yield from descendants(child)


def await_descendant(pid: int, name: str, seconds: float = 120.0) -> int:
    """The pid of the first process below `pid` whose command name begins with `name`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for child, command in descendants(pid):
            if command.startswith(name):
                return child
        time.sleep(0.05)
    raise AssertionError(f"no {name} appeared below {pid}")


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def await_death(pids: list[int], seconds: float = 30.0) -> None:
    """Return once none of the processes runs; AssertionError if some still does after `seconds`."""
    deadline = time.monotonic() + seconds
    while any(map(is_alive, pids)):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in pids if is_alive(pid)]}"
        time.sleep(0.05)
