"""What a side offers to programs. Kernels differ in the operations, flags and settings that they have, and a program
that asks for more than a side offers is refused; what is generated asks for what both sides of a run offer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from harness.errors import CannotRun
from harness.program.definition import Definitions, OpDef
from harness.program.kinds.kind import Kind
from harness.program.machine import KNOBS
from harness.program.ops import STANDARD
from harness.program.program import Program

_FEATURES: Final = frozenset({"stage1", "stage2"})
"""What `requires` may name besides operations and the machine's granule; every side has them."""


def flag_word(kind: Kind, name: str) -> str:
    """How one bit of a flags argument is called in `Capabilities.lacks`: `prot nc`, `map flags shared`."""
    return f"{kind.name} {name}"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Everything that a program can say, but for `lacks`: names of operations, of settings (which then have to keep
    their defaults), and flags as `flag_word` calls them. An operation that needs any of these is lacking too.
    `definitions` are the operations that there are at all. ValueError for what no program can say anyway."""

    lacks: frozenset[str] = frozenset()
    definitions: Definitions = field(default=STANDARD, repr=False)
    ops: tuple[OpDef, ...] = field(init=False, compare=False, repr=False)
    """Those that it has, in their order."""
    _numbers: frozenset[int] = field(init=False, compare=False, repr=False)
    _bits: dict[Kind, int] = field(init=False, compare=False, repr=False)
    _knobs: tuple[int, ...] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        known = self.definitions
        flags = {flag_word(kind, name): (kind, bit) for kind in known.kinds for name, bit in kind.bits.items()}
        unknown = self.lacks - {*flags, *known.by_name, *(knob.name for knob in KNOBS)}
        if unknown:
            raise ValueError(f"no program can say {', '.join(sorted(unknown))}")
        lacks = self.lacks | {op.name for op in known.ops if not self.lacks.isdisjoint(op.needs)}
        bits: dict[Kind, int] = {}
        for kind, bit in (flags[word] for word in lacks.intersection(flags)):
            bits[kind] = bits.get(kind, 0) | bit
        object.__setattr__(self, "lacks", lacks)
        object.__setattr__(self, "ops", tuple(op for op in known.ops if op.name not in lacks))
        object.__setattr__(self, "_numbers", frozenset(op.number for op in known.ops if op.name in lacks))
        object.__setattr__(self, "_bits", bits)
        object.__setattr__(self, "_knobs", tuple(i for i, knob in enumerate(KNOBS) if knob.name in lacks))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it was made from: the class may be a compiled one where it is unpickled."""
        return Capabilities, (self.lacks,)

    def __and__(self, other: Capabilities) -> Capabilities:
        """What both offer."""
        return Capabilities(self.lacks | other.lacks, self.definitions)

    def bits(self, kind: Kind) -> int:
        """Of a flags kind, the bits on offer."""
        return kind.limit & ~self._bits.get(kind, 0)

    def has(self, *names: str) -> bool:
        """Whether all operations of these names are there."""
        return self.lacks.isdisjoint(names)

    def check(self, program: Program, name: str) -> None:
        """Raise CannotRun when the side `name`, which offers this much, cannot run the program."""
        if program.requires or self._asked_in_vain(program):
            missing = dict.fromkeys([*self._required(program), *self._missing(program)])
            if missing:
                raise CannotRun(f"{name} lacks {', '.join(missing)}")

    def _asked_in_vain(self, program: Program) -> bool:
        """Whether anything is missing; quick, for it is asked of every program that runs."""
        if not self._numbers.isdisjoint([op.definition.number for op in program.ops]):
            return True
        return bool(self._bits or self._knobs) and any(True for _ in self._missing(program))

    def _required(self, program: Program) -> list[str]:
        has = _FEATURES | {program.machine.granule.name} | {op.name for op in self.ops}
        return [word for word in program.requires if word not in has]

    def _missing(self, program: Program) -> Iterator[str]:
        machine = program.machine
        yield from (KNOBS[i].name for i in self._knobs if machine.values[i] != KNOBS[i].default)
        for op in program.ops:
            if op.definition.number in self._numbers:
                yield op.name
            for arg, value in zip(op.definition.args, op.args, strict=True):
                lacking = value & self._bits.get(arg.kind, 0)
                if lacking:
                    yield from (flag_word(arg.kind, flag) for flag, bit in arg.kind.bits.items() if bit & lacking)


EVERYTHING: Final = Capabilities()
"""More than any one kernel offers."""
