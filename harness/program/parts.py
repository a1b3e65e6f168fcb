"""An input cut where it may be joined anew: for who makes new inputs of old ones."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from harness.program.codec import DEFAULT, FRAME_HEAD, Dialect, Plan, decode_machine, frame
from harness.program.definition import OpDef
from harness.program.kinds.kind import Kind
from harness.program.machine import DEFAULT_MACHINE, Machine
from harness.program.program import MAX_OPS
from harness.program.source import CHOICES, Source
from harness.program.space import Space, space_of

Part = list[bytes]
"""An op: the byte of its number, then its arguments' bytes, each by itself."""


@dataclass(slots=True)
class Parts:
    """An input, cut where it may be joined anew. `header` is the machine's bytes. What an argument's bytes mean may
    depend on the op's address, how many they are does not, so any argument of the same kind may stand in its place.
    Ops may join those of the same `stage` only."""

    header: bytes
    stage: int
    ops: list[Part]
    dialect: Dialect

    def join(self) -> bytes:
        """As one input again."""
        return self.header + b"".join([frame(op) for op in self.ops])

    @property
    def machine(self) -> Machine:
        """What the header says."""
        return decode_machine(Source(self.header), self.dialect)

    def definition(self, op: Part) -> OpDef:
        """Which op one of `ops` is."""
        plan = self.dialect.plan(self.stage, op[0][0])
        assert plan is not None, "only ops that there are become parts"
        return plan.definition

    def address(self, op: Part, space: Space) -> int:
        """The address that an op works on; 0 for one that works on none."""
        definition = self.definition(op)
        if definition.address is None:
            return 0
        return read_argument(definition.args[definition.address].kind, op[1 + definition.address], space, 0)


def split(data: bytes, dialect: Dialect | None = None) -> Parts:
    """The parts of an input. Frames of no op and flags of no name are left out; what is missing of an op's arguments is
    filled up, with its default or with zeros. Never raises."""
    dialect = dialect or DEFAULT
    source = Source(data)
    machine = decode_machine(source, dialect)
    stage, space = machine["stage"], space_of(machine)
    at, end = source.at, len(data)
    header = data[:at].ljust(at, b"\0")
    plans = dialect.plans(stage)
    ops: list[Part] = []
    while at < end and len(ops) < MAX_OPS:
        plan = plans[data[at]]
        size = data[at + 1] if at + 1 < end else 0
        if plan is not None:
            body = data[at + FRAME_HEAD : at + FRAME_HEAD + size]
            ops.append([data[at : at + 1], *_arguments(plan, body, space)])
        at += FRAME_HEAD + size
    return Parts(header, stage, ops, dialect)


def _arguments(plan: Plan, body: bytes, space: Space) -> list[bytes]:
    parts: list[bytes] = []
    at = 0
    for place, kind in enumerate(plan.kinds):
        default = plan.defaults[place]
        if at >= len(body) and default is not None:
            parts.append(kind.encode(default, space, 0))
            continue
        size = lengths(kind)[body[at] if at < len(body) else 0]
        parts.append(normal(kind, body[at : at + size].ljust(size, b"\0"), space))
        at += size
    return parts


def normal(kind: Kind, part: bytes, space: Space) -> bytes:
    """An argument's bytes without bits that mean nothing yet: flags that are added must not change what is there."""
    return kind.encode(kind.decode(Source(part), space, 0), space, 0) if kind.bits and part[0] >= CHOICES else part


@functools.cache
def lengths(kind: Kind) -> tuple[int, ...]:
    """Of an argument of a kind, in bytes, by its first one."""
    space, found = space_of(DEFAULT_MACHINE), []
    for first in range(_BYTES):
        source = Source(bytes((first,)))
        kind.decode(source, space, 0)
        found.append(source.at)
    return tuple(found)


_BYTES: Final = 256


def read_argument(kind: Kind, part: bytes, space: Space, address: int) -> int:
    """What an argument's bytes mean in a machine with such addresses, in an op at `address`."""
    return kind.decode(Source(part), space, address)
