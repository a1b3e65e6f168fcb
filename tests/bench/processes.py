"""What /proc tells of a process: its children, CPU time and memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
QEMU: Final = "qemu-system-aar"
"""As the kernel cuts the command's name."""


def _stat(pid: int) -> tuple[str, list[str]]:
    """The command's name, and the fields from the third on. Raises OSError when it has ended."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 2 :].split()


def cpu_seconds(pid: int) -> float:
    """CPU time so far, all threads, user and system. Raises OSError."""
    fields = _stat(pid)[1]
    return (int(fields[11]) + int(fields[12])) / _TICK


def descendants(pid: int) -> Iterator[tuple[int, str]]:
    """(pid, command name) of every process below `pid`."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            name, fields = _stat(int(entry.name))
        except OSError:
            continue  # it ended between the listing and the reading
        if int(fields[1]) == pid:
            yield int(entry.name), name
            yield from descendants(int(entry.name))


def resident_mb(pid: int) -> float:
    """Resident memory, what it shares with others included. Raises OSError."""
    return _kilobytes(Path(f"/proc/{pid}/status"), "VmRSS:") / 1024


def proportional_mb(pid: int) -> float:
    """The same, with what several processes share divided among them. Raises OSError."""
    return _kilobytes(Path(f"/proc/{pid}/smaps_rollup"), "Pss:") / 1024


def _kilobytes(path: Path, field: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1])
    raise ProcessLookupError(f"{path} has no {field}")  # of a process that is ending
