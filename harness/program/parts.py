"""An input cut where it may be joined anew: for who makes new inputs of old ones."""

from __future__ import annotations

from dataclasses import dataclass

from harness.program.codec import FRAME_HEAD, FULL, Dialect, Plan, decode_machine, frame
from harness.program.definition import OpDef
from harness.program.kinds.kind import Kind
from harness.program.machine import Machine
from harness.program.program import MAX_OPS
from harness.program.source import Source
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
    dialect = dialect or FULL
    source = Source(data)
    machine = decode_machine(source, dialect)
    stage = machine["stage"]
    at, end = source.at, len(data)
    header = data[:at].ljust(at, b"\0")
    plans = dialect.plans(stage)
    ops: list[Part] = []
    while at < end and len(ops) < MAX_OPS:
        plan = plans[data[at]]
        size = data[at + 1] if at + 1 < end else 0
        if plan is not None:
            body = data[at + FRAME_HEAD : at + FRAME_HEAD + size]
            ops.append([data[at : at + 1], *_arguments(plan, body, machine)])
        at += FRAME_HEAD + size
    return Parts(header, stage, ops, dialect)


def _arguments(plan: Plan, body: bytes, machine: Machine) -> list[bytes]:
    parts: list[bytes] = []
    at, end = 0, len(body)
    for place, lengths in enumerate(plan.lengths):
        if at >= end:
            default = plan.defaults[place]
            parts.append(
                bytes(lengths[0]) if default is None else plan.kinds[place].encode(default, space_of(machine), 0)
            )
            continue
        first = body[at]
        size = lengths[first]
        part = body[at : at + size]
        at += size
        if at > end:
            part = part.ljust(size, b"\0")
        parts.append(plan.kinds[place].normal(part) if plan.masks[place] >= 0 else part)
    return parts


def read_argument(kind: Kind, part: bytes, space: Space, address: int) -> int:
    """What an argument's bytes mean in a machine with such addresses, in an op at `address`."""
    return kind.decode(Source(part), space, address)
