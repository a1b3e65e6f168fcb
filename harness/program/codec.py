"""The fuzzer's private binary form of programs.

Any bytes decode to a program. First the machine: how many knobs are changed, then each knob's number and value. Then
frames, one an op: its number less one, the length of what follows, and its arguments' bytes. Each kind of argument
decodes its own (`harness.program.kinds`): a byte is a choice, and most choices lead to values that page-table code
cares about.

Old bytes keep their meaning while operations, arguments and flags are added. A number that no operation has is no op;
arguments that a frame has no bytes for have their defaults; bytes that are left over mean nothing. Numbers of
operations, knobs and values of enumerations are fixed. Weights do not matter here: they steer the generator alone.
Whatever else changes what bytes mean takes another CODEC, and older corpora are refused (they convert through text,
with the version that wrote them).

Bytes are read in a `Dialect`, which can say what a run's sides can do and nothing else: what a side lacks is no op, no
knob and no flag. The granule is not among the choices either: a fuzzing process stays with one kernel, and so with one
granule, which is the dialect's.

Every program has an encoding that decodes to the same machine and ops; comments and `requires` stay with the text.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Final

from harness.program.capabilities import EVERYTHING, Capabilities
from harness.program.definition import Op, OpDef
from harness.program.granule import GRANULE_4K, GRANULES, Granule
from harness.program.kinds.kind import Kind
from harness.program.machine import (
    DEFAULT_MACHINE,
    KNOBS,
    USUAL_BUDGET,
    USUAL_POOL_PAGES,
    Knob,
    Machine,
    highest_pool,
    highest_va_bits,
    most_cpus,
)
from harness.program.program import MAX_OPS, Program
from harness.program.source import CHOICES, LITERAL, Source, literal
from harness.program.space import Space, space_of

CODEC: Final = 13

FRAME_HEAD: Final = 2
"""Bytes of a frame before its arguments: number and length."""

_ONE_KNOB, _TWO_KNOBS, _MANY_KNOBS = 112, 192, 240
"""From which first byte on so many knobs are changed; for many, the next byte says how many."""
_SMALL_POOL: Final = 24
"""Pages: a program of some ops needs about so many."""


@functools.cache
def lengths(kind: Kind) -> tuple[int, ...]:
    """Of an argument of a kind, in bytes, by its first one."""
    space, found = space_of(DEFAULT_MACHINE), []
    for first in range(256):
        source = Source(bytes((first,)))
        kind.decode(source, space, 0)
        found.append(source.at)
    return tuple(found)


class Plan:
    """How an operation's arguments are read in a dialect."""

    def __init__(self, definition: OpDef, capabilities: Capabilities) -> None:
        self.definition = definition
        self.kinds: list[Kind] = [arg.kind for arg in definition.args]
        self.defaults: list[int | None] = [arg.default for arg in definition.args]
        self.lengths: list[tuple[int, ...]] = [lengths(kind) for kind in self.kinds]
        self.masks: list[int] = [capabilities.bits(kind) if kind.bits else -1 for kind in self.kinds]
        """Flags that the sides lack are left out; -1 of what are no flags."""
        self.address = -1 if definition.address is None else definition.address

    def decode(self, body: bytes, space: Space) -> Op:
        """The op whose arguments' bytes are `body`."""
        source, end = Source(body), len(body)
        values: list[int] = []
        address = 0
        for place, kind in enumerate(self.kinds):
            default = self.defaults[place] if source.at >= end else None
            value = kind.decode(source, space, address) & self.masks[place] if default is None else default
            values.append(value)
            if place == self.address:
                address = value
        return Op(self.definition, tuple(values))


class Dialect:
    """The binary form of programs for one granule that ask for no more than `capabilities`. Use `dialect_for`: each is
    made once."""

    def __init__(self, capabilities: Capabilities, granule: Granule) -> None:
        self.capabilities = capabilities
        self.granule = granule
        self.knobs = tuple(knob for knob in KNOBS if knob.name != "granule" and knob.name not in capabilities.lacks)
        """Those that bytes choose."""
        self.bare = DEFAULT_MACHINE.replace("granule", GRANULES.index(granule))
        self._knobs: tuple[Knob | None, ...] = tuple(knob if knob in self.knobs else None for knob in KNOBS)
        self._plans: dict[int, tuple[Plan | None, ...]] = {
            stage: tuple(_plan(capabilities, number, stage) for number in range(1, 257)) for stage in (1, 2)
        }

    def plan(self, stage: int, byte: int) -> Plan | None:
        """How to read the op of a frame that begins with that byte; None where it is none of the stage."""
        return self._plans[stage][byte]

    def plans(self, stage: int) -> tuple[Plan | None, ...]:
        """All of a stage, by byte."""
        return self._plans[stage]

    def knob(self, byte: int) -> Knob | None:
        """The knob that a byte chooses; None where it is none."""
        return self._knobs[byte] if byte < len(self._knobs) else None


def _plan(capabilities: Capabilities, number: int, stage: int) -> Plan | None:
    definition = capabilities.definitions.by_number.get(number)
    if definition is None or stage not in definition.stages or definition.name in capabilities.lacks:
        return None
    return Plan(definition, capabilities)


@functools.cache
def dialect_for(capabilities: Capabilities = EVERYTHING, granule: Granule = GRANULE_4K) -> Dialect:
    """The dialect in which everything that the sides can do can be said, and nothing else."""
    return Dialect(capabilities, granule)


def decode(data: bytes, dialect: Dialect | None = None) -> Program:
    """The program that any bytes stand for. Never raises."""
    dialect = dialect or FULL
    source = Source(data)
    machine = decode_machine(source, dialect)
    space, plans = space_of(machine), dialect.plans(machine["stage"])
    ops: list[Op] = []
    at, end = source.at, len(data)
    while at < end and len(ops) < MAX_OPS:
        plan = plans[data[at]]
        size = data[at + 1] if at + 1 < end else 0
        at += FRAME_HEAD
        if plan is not None:
            ops.append(plan.decode(data[at : at + size], space))
        at += size
    return Program(tuple(ops), machine)


def encode(program: Program, dialect: Dialect | None = None) -> bytes:
    """Bytes that decode to a program with the same machine and ops, in a dialect of its granule whose capabilities have
    what it asks for."""
    dialect = dialect or dialect_for(granule=program.machine.granule)
    space = space_of(program.machine)
    return header_of(program.machine, dialect) + b"".join([frame(encode_op(op, space)) for op in program.ops])


def encode_op(op: Op, space: Space) -> list[bytes]:
    """The parts of an op's frame: its number, and each argument."""
    definition = op.definition
    parts = [bytes((definition.number - 1,))]
    address = 0
    for place, arg in enumerate(definition.args):
        parts.append(arg.kind.encode(op.args[place], space, address))
        if place == definition.address:
            address = op.args[place]
    return parts


def frame(parts: list[bytes]) -> bytes:
    """The frame of an op's parts."""
    body = b"".join(parts[1:])
    return b"%s%c%s" % (parts[0], len(body), body)


def header_of(machine: Machine, dialect: Dialect | None = None) -> bytes:
    """The bytes that begin an input for `machine`."""
    dialect = dialect or FULL
    changed = machine.changed()
    changed.pop("granule", None)
    out = bytearray(_COUNTS[len(changed)] if len(changed) < len(_COUNTS) else bytes((_MANY_KNOBS, len(changed))))
    for number, knob in enumerate(KNOBS):
        if knob.name not in changed:
            continue
        value = changed[knob.name]
        out.append(number)
        choice = next((byte for byte in range(LITERAL) if knob_value(knob, byte) == value), None)
        out += literal(value) if choice is None else bytes((choice,))
    return bytes(out)


_COUNTS: Final = (b"\0", bytes((_ONE_KNOB,)), bytes((_TWO_KNOBS,)))


def decode_machine(source: Source, dialect: Dialect) -> Machine:
    """The machine that the next bytes choose."""
    count = source.byte()
    if count < _ONE_KNOB:
        return dialect.bare
    changes = 1 if count < _TWO_KNOBS else 2
    if count >= _MANY_KNOBS:
        changes = source.byte()
    knobs = dict(zip(_NAMES, dialect.bare.values, strict=True))
    for _ in range(changes):
        knob = dialect.knob(source.byte())
        choice = source.byte()
        value = source.literal() if choice == LITERAL else choice
        if knob is not None:
            knobs[knob.name] = _fit(knob, value) if choice == LITERAL else knob_value(knob, value)
    return _fitted(knobs)


_NAMES: Final = tuple(knob.name for knob in KNOBS)


def fitting(machine: Machine, changes: Mapping[str, int]) -> Machine:
    """The machine with some knobs changed to values that they allow; the pool is moved if it must."""
    return _fitted({**dict(zip(_NAMES, machine.values, strict=True)), **changes})


def _fitted(knobs: dict[str, int]) -> Machine:
    """The machine of knobs that are each in their range."""
    granule = GRANULES[knobs["granule"]]
    highest = highest_pool(knobs)
    base = knobs["pool_base"]
    knobs["pool_base"] = (base if base <= highest else base % (highest + 1)) & -granule.page
    knobs["va_bits"] = min(knobs["va_bits"], highest_va_bits(knobs))
    knobs["cpus"] = min(knobs["cpus"], most_cpus(knobs))
    return Machine(tuple(knobs.values()))


_USUAL: Final = {"pool_pages": USUAL_POOL_PAGES, "budget": USUAL_BUDGET}
"""What a byte chooses at most where more would be dear: that is spelt out."""
_DEAR_HEADER: Final = 1 + 2 + 8
"""Bytes: how many knobs, one of them, that it is spelt out, and its value."""


def usual_high(knob: Knob) -> int:
    """The highest value of a knob that is not dear."""
    return _USUAL.get(knob.name, knob.high)


def knob_value(knob: Knob, byte: int) -> int:
    """The value of a knob that one byte chooses; it is among those that the knob allows. A byte that names nothing, of
    a knob whose values have names, chooses the default: it may come to name something."""
    if knob.names:
        return byte if byte < len(knob.names) else knob.default
    span = usual_high(knob) - knob.low
    if knob.name == "pool_pages" and byte < CHOICES:  # memory that runs out is worth more than memory that does not
        return 1 + byte % _SMALL_POOL
    return _fit(knob, byte if span <= 256 else span >> byte % span.bit_length())


def _fit(knob: Knob, value: int) -> int:
    """The value itself where the knob allows it as it is, else one that the knob allows."""
    if knob.problem(value) is None:
        return value
    if knob.names:
        return knob.default
    wrapped = knob.low + value % (usual_high(knob) - knob.low + 1)
    return wrapped - wrapped % knob.align


def is_dear(header: bytes, dialect: Dialect) -> bool:
    """Whether an input that begins with these bytes is for a machine with a budget or a pool beyond the usual ones."""
    if len(header) < _DEAR_HEADER:  # such a knob is spelt out
        return False
    machine = decode_machine(Source(header), dialect)
    return any(machine[name] > usual for name, usual in _USUAL.items())


def made_usual(machine: Machine) -> Machine:
    """The machine with the default budget and pool, where those are beyond the usual ones."""
    for name, usual in _USUAL.items():
        if machine[name] > usual:
            machine = machine.replace(name, DEFAULT_MACHINE[name])
    return machine


FULL: Final = dialect_for(EVERYTHING)
"""In which every program can be said; that of all functions here unless they are told another."""
