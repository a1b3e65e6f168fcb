"""Lines that repeat, of which the first and the last say all: those between differ by the same steps each time.

What is left out follows from what is shown. A line that breaks a pattern, in a word or by another step, ends it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from harness.amounts import counted, number

_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\b[0-9]+\b")
_SPACES: Final = re.compile(r" +")
_MARK: Final = re.compile(r"[ !+-]*")
"""What a line begins with that says whose it is."""
_LONGEST: Final = 16
"""Lines of what repeats, at most."""
_LEAST: Final = 3
"""Lines that must go for it to be worth a line that says so."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A line's words without its numbers, and these."""

    words: str
    numbers: tuple[int, ...]
    is_hex: tuple[bool, ...]


def _read(line: str) -> _Line:
    found = _NUMBER.findall(line)
    is_hex = tuple(one.startswith("0x") for one in found)
    words = _SPACES.sub(" ", _NUMBER.sub("#", line))
    return _Line(
        words, tuple(int(one, 16 if digits else 10) for one, digits in zip(found, is_hex, strict=True)), is_hex
    )


def fold(lines: Sequence[str]) -> list[str]:
    """The lines; of a run that repeats with constant steps, the first, how many more with which steps, and the last."""
    read = [_read(line) for line in lines]
    folded: list[str] = []
    at = 0
    while at < len(lines):
        period, times = _run(read, at)
        if (times - 2) * period < _LEAST:
            folded.append(lines[at])
            at += 1
            continue
        first, end = lines[at : at + period], at + times * period
        folded += [*first, _between(read, at, period, times - 2, first), *lines[end - period : end]]
        at = end
    return folded


def _run(read: Sequence[_Line], at: int) -> tuple[int, int]:
    """How many lines from there on repeat, and how often they are there: those that leave most out, and the fewest of
    these."""
    found = [(period, _times(read, at, period)) for period in range(1, min(_LONGEST, (len(read) - at) // 3) + 1)]
    return max(found, key=lambda one: ((one[1] - 2) * one[0], -one[0]), default=(1, 1))


def _times(read: Sequence[_Line], at: int, period: int) -> int:
    """How often `period` lines are there, one after the other, with steps that stay the same."""
    steps = [_steps(read, at + offset, period) for offset in range(period)]
    if None in steps:
        return 1
    now = at + period
    while now + period < len(read) and _steps(read, now, period) == steps[(now - at) % period]:
        now += 1
    return (now - at) // period + 1


def _steps(read: Sequence[_Line], at: int, period: int) -> tuple[int, ...] | None:
    """By what each number of a line grows until the line so many on; None where that says something else."""
    here, there = read[at], read[at + period]
    if (here.words, here.is_hex) != (there.words, there.is_hex):
        return None
    return tuple(b - a for a, b in zip(here.numbers, there.numbers, strict=True))


def _between(read: Sequence[_Line], at: int, period: int, times: int, first: Sequence[str]) -> str:
    """What stands for the lines that are left out."""
    marks = {_mark(line) for line in first}
    steps: dict[str, None] = {}
    for offset in range(period):
        found = _steps(read, at + offset, period)
        assert found is not None
        for step, is_hex in zip(found, read[at + offset].is_hex, strict=True):
            if step:
                steps[f"{'-' if step < 0 else '+'}{abs(step):{'#x' if is_hex else 'd'}}"] = None
    what = f"{number(times)} more" if period == 1 else f"these {period} lines {counted(times, 'time')} more"
    how = f", each {' '.join(steps)}" if steps else ", the same"
    return f"{marks.pop() if len(marks) == 1 else '    '}… {what}{how}"


def _mark(line: str) -> str:
    match = _MARK.match(line)
    return match[0] if match else ""
