"""Which parameters of a test `make test` takes. `make test-all` takes them all: the others are marked `slow`.

A tuple is the values of several arguments, as it is for `parametrize`; of one that is a tuple itself, say pytest.param.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest


def first(count: int, parameters: Iterable[Any]) -> list[Any]:
    """The first `count`."""
    return _thinned(parameters, lambda number: number < count)


def every(step: int, parameters: Iterable[Any]) -> list[Any]:
    """One of each `step`, the first of them included."""
    return _thinned(parameters, lambda number: number % step == 0)


def _thinned(parameters: Iterable[Any], is_taken: Callable[[int], bool]) -> list[Any]:
    return [one if is_taken(number) else _slow(one) for number, one in enumerate(parameters)]


def _slow(one: Any) -> Any:
    # What pytest.param makes is a tuple of values, marks and an id.
    if hasattr(one, "marks"):
        return pytest.param(*one.values, marks=[*one.marks, pytest.mark.slow], id=one.id)
    return pytest.param(*(one if isinstance(one, tuple) else (one,)), marks=pytest.mark.slow)
