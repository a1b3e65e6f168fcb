"""A program: a machine and the operations run on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from harness.program.definition import MAX_UNLINKED, Op
from harness.program.machine import DEFAULT_MACHINE, Machine

MAX_OPS: Final = 4096
assert MAX_OPS <= MAX_UNLINKED, "a program could make more unlinked tables than have numbers"


@dataclass(frozen=True, slots=True)
class Program:
    """What one execution runs. An implicit `init` comes before `ops`.

    `requires` names what the kernel must offer (`harness.program.capabilities`); `comment` is the leading comment of
    the file, without the marks. Raises ValueError above MAX_OPS operations, and for one that the machine's stage does
    not have.
    """

    ops: tuple[Op, ...]
    machine: Machine = field(default=DEFAULT_MACHINE)
    requires: tuple[str, ...] = ()
    comment: str = ""

    def __post_init__(self) -> None:
        if len(self.ops) > MAX_OPS:
            raise ValueError(f"a program has at most {MAX_OPS} ops, got {len(self.ops)}")
        stage = self.machine["stage"]
        for op in self.ops:
            if stage not in op.definition.stages:
                raise ValueError(f"stage {stage} has no {op.name}")

    def prefix(self, length: int) -> Program:
        """The same program cut after its first `length` operations."""
        return Program(self.ops[:length], self.machine, self.requires, self.comment)
