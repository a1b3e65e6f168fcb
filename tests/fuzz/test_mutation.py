"""The mutator and the generator: deterministic, respectful of ops, and worth having."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz import mutation
from harness import codec
from harness.codec import BOUNDARY_CHOICES, decode, encode, layout
from harness.model import Model
from harness.ops import OPS


@given(st.binary(max_size=200))
def test_layout_covers_an_input_without_gaps(data: bytes) -> None:
    parts, at = layout(data), layout(data).header
    for definition, cuts in parts.ops:
        assert cuts[0] == at
        assert list(cuts) == sorted(cuts)
        assert len(cuts) == len(definition.args) + 2
        at = cuts[-1]
    assert at == len(data)
    assert [definition.name for definition, _ in parts.ops] == [op.name for op in decode(data).ops]


@given(st.binary(max_size=120), st.integers(0, 1 << 32))
def test_changes_are_deterministic_and_decode(data: bytes, seed: int) -> None:
    changed = mutation.mutate(data, Random(seed))
    assert changed == mutation.mutate(data, Random(seed))
    decode(changed)


@given(st.binary(min_size=20, max_size=120), st.integers(0, 1 << 32))
def test_dropping_and_moving_keep_the_other_ops(data: bytes, seed: int) -> None:
    before = Counter(op.name for op in decode(data).ops)
    dropped = Counter(op.name for op in decode(mutation._drop(data, Random(seed))).ops)
    assert sum((before - dropped).values()) <= 1
    assert not dropped - before


@given(st.binary(min_size=20, max_size=120), st.binary(min_size=20, max_size=120), st.integers(0, 1 << 32))
def test_crossover_joins_at_ops(first: bytes, second: bytes, seed: int) -> None:
    first, second = (encode(decode(one)) for one in (first, second))  # so that the last op of each is complete
    joined = decode(mutation.crossover(first, second, Random(seed)))
    names = [op.name for op in joined.ops]
    beginning, end = ([op.name for op in decode(one).ops] for one in (first, second))
    assert any(names == beginning[:i] + end[len(end) - (len(names) - i) :] for i in range(len(beginning) + 1))
    assert joined.machine == decode(first).machine


@pytest.mark.parametrize("seed", range(5))
def test_a_life_is_mostly_sensible(seed: int) -> None:
    """Most of its ops succeed, and among a few lives there are splits and merges."""
    model = Model()
    good = total = splits = merges = 0
    choice = Random(seed)
    for _ in range(40):
        model.start(decode(mutation.life(choice)))
        model.finish()
        good += sum(ret == 0 for ret in model.returns[1:])
        total += len(model.returns) - 1
        splits += model.shape.splits
        merges += model.shape.merges
    assert good / total > 0.7
    assert splits > 10
    assert merges > 10


def test_every_op_is_generated() -> None:
    choice = Random(1)
    made = Counter(op.name for _ in range(400) for op in decode(mutation.random_input(choice)).ops)
    assert set(made) == {op.name for op in OPS}


def test_a_life_survives_encoding() -> None:
    program = decode(mutation.life(Random(3)))
    assert decode(encode(program)).ops == program.ops


def test_boundary_choices_are_whole_arguments() -> None:
    for op in OPS:
        for index, arg in enumerate(op.args):
            for byte in BOUNDARY_CHOICES.get(arg.kind, ()):
                data = bytes((0, codec._FIRST_SELECTOR[op.number], *(0 for _ in range(40))))
                cuts = layout(data).ops[0][1]
                changed = data[: cuts[index + 1]] + bytes((byte,)) + bytes(20)
                new = layout(changed).ops[0][1]
                assert new[index + 2] - new[index + 1] == 1
