"""Which lines of the model a set of programs reaches. Measured apart from fuzzing, which it would slow down."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Self

import pgtable
from harness.errors import BadInput
from harness.model.executor import Model
from harness.observation.executor import TargetDied
from harness.program.program import Program

_PATIENCE = 2000
"""Calls of a function that are followed without anything new before it is given up."""

_FOLDER = Path(pgtable.__file__).parent


Line = tuple[str, int]
"""A file's name and a line in it."""


class ModelLines:
    """The lines of the model's functions, and which of them programs have reached; `patience` is how many calls of a
    function are followed without anything new before it is given up."""

    def __init__(self, patience: int = _PATIENCE) -> None:
        self.patience = patience
        self._missing = {
            code: {line for *_, line in code.co_lines() if line} - {code.co_firstlineno} for code in _functions()
        }
        self._followed: Counter[CodeType] = Counter()
        self.total = len({(code.co_filename, line) for code, lines in self._missing.items() for line in lines})

    @property
    def reached(self) -> int:
        """How many were."""
        return self.total - len(self.missing())

    def missing(self) -> set[Line]:
        """Those that no program has reached, by their file's name."""
        return {(Path(code.co_filename).name, line) for code, lines in self._missing.items() for line in lines}

    def know(self, lines: Iterable[Line]) -> None:
        """These were reached before."""
        known = set(lines)
        for code, missing in self._missing.items():
            name = Path(code.co_filename).name
            missing -= {line for line in missing if (name, line) in known}

    def be_patient(self) -> None:
        """Follow also what was given up."""
        self._followed.clear()

    def run(self, model: Model, programs: Iterable[Program]) -> None:
        """Run programs on the model, and look where they come."""
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            for program in programs:
                try:
                    model.start(program)
                    model.finish()
                except (BadInput, TargetDied):
                    continue  # the model of another kernel, or a planted bug in it; what it reached counts
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        # Following a function line by line is slow, so it ends when nothing is left to reach, or seems to be.
        code = frame.f_code
        if not self._missing.get(code) or self._followed[code] == self.patience:
            return None
        self._followed[code] += 1
        return self._step

    def _step(self, frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if event == "line" and frame.f_lineno in self._missing[frame.f_code]:
            self._missing[frame.f_code].discard(frame.f_lineno)
            self._followed[frame.f_code] = 0
        return self._step


class CountedBehind:
    """The lines of the model that programs reach, counted in a thread of its own. To be used as a context: what is not
    counted at its end is left."""

    def __init__(self) -> None:
        self._lines = ModelLines()
        self._thread = ThreadPoolExecutor(1, "model-lines")
        self._counting: list[Future[None]] = []
        self._is_over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        self._thread.shutdown(cancel_futures=True)

    def add(self, model: Model, programs: Iterable[Program]) -> None:
        """Count these too, as soon as those before are counted."""
        going_on = takewhile(lambda _: not self._is_over, programs)
        self._counting.append(self._thread.submit(self._lines.run, model, going_on))

    def result(self) -> tuple[int, int]:
        """(lines of the model's functions that the programs reached, each in its model, lines there are), once all are
        counted."""
        for counting in self._counting:
            counting.result()
        return self._lines.reached, self._lines.total


@contextmanager
def following() -> Iterator[set[Line]]:
    """A context that collects the lines of the model that are run in it; slowly."""
    names = _names()
    lines: set[Line] = set()

    def enter(frame: FrameType, _event: str, _argument: object) -> Callable[..., Any] | None:
        return step if frame.f_code in names else None

    def step(frame: FrameType, event: str, _argument: object) -> Callable[..., Any]:
        if event == "line":
            lines.add((names[frame.f_code], frame.f_lineno))
        return step

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        yield lines
    finally:
        sys.settrace(before)


def forget() -> None:
    """Empty the model's caches."""
    for cached in _caches():
        cached.cache_clear()


@functools.cache
def _caches() -> tuple[Any, ...]:
    wrapper = type(_names)
    return tuple(
        one for one in gc.get_objects() if isinstance(one, wrapper) and (one.__module__ or "").startswith("pgtable")
    )


@functools.cache
def _names() -> dict[CodeType, str]:
    return {code: Path(code.co_filename).name for code in _functions()}


def _functions() -> Iterator[CodeType]:
    """The code of every function in the package, found by compiling its files as they were imported."""
    for path in sorted(_FOLDER.glob("*.py")):
        todo = [compile(path.read_text(), str(path), "exec", dont_inherit=True)]
        while todo:
            inner = [constant for constant in todo.pop().co_consts if isinstance(constant, CodeType)]
            todo += inner
            yield from (code for code in inner if code.co_flags & inspect.CO_OPTIMIZED)  # not the bodies of classes
