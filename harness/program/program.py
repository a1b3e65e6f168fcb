"""A program: a machine and the operations run on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from harness.program.definition import Op
from harness.program.kinds.handles import MAX_HANDLES, Handle
from harness.program.machine import DEFAULT_MACHINE, Machine

MAX_OPS: Final = 4096
assert MAX_OPS <= MAX_HANDLES, "a program could make more than there are numbers for"


@dataclass(frozen=True, slots=True)
class Program:
    """What one execution runs. An implicit `init` comes before `ops`.

    Handles are bound when a program is made of ops: an op that makes something and those that use it name the same
    number, whatever became of the ops between them. Then they are numbered anew, from 0 for each kind, in the order
    of their making; uses of what nothing in the program makes have the numbers after these. So a program without one
    of its ops is that: every other use still means what it meant.

    `requires` names what the kernel must have (`harness.program.capabilities`); `comment` is the leading comment of the
    file, without the marks. Raises ValueError above MAX_OPS operations, and for one that the machine's stage does not
    have.
    """

    ops: tuple[Op, ...]
    machine: Machine = field(default=DEFAULT_MACHINE)
    requires: tuple[str, ...] = ()
    comment: str = ""

    def __post_init__(self) -> None:
        if len(self.ops) > MAX_OPS:
            raise ValueError(f"a program has at most {MAX_OPS} ops, got {len(self.ops)}")
        stage = self.machine["stage"]
        has_handles = False
        for op in self.ops:
            definition = op.definition
            if stage not in definition.stages:
                raise ValueError(f"stage {stage} has no {op.name}")
            if definition.makes is not None or definition.handles:
                has_handles = True
        if has_handles:
            object.__setattr__(self, "ops", _numbered(self.ops))

    def prefix(self, length: int) -> Program:
        """The same program cut after its first `length` operations."""
        return Program(self.ops[:length], self.machine, self.requires, self.comment)


Key = tuple[Handle, int]
"""A kind of handle, and a number."""


def _numbered(ops: Sequence[Op]) -> tuple[Op, ...]:
    """The ops with their handles numbered in the order of their making."""
    counts: dict[Handle, int] = {}
    made: list[int | None] = []
    for op in ops:
        kind = op.definition.makes
        made.append(None if kind is None else counts.get(kind, 0))
        if kind is not None:
            counts[kind] = counts.get(kind, 0) + 1
    numbers: dict[Key, int] = {}
    for are_numbered in (True, False):  # an op that no program has numbered yet takes what is left
        for op, number in zip(ops, made, strict=True):
            kind = op.definition.makes
            if kind is not None and number is not None and (op.made is not None) is are_numbered:
                numbers.setdefault((kind, number if op.made is None else op.made), number)
    return tuple(_renumbered(op, number, numbers, counts) for op, number in zip(ops, made, strict=True))


def _renumbered(op: Op, made: int | None, numbers: dict[Key, int], counts: dict[Handle, int]) -> Op:
    """The op that makes number `made`, its handles named by `numbers`; those of what nothing makes are added there,
    counted in `counts`."""
    args = list(op.args)
    for place in op.definition.handles:
        kind = op.definition.args[place].kind
        assert isinstance(kind, Handle)
        number = numbers.get((kind, args[place]))
        if number is None:
            number = min(counts.get(kind, 0), MAX_HANDLES - 1)
            counts[kind] = number + 1
            numbers[kind, args[place]] = number
        args[place] = number
    return op if made == op.made and tuple(args) == op.args else Op(op.definition, tuple(args), made)
