"""Every operation has its half in the model, and nothing else does."""

from __future__ import annotations

import inspect

import pytest

from harness.model.ops import RUNNERS
from harness.program.definition import OpDef
from harness.program.ops import OPS


def test_each_definition_has_its_half_in_the_model() -> None:
    assert set(RUNNERS) == {op.name for op in OPS}


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_it_takes_the_arguments_of_its_definition(op: OpDef) -> None:
    run, *arguments = inspect.signature(RUNNERS[op.name]).parameters
    assert (run, arguments) == ("run", [arg.name for arg in op.args])
