"""The mutator: deterministic, and respectful of ops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import machines

from fuzz.generate import mutation
from fuzz.generate.fresh import random_input
from fuzz.generate.handles import Handles
from fuzz.generate.scenario import vm_scenario, whole_block_scenario
from harness.model.executor import MODELLED, Model
from harness.program.codec import decode, dialect_for, encode, lengths
from harness.program.granule import GRANULES, Granule
from harness.program.kinds import Kind, Role
from harness.program.machine import USUAL_BUDGET, USUAL_POOL_PAGES, Machine
from harness.program.ops import STANDARD
from harness.program.parts import Parts, read_argument, split
from harness.program.space import space_of
from harness.program.text import parse

Change = Callable[[Parts, Handles, Random], None]

inputs = st.builds(
    lambda seed, stage: random_input(Random(seed), stage=stage), st.integers(0, 1 << 32), st.sampled_from((1, 2, 2))
)
"""Of random choices, mostly for stage 2."""
any_bytes = st.one_of(inputs, st.binary(max_size=200))


@given(any_bytes)
def test_parts_join_to_the_same_program(data: bytes) -> None:
    parts = split(data)
    program = decode(data)
    assert decode(parts.join()) == program
    assert split(parts.join()) == parts
    assert parts.machine == program.machine
    assert [parts.definition(op).name for op in parts.ops] == [op.name for op in program.ops]
    space = space_of(program.machine)
    for op, decoded in zip(parts.ops, program.ops, strict=True):
        assert len(op) == len(decoded.args) + 1
        address = 0
        for arg, part, value in zip(decoded.definition.args, op[1:], decoded.args, strict=True):
            if arg.kind.role is not Role.HANDLE:  # a program numbers these
                assert read_argument(arg.kind, part, space, address) == value
            if arg.kind.role is Role.ADDRESS:
                address = value


@pytest.mark.parametrize("kind", STANDARD.kinds, ids=lambda kind: kind.name)
@given(first=st.binary(min_size=9, max_size=9), machine=machines, ipa=st.integers(0, 1 << 52))
def test_the_size_of_an_argument_depends_on_its_first_byte_only(
    kind: Kind, first: bytes, machine: Machine, ipa: int
) -> None:
    size, space = lengths(kind)[first[0]], space_of(machine)
    assert read_argument(kind, first[:size], space, ipa) == read_argument(kind, first, space, ipa)


@given(any_bytes, st.integers(0, 1 << 32), st.sampled_from(GRANULES))
def test_changes_are_deterministic_and_decode(data: bytes, seed: int, granule: Granule) -> None:
    dialect = dialect_for(granule=granule)
    changed = mutation.mutate(data, Random(seed), dialect)
    assert changed == mutation.mutate(data, Random(seed), dialect)
    decode(changed, dialect)


@given(inputs, st.integers(0, 1 << 32))
def test_dropping_and_moving_keep_the_other_ops(data: bytes, seed: int) -> None:
    before = Counter(op.name for op in decode(data).ops)
    for change in (mutation._drop, mutation._move):
        parts = split(data)
        change(parts, Handles(parts), Random(seed))
        after = Counter(op.name for op in decode(parts.join()).ops)
        assert not after - before
        assert sum((before - after).values()) <= (mutation._MAX_RUN if change is mutation._drop else 0)


@given(inputs, inputs, st.integers(0, 1 << 32))
def test_crossover_takes_whole_ops_of_both(first: bytes, second: bytes, seed: int) -> None:
    one, other = split(first), split(second)
    assume(one.stage == other.stage)
    assume(not any(one.definition(op).handles for op in (*one.ops, *other.ops)))
    joined = split(mutation.crossover(first, second, Random(seed)))
    assert joined.header == one.header
    places = [(at, start) for at in range(len(one.ops) + 1) for start in range(len(other.ops) + 1)]
    ends = [one.ops[:at] + other.ops[start:] for at, start in places]
    runs = [
        one.ops[:at] + other.ops[start : start + count] + one.ops[at:]
        for at, start in places
        for count in range(1, mutation._MAX_RUN + 1)
    ]
    assert joined.ops in ends or joined.ops in runs


@pytest.mark.parametrize("change", mutation._CHANGES)
@given(data=inputs, seed=st.integers(0, 1 << 32))
def test_a_change_leaves_most_ops_as_they_are(change: Change, data: bytes, seed: int) -> None:
    parts = split(data)
    before = [b"".join(op) for op in parts.ops]
    change(parts, Handles(parts), Random(seed))
    after = [b"".join(op) for op in parts.ops]
    assert len(set(before) - set(after)) <= mutation._MAX_RUN
    assert abs(len(after) - len(before)) <= mutation._MAX_RUN
    decode(parts.join())


def test_sizes_grow_and_shrink_by_levels() -> None:
    block = encode(parse("s2 1\nunmap ipa=0x40000000 size=2M"))
    sizes = set()
    for seed in range(40):
        parts = split(block)
        mutation._resize(parts, Handles(parts), Random(seed))
        sizes.add(decode(parts.join()).ops[0].args[1])
    assert {4 << 10, 1 << 30, 2 << 20 | 4 << 10} <= sizes


@pytest.mark.parametrize("version", MODELLED)
@given(any_bytes, st.integers(0, 1 << 32))
def test_changes_ask_for_what_is_on_offer(version: str, data: bytes, seed: int) -> None:
    capabilities = Model(version).capabilities
    dialect = dialect_for(capabilities)
    changed = mutation.mutate(data, Random(seed), dialect)
    crossed = mutation.crossover(data, changed, Random(seed), dialect)
    raw = mutation.mutate_bytes(data, Random(seed), lambda part, most: Random(seed).randbytes(most), dialect)
    for one in (changed, crossed, raw):
        capabilities.check(decode(one, dialect), version)


@given(any_bytes, any_bytes, st.binary(max_size=20), st.integers(0, 1 << 32))
def test_changes_keep_the_stage(data: bytes, other: bytes, new: bytes, seed: int) -> None:
    stage = decode(data).machine["stage"]
    changed = (
        mutation.mutate(data, Random(seed)),
        mutation.crossover(data, other, Random(seed)),
        mutation.mutate_bytes(data, Random(seed), lambda part, most: new[:most]),
    )
    assert {decode(one).machine["stage"] for one in changed} == {stage}


@given(inputs, st.binary(max_size=9), st.integers(0, 1 << 32))
def test_raw_bytes_change_one_argument_or_the_machine(data: bytes, new: bytes, seed: int) -> None:
    before, after = split(data), split(mutation.mutate_bytes(data, Random(seed), lambda part, most: new[:most]))
    assume(not any(before.definition(op).handles for op in before.ops))
    changed = [(old, op) for old, op in zip(before.ops, after.ops, strict=True) if old != op]
    assert len(changed) + (before.machine != after.machine) <= 1
    assert all(sum(one != other for one, other in zip(old, op, strict=True)) == 1 for old, op in changed)


def test_edges_are_whole_arguments() -> None:
    for kind in STANDARD.kinds:
        assert all(lengths(kind)[edge[0]] == len(edge) for edge in kind.edges)


def test_what_is_bred_from_the_dear_is_mostly_not() -> None:
    dear = whole_block_scenario(Random(1))
    other = vm_scenario(Random(2))
    breeds: tuple[Callable[[Random], bytes], ...] = (
        lambda choice: mutation.mutate(dear, choice),
        lambda choice: mutation.crossover(dear, other, choice),
        lambda choice: mutation.mutate_bytes(dear, choice, lambda part, _: part),
    )
    for breed in breeds:
        machines = [decode(breed(Random(seed))).machine for seed in range(3000)]
        kept = sum(machine["budget"] > USUAL_BUDGET or machine["pool_pages"] > USUAL_POOL_PAGES for machine in machines)
        assert 0 < kept < 30
    usual = encode(parse("s2 1\nbudget = 65536\npool_pages = 256\npool_base = 0x12345000\nunmap ipa=0x0 size=4K"))
    assert mutation.mutate_bytes(usual, Random(1), lambda part, _: part) == usual
