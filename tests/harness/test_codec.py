"""The private binary form: any bytes are a program, every program has bytes, and old bytes keep their meaning."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import machines, ops, programs

from harness.model.executor import MODELLED, Model
from harness.program.capabilities import EVERYTHING
from harness.program.codec import (
    CODEC,
    Dialect,
    decode,
    dialect_for,
    encode,
    encode_op,
    frame,
    header_of,
    knob_value,
)
from harness.program.definition import Op
from harness.program.granule import GRANULES
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import KNOBS, KNOBS_BY_NAME, MAX_POOL_PAGES, USUAL_BUDGET, USUAL_POOL_PAGES, Machine
from harness.program.ops import OPS_BY_NAME, OPS_BY_NUMBER, op_of
from harness.program.program import MAX_OPS, Program
from harness.program.source import CHOICES
from harness.program.space import U64_MAX, space_of
from harness.program.text import format_program

MODELS = {version: Model(version) for version in MODELLED}
OFFERS = {
    **{version: model.capabilities for version, model in MODELS.items()},
    "both": MODELS["6.1"].capabilities & MODELS["6.12"].capabilities,
    "full": EVERYTHING,
}
DIALECTS = [pytest.param(dialect_for(capabilities), id=name) for name, capabilities in OFFERS.items()]
EVERY_DIALECT = [
    pytest.param(dialect_for(capabilities, granule), id=f"{name}-{granule.name}")
    for name, capabilities in OFFERS.items()
    for granule in GRANULES
]


def full(program: Program) -> Dialect:
    """The dialect of the program's granule in which every program can be said."""
    return dialect_for(EVERYTHING, program.machine.granule)


PINNED_NUMBERS = range(1, 31)
PINNED_KNOBS = ("fwb", "tlb_range", "force_pte", "kvm_mode", "vmid", "lpa2", "cmos", "page_count")
"""Of the operations and the machines in these inputs: of those that there were when CODEC was written."""
PINNED = (13, "90e89c2edfcefc98")
"""CODEC, and the digest of what 200 fixed inputs decode to under it."""


@given(programs)
def test_machine_and_ops_survive(program: Program) -> None:
    assert decode(encode(program, full(program)), full(program)) == Program(program.ops, program.machine)


@given(machines)
def test_a_machine_alone_survives(machine: Machine) -> None:
    dialect = dialect_for(granule=machine.granule)
    assert decode(encode(Program((), machine)), dialect) == Program((), machine)


@given(st.lists(ops, max_size=5), st.lists(ops, max_size=5))
def test_ops_follow_each_other(first: list[Op], second: list[Op]) -> None:
    """An op's bytes do not depend on the op before it, unless they name what ops make."""
    assume(not any(op.definition.handles for op in (*first, *second)))
    dialect = dialect_for(EVERYTHING)
    together = encode(Program((*first, *second)), dialect)
    assert together == encode(Program(tuple(first)), dialect) + encode(Program(tuple(second)), dialect)[1:]


FRAMES = st.builds(lambda number, body: frame([bytes((number,)), body]), st.integers(0, 31), st.binary(max_size=30))
"""Mostly of an operation, with any bytes for arguments."""


@pytest.mark.parametrize("dialect", EVERY_DIALECT)
@given(data=st.one_of(st.binary(max_size=200), st.lists(FRAMES).map(lambda frames: b"\0" + b"".join(frames))))
def test_any_bytes_are_a_program(dialect: Dialect, data: bytes) -> None:
    program = decode(data, dialect)
    assert program.machine.granule is dialect.granule
    assert decode(encode(program, dialect), dialect) == program
    dialect.capabilities.check(program, "a side that offers as much")


def test_the_shortest_and_the_longest_inputs() -> None:
    assert decode(b"") == decode(b"\0") == Program(())
    assert len(decode(b"\0" * 100_000).ops) == MAX_OPS


def framed(rng: random.Random, count: int = 8, numbers: Sequence[int] = tuple(OPS_BY_NUMBER)) -> bytes:
    """Random choices, none of which is spelt out, in frames of these operations."""
    frames = [
        frame([bytes((number - 1,)), bytes(rng.choices(range(CHOICES), k=rng.randrange(54)))])
        for number in rng.choices(numbers, k=count)
    ]
    return b"\0" + b"".join(frames)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_any_arguments_are_those_of_their_op(dialect: Dialect) -> None:
    rng = random.Random(2026)
    found = [decode(framed(rng), dialect) for _ in range(500)]
    names = {op.name for program in found for op in program.ops}
    assert names == {op.name for op in dialect.capabilities.ops if 2 in op.stages}


def test_what_no_operation_has_is_no_op() -> None:
    """A number without an operation is skipped with its frame, and so is an operation that the sides lack."""
    op = op_of("unmap", ipa=0x1000, size=0x1000)
    whole = encode(Program((op, op)))
    unknown = frame([b"\xfa", b"\x01\x02\x03"])
    lacking = frame([bytes((OPS_BY_NAME["mkold"].number - 1,)), b"\0\0"])
    middle = (len(whole) + 1) // 2
    dialect = dialect_for(MODELS["6.12"].capabilities)
    assert decode(whole[:middle] + unknown + lacking + whole[middle:], dialect) == Program((op, op))


def test_a_frame_that_is_too_long_or_too_short() -> None:
    """Bytes that no argument takes are ignored; an argument that has none takes its default, or is read as zeros."""
    (number, *arguments) = encode_op(op_of("map", ipa=0x1000, size=0x1000, phys=0, prot=4), space_of(Machine()))
    mapped = decode(b"\0" + frame([number, *arguments])).ops[0]
    assert decode(b"\0" + frame([number, *arguments, b"surplus"])).ops == (mapped,)
    assert decode(b"\0" + frame([number, *arguments[:4]])).ops == (mapped,)
    assert decode(b"\0" + number + b"\xff" + b"".join(arguments)).ops == (mapped,), "and the input ends within it"
    assert decode(b"\0" + number).ops == (decode(b"\0" + frame([number, *(b"\0" for _ in range(4))])).ops[0],)


def test_old_inputs_keep_their_meaning() -> None:
    rng = random.Random(200)
    digest = hashlib.sha256()
    for size in range(200):
        header = b"" if size % 4 else header_of(Machine.of(**{rng.choice(PINNED_KNOBS): rng.randrange(2)}))
        digest.update(
            format_program(decode(header + framed(rng, size // 8, PINNED_NUMBERS)[len(header) > 0 :])).encode()
        )
    found = digest.hexdigest()[:16]
    assert (CODEC, found) == PINNED, (
        "Bytes no longer decode as they did: existing corpora and minimised inputs mean something else now. If that is "
        f"intended, add one to CODEC in harness/program/codec.py, and write the new digest {found} into PINNED here."
    )


@pytest.mark.parametrize("value", [0x1234_5678_9ABC_DEF0, 0xFFF, U64_MAX - 7, (1 << 40) + 1, 3])
def test_odd_values_are_spelt_out(value: int) -> None:
    """Any value that no byte stands for follows the escape 0xFF in eight bytes."""
    program = Program((op_of("unmap", ipa=value, size=value),))
    assert encode(program).count(b"\xff" + value.to_bytes(8, "little")) == 2
    assert decode(encode(program)) == program


def test_an_odd_knob_is_spelt_out() -> None:
    program = Program((), Machine.of(pool_base=0x1234_5000))
    assert encode(program).endswith(b"\xff" + (0x1234_5000).to_bytes(8, "little"))
    assert decode(encode(program)) == program


def test_every_knob_may_differ() -> None:
    changed = {knob.name: knob.low if knob.default != knob.low else knob.high for knob in KNOBS}
    program = Program((), Machine.of(**changed))
    assert program.machine.changed() == changed
    assert decode(encode(program), dialect_for(granule=program.machine.granule)) == program


def test_a_spelt_out_knob_out_of_range_is_made_to_fit() -> None:
    """Mutated bytes may spell anything."""
    good = encode(Program((), Machine.of(pool_base=0x1234_5000)))
    for value in (1, 0x1234_5001, U64_MAX):
        machine = decode(good[:-8] + value.to_bytes(8, "little")).machine
        assert machine["pool_base"] % 4096 == 0


def test_what_the_fuzzer_likes_takes_few_bytes() -> None:
    """Minimising and mutating work best where common things are short."""
    assert encode(Program(())) == b"\0"
    prot = PROT_BITS["r"] | PROT_BITS["w"] | PROT_BITS["x"]
    op = op_of("map", ipa=0x20_0000, size=0x1000, phys=0x8020_0000, prot=prot, mc=3)
    assert len(encode(Program((op,)))) <= 12


def test_no_byte_chooses_what_is_dear() -> None:
    """A budget or a pool that splits a whole block is spelt out, and no other is spelt out by chance."""
    for name, usual in (("budget", USUAL_BUDGET), ("pool_pages", USUAL_POOL_PAGES)):
        knob = KNOBS_BY_NAME[name]
        assert max(knob_value(knob, byte) for byte in range(256)) == usual - 1
        dear = encode(Program((), Machine.of(**{name: knob.high})))
        assert decode(dear).machine[name] == knob.high
        assert decode(dear[:-8] + b"\xa5" * 8).machine[name] <= usual


def test_a_pool_of_any_size_ends_with_memory() -> None:
    """And one that is no larger than usual may lie where it always could."""
    highest = (1 << 48) - USUAL_POOL_PAGES * 4096
    small = Machine.of(pool_base=highest, pool_pages=17)
    assert decode(encode(Program((), small))).machine == small
    with pytest.raises(ValueError, match="pool_base"):
        Machine.of(pool_base=highest, pool_pages=MAX_POOL_PAGES)
