"""What pages quote of a program's output: lines that follow each other, but for `…`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.findings.report import observation_text
from harness.observation.executor import Executor
from harness.program.text import read

GAP = "…"


def missing(quoted: Sequence[str], shown: Sequence[str]) -> str | None:
    """The first quoted line that is not where it is said to be. Lines follow each other, but for `…`."""
    at, anywhere = 0, True
    for line in quoted:
        if line == GAP:
            anywhere = True
            continue
        if anywhere:
            at = next((index for index in range(at, len(shown)) if shown[index] == line), len(shown))
        if at == len(shown) or shown[at] != line:
            return line
        at, anywhere = at + 1, False
    return None


def shown_by(executor: Executor, path: Path) -> list[str]:
    """What `s2fuzz show --events` prints, without indentation and the numbers of ops."""
    program = read(path)
    text = observation_text(program, executor.observe(program), events=True)
    return [re.sub(r"^ *(\d{1,3} (?=[a-z]))?", "", line) for line in text.splitlines()]
