"""Which lines of the model a set of programs reaches. Measured apart from fuzzing, which it would slow down."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pgtable
from harness.errors import BadInput
from harness.executor import TargetDied
from harness.model import Model
from harness.program import Program

_PATIENCE = 2000
"""Calls of a function that are followed without anything new before it is given up."""

_FOLDER = Path(pgtable.__file__).parent


def model_lines(programs: Iterable[tuple[Model, Program]]) -> tuple[int, int]:
    """(lines of the model's functions that the programs reach, each in its model, lines there are)."""
    missing = {code: {line for *_, line in code.co_lines() if line} - {code.co_firstlineno} for code in _functions()}
    total = len({(code.co_filename, line) for code, lines in missing.items() for line in lines})

    followed: Counter[CodeType] = Counter()

    def enter(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        # Following a function line by line is slow, so it ends when nothing is left to reach, or seems to be.
        code = frame.f_code
        if not missing.get(code) or followed[code] == _PATIENCE:
            return None
        followed[code] += 1
        return step

    def step(frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if event == "line" and frame.f_lineno in missing[frame.f_code]:
            missing[frame.f_code].discard(frame.f_lineno)
            followed[frame.f_code] = 0
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        for model, program in programs:
            try:
                model.start(program)
                model.finish()
            except (BadInput, TargetDied):
                continue  # the model of another kernel, or a planted bug in it; what it reached counts
    finally:
        sys.settrace(before)
    left = {(code.co_filename, line) for code, lines in missing.items() for line in lines}
    return total - len(left), total


def _functions() -> Iterator[CodeType]:
    """The code of every function in the package, found by compiling its files as they were imported."""
    for path in sorted(_FOLDER.glob("*.py")):
        todo = [compile(path.read_text(), str(path), "exec", dont_inherit=True)]
        while todo:
            inner = [constant for constant in todo.pop().co_consts if isinstance(constant, CodeType)]
            todo += inner
            yield from (code for code in inner if code.co_flags & inspect.CO_OPTIMIZED)  # not the bodies of classes
