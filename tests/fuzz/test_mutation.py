"""The mutator and the generator: deterministic, respectful of ops, and worth having."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import machines

from fuzz.generate import mutation
from harness.model.executor import MODELLED, Model
from harness.program import codec
from harness.program.capabilities import Capabilities
from harness.program.codec import BOUNDARY_CHOICES, Parts, decode, dialect_for, encode, read_argument, space_of, split
from harness.program.definition import OPS, Kind
from harness.program.granule import GRANULES, Granule, foreign_units
from harness.program.machine import USUAL_BUDGET, USUAL_POOL_PAGES, Machine
from harness.program.text import parse
from harness.verdict.judge import Judge
from reference.link.executor import Reference

Change = Callable[[Parts, Random], None]


@given(st.binary(max_size=200))
def test_parts_join_to_the_same_program(data: bytes) -> None:
    parts = split(data)
    assert parts.join().rstrip(b"\0") == data.rstrip(b"\0"), "what is missing of the last op is zeros"
    program = decode(data)
    assert parts.machine == program.machine
    assert [parts.definition(op).name for op in parts.ops] == [op.name for op in program.ops]
    space = space_of(program.machine)
    for op, decoded in zip(parts.ops, program.ops, strict=True):
        assert len(op) == len(decoded.args) + 1
        ipa = 0
        for arg, part, value in zip(decoded.definition.args, op[1:], decoded.args, strict=True):
            assert read_argument(arg.kind, part, space, ipa) == value
            ipa = decoded.args[0]


@pytest.mark.parametrize("kind", list(Kind))
@given(first=st.binary(min_size=9, max_size=9), machine=machines, ipa=st.integers(0, 1 << 52))
def test_the_size_of_an_argument_depends_on_its_first_byte_only(
    kind: Kind, first: bytes, machine: Machine, ipa: int
) -> None:
    size, space = codec._LENGTHS[kind][first[0]], space_of(machine)
    assert read_argument(kind, first[:size], space, ipa) == read_argument(kind, first, space, ipa)


@given(st.binary(max_size=120), st.integers(0, 1 << 32), st.sampled_from(GRANULES))
def test_changes_are_deterministic_and_decode(data: bytes, seed: int, granule: Granule) -> None:
    dialect = dialect_for(granule=granule)
    changed = mutation.mutate(data, Random(seed), dialect)
    assert changed == mutation.mutate(data, Random(seed), dialect)
    decode(changed, dialect)


@given(st.binary(min_size=20, max_size=120), st.integers(0, 1 << 32))
def test_dropping_and_moving_keep_the_other_ops(data: bytes, seed: int) -> None:
    before = Counter(op.name for op in decode(data).ops)
    for change in (mutation._drop, mutation._move):
        parts = split(data)
        change(parts, Random(seed))
        after = Counter(op.name for op in decode(parts.join()).ops)
        assert not after - before
        assert sum((before - after).values()) <= (mutation._MAX_RUN if change is mutation._drop else 0)


@given(st.binary(min_size=20, max_size=120), st.binary(min_size=20, max_size=120), st.integers(0, 1 << 32))
def test_crossover_takes_whole_ops_of_both(first: bytes, second: bytes, seed: int) -> None:
    one, other = split(first), split(second)
    assume(one.stage == other.stage)
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
@given(data=st.binary(min_size=20, max_size=200), seed=st.integers(0, 1 << 32))
def test_a_change_leaves_most_ops_as_they_are(change: Change, data: bytes, seed: int) -> None:
    parts = split(data)
    before = [b"".join(op) for op in parts.ops]
    change(parts, Random(seed))
    after = [b"".join(op) for op in parts.ops]
    assert len(set(before) - set(after)) <= mutation._MAX_RUN
    assert abs(len(after) - len(before)) <= mutation._MAX_RUN
    decode(parts.join())


def test_sizes_grow_and_shrink_by_levels() -> None:
    block = encode(parse("s2 1\nunmap ipa=0x40000000 size=2M"))
    sizes = set()
    for seed in range(40):
        parts = split(block)
        mutation._resize(parts, Random(seed))
        sizes.add(decode(parts.join()).ops[0].args[1])
    assert {4 << 10, 1 << 30, 2 << 20 | 4 << 10} <= sizes


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
@pytest.mark.parametrize("seed", range(5))
def test_a_life_is_mostly_sensible(seed: int, granule: Granule, version: str) -> None:
    """Most of its ops succeed, and among a few lives there are splits and merges."""
    model = Model(version)
    dialect = dialect_for(model.capabilities, granule)
    good = total = splits = merges = 0
    choice = Random(seed)
    for _ in range(40):
        model.start(decode(mutation.life(choice, dialect), dialect))
        feedback = model.finish().feedback
        assert feedback is not None
        good += sum(ret == 0 for ret in feedback.returns[1:])
        total += len(feedback.returns) - 1
        splits += feedback.shape.splits
        merges += feedback.shape.merges
    assert good / total > 0.7
    assert splits > 10
    assert merges > 10


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("stage", [1, 2])
def test_every_op_is_generated(version: str, stage: int) -> None:
    """And no other: what is generated can be run."""
    capabilities = Model(version).capabilities
    dialect, choice = dialect_for(capabilities), Random(1)
    make = mutation.hyp_life if stage == 1 else mutation.life
    programs = [decode(mutation.random_input(choice, dialect, stage), dialect) for _ in range(400)]
    lives = [decode(make(choice, dialect), dialect) for _ in range(400)]
    made = {op.name for program in programs for op in program.ops if program.machine["stage"] == stage}
    lived = {op.name for program in lives for op in program.ops}
    assert made == {op.name for op in capabilities.ops if stage in op.stages}
    assert lived <= made
    for program in (*programs, *lives):
        capabilities.check(program, version)


@pytest.mark.parametrize("version", MODELLED)
@given(st.binary(max_size=200), st.integers(0, 1 << 32))
def test_changes_ask_for_what_is_on_offer(version: str, data: bytes, seed: int) -> None:
    capabilities = Model(version).capabilities
    dialect = dialect_for(capabilities)
    changed = mutation.mutate(data, Random(seed), dialect)
    crossed = mutation.crossover(data, changed, Random(seed), dialect)
    for one in (changed, crossed):
        capabilities.check(decode(one, dialect), version)


@pytest.mark.parametrize("op", [op.name for op in OPS])
def test_lives_do_without_what_is_not_on_offer(op: str) -> None:
    """Trees that the model does not know may lack anything."""
    dialect = dialect_for(Capabilities(frozenset({op})))
    for seed in range(60):
        program = decode(mutation.fresh(Random(seed), dialect), dialect)
        assert op not in {one.name for one in program.ops}


def test_both_stages_are_generated_and_either_alone() -> None:
    choice = Random(1)
    stages = Counter(decode(mutation.fresh(choice)).machine["stage"] for _ in range(1000))
    assert 100 <= stages[1] <= 250
    assert {decode(mutation.fresh(choice, stages=(1,))).machine["stage"] for _ in range(100)} == {1}


@given(st.binary(max_size=60), st.integers(0, 1 << 32))
def test_changes_keep_the_stage(tail: bytes, seed: int) -> None:
    data = mutation.random_input(Random(0), stage=1) + tail
    assert decode(mutation.mutate(data, Random(seed))).machine["stage"] == 1
    assert decode(mutation.crossover(data, tail, Random(seed))).machine["stage"] == 1


def test_hyp_s_life_is_mostly_sensible() -> None:
    model, choice = Model(), Random(1)
    good = total = unmapped = 0
    for _ in range(100):
        program = decode(mutation.hyp_life(choice))
        assert program.machine["stage"] == 1
        seen = model.observe(program).records[1:]
        good += sum(record.ret == 0 for record in seen)
        total += len(seen)
        unmapped += sum(record.definition.name == "hyp_unmap" and record.outs > (0,) for record in seen)
    assert good / total > 0.7
    assert unmapped > 50


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_a_life_survives_encoding(granule: Granule) -> None:
    dialect = dialect_for(granule=granule)
    program = decode(mutation.life(Random(3), dialect), dialect)
    assert decode(encode(program), dialect) == program


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_lives_use_what_the_granule_has(granule: Granule) -> None:
    """Blocks of its size, and memory beyond 48 bits where there is such; whole pages, mostly at its own boundaries."""
    choice, dialect = Random(7), dialect_for(granule=granule)
    lives = [decode(mutation.life(choice, dialect), dialect) for _ in range(150)]
    maps = [op for life in lives for op in life.ops if op.name == "map"]
    assert {op.args[1] for op in maps} >= {granule.page, granule.block}
    assert all(op.args[1] % granule.page == 0 for op in maps)
    odd = {op.args[0] % granule.page for op in maps} - {0}
    assert odd <= {unit for unit in foreign_units(granule) if unit < granule.page}
    assert sum(op.args[0] % granule.page != 0 for op in maps) < 0.02 * len(maps)
    assert any(op.args[2] >> 48 for op in maps)
    assert {life.machine.phys_bits for life in lives} == {48, 52}
    assert max(life.machine["ia_bits"] for life in lives) == 52


@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_boundaries_are_those_of_all_granules(granule: Granule) -> None:
    """Of addresses and sizes: the granule's own more than others', but those often enough to meet a bug there."""
    choice, dialect = Random(11), dialect_for(granule=granule)
    own = {1 << granule.level_shift(level) for level in (1, 2, 3)}
    aligned: Counter[tuple[Kind, int]] = Counter()
    sizes: Counter[int] = Counter()
    for _ in range(1500):
        for op in decode(mutation.fresh(choice, dialect), dialect).ops:
            for arg, value in zip(op.definition.args, op.args, strict=True):
                if arg.kind in (Kind.IPA, Kind.PHYS):
                    aligned[arg.kind, value & -value] += 1
                elif arg.kind is Kind.SIZE:
                    sizes[value] += 1
    for kind in (Kind.IPA, Kind.PHYS):
        of_kind = sum(count for (one, _), count in aligned.items() if one is kind)
        theirs = {unit: aligned[kind, unit] for unit in foreign_units(granule)}
        assert sum(theirs.values()) > 0.01 * of_kind
        assert sum(theirs.values()) < sum(aligned[kind, unit] for unit in own)
        below = [count for unit, count in theirs.items() if unit <= granule.block]
        assert min(below) >= 5, f"{kind}: {theirs}"
    small = {unit for unit in foreign_units(granule) if unit <= 4 * granule.page}
    assert all(sizes[unit] >= 5 for unit in small)


def test_boundary_choices_are_whole_arguments() -> None:
    for kind, choices in BOUNDARY_CHOICES.items():
        assert {codec._LENGTHS[kind][byte] for byte in choices} == {1}


def test_a_whole_block_now_and_then(monkeypatch: pytest.MonkeyPatch, kernel: Reference) -> None:
    """What is generated splits one to its last page, with nothing cut, and both sides agree on it."""
    monkeypatch.setattr(mutation, "_WHOLE_BLOCKS", 1.0)
    judge = Judge(Model(), kernel)
    for seed in range(3):
        program = decode(mutation.fresh(Random(seed), stages=(2,)))
        assert judge.check(program) is None
        seen = judge.left.observe(program)
        split_record = next(record for record in seen.records if record.definition.name == "split")
        assert split_record.ret == 0
        assert len(seen.pages) > 512
        assert None not in [record.ret for record in seen.records]


@pytest.mark.parametrize("version", MODELLED)
@pytest.mark.parametrize("granule", GRANULES, ids=[granule.name for granule in GRANULES])
def test_a_whole_block_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch, granule: Granule, version: str) -> None:
    monkeypatch.setattr(mutation, "_WHOLE_BLOCKS", 1.0)
    dialect = dialect_for(Model(version).capabilities, granule)
    programs = [decode(mutation.fresh(Random(seed), dialect, (2,)), dialect) for seed in range(20)]
    whole = granule.has_large_blocks and dialect.capabilities.has("split")
    assert {program.machine["budget"] > USUAL_BUDGET for program in programs} == {whole}


def test_what_is_bred_from_the_dear_is_mostly_not() -> None:
    dear = mutation.whole_block(Random(1))
    other = mutation.life(Random(2))
    breeds: tuple[Callable[[Random], bytes], ...] = (
        lambda choice: mutation.mutate(dear, choice),
        lambda choice: mutation.crossover(dear, other, choice),
        lambda choice: mutation.moderate(dear, choice),
    )
    for breed in breeds:
        machines = [decode(breed(Random(seed))).machine for seed in range(3000)]
        kept = sum(machine["budget"] > USUAL_BUDGET or machine["pool_pages"] > USUAL_POOL_PAGES for machine in machines)
        assert 0 < kept < 30
    usual = encode(parse("s2 1\nbudget = 65536\npool_pages = 256\npool_base = 0x12345000\nunmap ipa=0x0 size=4K"))
    assert mutation.moderate(usual, Random(1)) == usual
