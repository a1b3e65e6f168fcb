"""The model's half of each op, a module per family, as in `harness.program.ops`: a module's public functions are its
ops. A function takes the run and the op's arguments, appends the op's values to `run.outs`, and returns its result."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Final


def _functions(family: ModuleType) -> Iterator[tuple[str, Callable[..., int]]]:
    for name, value in vars(family).items():
        if not name.startswith("_") and not isinstance(value, type) and callable(value):
            function: Any = value
            if function.__module__ == family.__name__:
                yield name, function


RUNNERS: Final[dict[str, Callable[..., int]]] = {
    name: function
    for family in pkgutil.iter_modules(__path__, __name__ + ".")
    for name, function in _functions(importlib.import_module(family.name))
}
"""By the ops' names."""
