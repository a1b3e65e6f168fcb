"""The steps of every family of operations, collected from the modules of this folder."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from fuzz.generate.step import Step

_FAMILIES: Final = [import_module(f"{__name__}.{module.name}") for module in iter_modules(__path__)]
STEPS: Final = {one.name: one for family in _FAMILIES for one in vars(family).values() if isinstance(one, Step)}
"""Every step by its name."""
