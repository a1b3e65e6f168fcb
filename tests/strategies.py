"""Hypothesis strategies for machines, operations and programs; shared by all tests."""

from __future__ import annotations

from hypothesis import strategies as st

from harness.model.executor import Model
from harness.program.definition import Arg, Op, OpDef
from harness.program.granule import GRANULES
from harness.program.kinds import IPA, MEMCACHE, PAGEWISE_SIZE, PHYS, SIZE
from harness.program.machine import KNOBS, Knob, Machine, highest_pool, highest_va_bits, most_cpus
from harness.program.ops import OPS
from harness.program.program import Program
from harness.program.space import U64_MAX

_SHIFTS = (12, 21, 30, 39)
_WORDS = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_.", min_size=1, max_size=8)
_ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n")
_COMMENT_LINES = st.text(_ANY, max_size=40).map(str.strip)

u64s = st.one_of(
    st.integers(0, U64_MAX),
    st.builds(lambda unit, count: count << unit & U64_MAX, st.sampled_from(_SHIFTS), st.integers(0, 1 << 20)),
    st.sampled_from([0, 1, 0xFFF, 0x1000, 1 << 40, (1 << 48) - 1, 1 << 48, 1 << 63, U64_MAX - 0xFFF, U64_MAX]),
)
"""Any value, often a round or an extreme one."""


def _knob_values(knob: Knob) -> st.SearchStrategy[int]:
    steps = (knob.high - knob.low) // knob.align
    return st.one_of(
        st.just(knob.default),
        st.sampled_from([knob.low, knob.high]),
        st.integers(0, steps).map(lambda step: knob.low + step * knob.align),
    )


def _machine_of(values: tuple[int, ...]) -> Machine:
    """The machine of knobs that are each in their range; its pool where its granule allows."""
    knobs = {knob.name: value for knob, value in zip(KNOBS, values, strict=True)}
    granule = GRANULES[knobs["granule"]]
    knobs["pool_base"] = min(knobs["pool_base"] & -granule.page, highest_pool(knobs))
    knobs["va_bits"] = min(knobs["va_bits"], highest_va_bits(knobs))
    knobs["cpus"] = min(knobs["cpus"], most_cpus(knobs))
    return Machine.of(**knobs)


machines = st.tuples(*map(_knob_values, KNOBS)).map(_machine_of)


def _arg_values(arg: Arg) -> st.SearchStrategy[int]:
    if arg.kind.bits:
        return st.sets(st.sampled_from(sorted(arg.kind.bits.values()))).map(sum)
    return st.integers(0, arg.kind.limit) if arg.kind.limit < U64_MAX else u64s


def ops_of(definition: OpDef) -> st.SearchStrategy[Op]:
    """Operations of one kind, with any arguments they allow."""
    return st.tuples(*map(_arg_values, definition.args)).map(lambda values: Op(definition, values))


_OPS_OF_STAGE = {stage: st.one_of(*(ops_of(op) for op in OPS if stage in op.stages)) for stage in (1, 2)}
ops = _OPS_OF_STAGE[2]
"""Of stage 2, that of the default machine."""

comments = st.lists(_COMMENT_LINES, max_size=3).map("\n".join)
"""As the parser leaves them: no line has blanks at its ends."""


def _programs_for(machine: Machine) -> st.SearchStrategy[Program]:
    some_ops = st.lists(_OPS_OF_STAGE[machine["stage"]], max_size=12).map(tuple)
    return st.builds(Program, some_ops, st.just(machine), st.lists(_WORDS, max_size=2).map(tuple), comments)


programs = machines.flatmap(_programs_for)

_NEAR = st.builds(lambda block, page: (block << 21) + (page << 12), st.integers(0, 3), st.integers(0, 3))
_SIZES = st.sampled_from([0x1000, 0x2000, 0x4000, 1 << 21, 1 << 30])


def _lively_values(arg: Arg) -> st.SearchStrategy[int]:
    if arg.kind is IPA:
        return _NEAR
    if arg.kind in (SIZE, PAGEWISE_SIZE):
        return _SIZES if arg.kind is SIZE else st.sampled_from([0x1000, 0x3000])
    if arg.kind is PHYS:
        return _NEAR.map(lambda address: address + (1 << 31))
    return st.integers(3, 6) if arg.kind is MEMCACHE else _arg_values(arg)


lively_ops = st.one_of(
    *(
        st.tuples(*map(_lively_values, op.args)).map(lambda values, op=op: Op(op, values))
        for op in Model().capabilities.ops
        if 2 in op.stages
    )
)
"""Operations of the default kernel, within a few megabytes, most of which succeed and meet each other."""

lively_programs = st.lists(lively_ops, min_size=1, max_size=8).map(lambda chosen: Program(tuple(chosen)))
