"""What an operation is: its number and name, arguments and results, and who carries it out.

CONTRIBUTING.md says how to add one. The definitions themselves are in `harness.program.ops`, by family.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.program.kinds.handles import Handle
from harness.program.kinds.kind import Kind, Role
from harness.program.kunit import UNSAYABLE, KUnit
from harness.program.results import OF_HARDWARE, Result

MAX_NUMBER: Final = 256
"""Of an op: one byte of the binary form holds it, less one."""


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument: `key=value` in the text form. `default` may be left out there, and what older bytes lack has it."""

    name: str
    kind: Kind
    default: int | None = None
    limit: int = field(init=False, repr=False, compare=False)
    forbidden: int = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The kind's own, here because every op that is made asks for them.
        object.__setattr__(self, "limit", self.kind.limit)
        object.__setattr__(self, "forbidden", self.kind.forbidden)

    def allows(self, value: int) -> bool:
        """Whether `value` can be carried out by both sides."""
        return 0 <= value <= self.limit and not value & self.forbidden

    def cost(self, value: int, page: int) -> int:
        """How far from simple a value is for this argument: its default is not even written. `page` in bytes."""
        return 0 if value == self.default else self.kind.cost(value, page)

    def simpler(self, value: int, page: int) -> list[int]:
        """Values to try in place of `value`, the simplest first."""
        now = self.cost(value, page)
        proposed = set(self.kind.proposed(value, page))
        if self.default is not None:
            proposed.add(self.default)
        found = [one for one in proposed if self.allows(one) and self.cost(one, page) < now]
        return sorted(found, key=lambda one: (self.cost(one, page), one))


@dataclass(frozen=True, slots=True)
class OpDef:
    """One operation.

    `number` is part of the binary form and of what the test kernel reads: from 1 to MAX_NUMBER, never used again.
    `results` it yields besides its return code; `repeats` says that they come as any number of such groups (a walk's
    visits). `stages` are those whose tables have it. `weight` is how often the fuzzer chooses it, out of all weights of
    a stage; `scenario` names the step that plays it on purpose (`fuzz.generate.scenarios`).

    `functions` are the C functions that carry it out, with the signatures that our half can call (none: it only has to
    be declared); a tree that lacks one lacks the op, as does a side that lacks what `needs` names, in the words of
    `Capabilities.lacks`. `kunit` is how a KUnit case says it.

    `makes` is what it makes, if anything, and `ends` whether it ends what its handle argument stands for.
    """

    number: int
    name: str
    args: tuple[Arg, ...]
    summary: str
    weight: int
    results: tuple[Result, ...] = ()
    repeats: bool = False
    stages: tuple[int, ...] = (2,)
    functions: Mapping[str, tuple[str, ...]] = field(default_factory=dict, compare=False)
    needs: tuple[str, ...] = ()
    makes: Handle | None = None
    ends: bool = False
    kunit: KUnit = UNSAYABLE
    scenario: str = ""
    address: int | None = field(init=False, compare=False)
    """Which argument is the address that it works on, if any: the first of its role."""
    size: int | None = field(init=False, compare=False)
    handles: tuple[int, ...] = field(init=False, compare=False)
    """Which arguments are handles."""
    asks_hardware: bool = field(init=False, compare=False)
    """Whether its result is what the hardware makes of the table."""

    def __post_init__(self) -> None:
        if not 1 <= self.number <= MAX_NUMBER:
            raise ValueError(f"{self.name}: ops have numbers from 1 to {MAX_NUMBER}, got {self.number}")
        object.__setattr__(self, "address", next(self._with(Role.ADDRESS), None))
        object.__setattr__(self, "size", next(self._with(Role.SIZE), None))
        object.__setattr__(self, "handles", tuple(self._with(Role.HANDLE)))
        object.__setattr__(self, "asks_hardware", any(result.type in OF_HARDWARE for result in self.results))

    def _with(self, role: Role) -> Iterator[int]:
        return (place for place, arg in enumerate(self.args) if arg.kind.role is role)

    def __hash__(self) -> int:
        return self.number


@dataclass(frozen=True, slots=True)
class Op:
    """One operation with its arguments, in the definition's order. `made` is the number of what it makes, where it
    makes something: a program gives it (`Program`).

    Raises ValueError when the number of arguments or a value does not fit the definition.
    """

    definition: OpDef
    args: tuple[int, ...]
    made: int | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        expected = self.definition.args
        if len(self.args) != len(expected):
            raise ValueError(f"{self.definition.name} takes {len(expected)} arguments, got {len(self.args)}")
        for arg, value in zip(expected, self.args, strict=True):
            if not arg.allows(value):
                raise ValueError(f"{self.definition.name}: {arg.name}={value:#x} is out of range")

    @property
    def name(self) -> str:
        return self.definition.name

    def value(self, name: str) -> int:
        """The argument of that name. Raises StopIteration for one that it does not have."""
        return next(value for arg, value in zip(self.definition.args, self.args, strict=True) if arg.name == name)


class Definitions:
    """Operations by name and number. Raises ValueError where two share one."""

    def __init__(self, ops: Iterable[OpDef]) -> None:
        self.ops: Final = tuple(sorted(ops, key=lambda op: op.number))
        self.by_name: Final[Mapping[str, OpDef]] = {op.name: op for op in self.ops}
        self.by_number: Final[Mapping[int, OpDef]] = {op.number: op for op in self.ops}
        if not len(self.ops) == len(self.by_name) == len(self.by_number):
            raise ValueError("two operations have the same name or number")
        self.kinds: Final = tuple(dict.fromkeys(arg.kind for op in self.ops for arg in op.args))
        """Of their arguments, each once."""

    def op(self, name: str, **args: int) -> Op:
        """An op by name; arguments left out take their defaults. KeyError names what is unknown or missing."""
        definition = self.by_name[name]
        unknown = args.keys() - {arg.name for arg in definition.args}
        if unknown:
            raise KeyError(f"{name} has no argument {min(unknown)}")
        values = []
        for arg in definition.args:
            value = args.get(arg.name, arg.default)
            if value is None:
                raise KeyError(f"{name} needs {arg.name}")
            values.append(value)
        return Op(definition, tuple(values))
