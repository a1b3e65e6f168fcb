"""The hand-written programs, and which kernel can run which."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import BadInput
from harness.model.executor import MODELLED, Model
from harness.observation.executor import Executor
from harness.program.capabilities import Capabilities
from harness.program.program import Program
from harness.program.text import read

SEEDS = sorted((Path(__file__).parents[1] / "corpora" / "seeds").glob("*.s2"))


def refusal(side: Executor, program: Program) -> str | None:
    """What a side says that cannot run the program."""
    try:
        side.capabilities.check(program, side.name)
    except BadInput as error:
        return str(error)
    return None


def missing(capabilities: Capabilities, program: Program) -> bool:
    """Whether the program asks for more."""
    try:
        capabilities.check(program, "")
    except BadInput:
        return True
    return False


def runnable(*versions: str) -> list[Any]:
    """Parameters (path, version) for every seed on each of these versions (all, if none is named) that can run it."""
    models = [Model(version) for version in versions or MODELLED]
    return [
        pytest.param(path, model.version.name, id=f"{path.stem}-{model.version.name}")
        for path in SEEDS
        for model in models
        if refusal(model, read(path)) is None
    ]
