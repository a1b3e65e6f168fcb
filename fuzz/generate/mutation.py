"""New inputs from old ones, op by op. Deterministic by the generator passed in.

`harness.program.parts.split` cuts an input into its ops and their arguments, which are changed and joined anew. The
definitions and the kinds of their arguments drive everything, so an op that is added comes along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import Final

from fuzz.generate.fresh import random_argument, random_op
from harness.program.codec import DEFAULT, Dialect, fitting, header_of, is_dear, knob_value, made_usual
from harness.program.granule import GRANULES
from harness.program.kinds.kind import Kind, Role
from harness.program.machine import Machine
from harness.program.parts import Part, Parts, read_argument, split
from harness.program.space import U64_MAX, space_of

_STAY_DEAR: Final = 1 / 500
"""Of what is bred from one of these, what stays as dear."""
_MAX_STEPS: Final = 4
_MAX_RUN: Final = 4
"""Ops that are dropped, repeated or moved together."""


def moderate(data: bytes, choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """What to breed from instead of `data`: mostly the same ops on a usual machine where its own has a budget or a pool
    beyond these, for its descendants would take some hundred times as long as others; else the same."""
    parts = split(data, dialect)
    _moderate(parts, choice)
    return parts.join()


def _moderate(parts: Parts, choice: Random) -> None:
    if is_dear(parts.header, parts.dialect) and choice.random() >= _STAY_DEAR:
        parts.header = header_of(made_usual(parts.machine), parts.dialect)


def mutate(data: bytes, choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """`data` with one to four changes that respect ops and arguments. It is moderated first, as for `moderate`."""
    parts = split(data, dialect)
    _moderate(parts, choice)
    for _ in range(choice.randint(1, _MAX_STEPS)):
        choice.choice(_CHANGES)(parts, choice)
    return parts.join()


def crossover(first: bytes, second: bytes, choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """The beginning of one program and the end of another; or a run of the other's ops in the middle of the first.
    The machine is the first's. Programs of different stages have nothing to exchange: then the first is changed."""
    parts, other = split(first, dialect), split(second, dialect)
    if parts.stage != other.stage:
        return mutate(first, choice, dialect)
    _moderate(parts, choice)
    if choice.random() < 0.5:
        parts.ops[_place(parts, choice) :] = other.ops[_place(other, choice) :]
    else:
        at, start = _place(parts, choice), _place(other, choice)
        parts.ops[at:at] = other.ops[start : start + choice.randint(1, _MAX_RUN)]
    return parts.join()


def _place(parts: Parts, choice: Random) -> int:
    """The number of an op, or the end's."""
    return choice.randint(0, len(parts.ops))


def _run(parts: Parts, choice: Random) -> slice:
    """Some ops in a row, mostly one."""
    start = _place(parts, choice)
    return slice(start, start + (1 if choice.random() < 0.6 else choice.randint(1, _MAX_RUN)))


def _insert(parts: Parts, choice: Random) -> None:
    at = _place(parts, choice)
    parts.ops[at:at] = [random_op(choice, parts.dialect, parts.stage)]


def _drop(parts: Parts, choice: Random) -> None:
    del parts.ops[_run(parts, choice)]


def _duplicate(parts: Parts, choice: Random) -> None:
    at = _place(parts, choice)
    parts.ops[at:at] = [list(op) for op in parts.ops[_run(parts, choice)]]


def _move(parts: Parts, choice: Random) -> None:
    run = _run(parts, choice)
    moved = parts.ops[run]
    del parts.ops[run]
    at = _place(parts, choice)
    parts.ops[at:at] = moved


def _arguments(parts: Parts, *roles: Role) -> Iterator[tuple[Part, int, Kind]]:
    """Every argument of these roles (of any, where none is named): the op, its part's number there, the kind."""
    for op in parts.ops:
        for index, arg in enumerate(parts.definition(op).args, start=1):
            if not roles or arg.kind.role in roles:
                yield op, index, arg.kind


def _pick(parts: Parts, choice: Random, *roles: Role) -> tuple[Part, int, Kind] | None:
    places = list(_arguments(parts, *roles))
    return choice.choice(places) if places else None


def _retarget(parts: Parts, choice: Random) -> None:
    """Give one op another's address, or its neighbour's, so that they meet."""
    places = list(_arguments(parts, Role.ADDRESS))
    if len(places) < 2:
        return
    (op, index, kind), (other, other_index, _) = choice.sample(places, 2)
    op[index] = other[other_index]
    if choice.random() < 0.3:
        space = space_of(parts.machine)
        step = choice.choice((space.page, space.block, 1 << space.units[2])) * choice.choice((1, -1))
        value = read_argument(kind, op[index], space, 0) + step
        op[index] = kind.encode(value & U64_MAX, space, 0)


def _rechoose(parts: Parts, choice: Random) -> None:
    """Choose one argument anew: an address, a size, a protection, a flag."""
    place = _pick(parts, choice)
    if place is not None:
        op, index, kind = place
        op[index] = random_argument(kind, choice)


def _resize(parts: Parts, choice: Random) -> None:
    """Let one op work on a level's size more or less, or on one page more or less."""
    place = _pick(parts, choice, Role.SIZE)
    if place is None:
        return
    op, index, kind = place
    space = space_of(parts.machine)
    ipa = parts.address(op, space)
    size = read_argument(kind, op[index], space, ipa)
    sizes = [size // space.granule.entries, size + space.page, size - space.page, size * 2]
    if not kind.is_pagewise and ipa % space.block == 0:  # else a level more, page by page, would only spend the budget
        sizes.append(size * space.granule.entries)
    op[index] = kind.encode(choice.choice(sizes) & U64_MAX, space, ipa)


def _flip_flag(parts: Parts, choice: Random) -> None:
    """Set or clear one flag or protection."""
    place = _pick(parts, choice, Role.FLAGS)
    if place is not None:
        op, index, kind = place
        space = space_of(parts.machine)
        bits = [bit for bit in kind.bits.values() if bit & parts.dialect.capabilities.bits(kind)]
        if bits:
            value = read_argument(kind, op[index], space, 0) ^ choice.choice(bits)
            op[index] = kind.encode(value, space, 0)


def _to_an_edge(parts: Parts, choice: Random) -> None:
    """Move some arguments of one op to boundaries: the limit and its neighbours, table ends, odd sizes."""
    if not parts.ops:
        return
    op = choice.choice(parts.ops)
    for index, arg in enumerate(parts.definition(op).args, start=1):
        if arg.kind.edges and choice.random() < 0.5:
            op[index] = choice.choice(arg.kind.edges)


def _change_machine(parts: Parts, choice: Random) -> None:
    """Choose one knob anew, or go back to the default machine; of the same stage, for the other has other ops."""
    if choice.random() < 0.3:
        granule = GRANULES.index(parts.dialect.granule)
        parts.header = header_of(Machine.of(stage=parts.stage, granule=granule), parts.dialect)
        return
    knob = choice.choice([knob for knob in parts.dialect.knobs if knob.name != "stage"])
    machine = fitting(parts.machine, knob, knob_value(knob, choice.randrange(256)))
    parts.header = header_of(machine, parts.dialect)


_CHANGES: Final[tuple[Callable[[Parts, Random], None], ...]] = (
    _insert,
    _insert,
    _drop,
    _duplicate,
    _duplicate,
    _move,
    _retarget,
    _retarget,
    _retarget,
    _rechoose,
    _rechoose,
    _rechoose,
    _resize,
    _resize,
    _flip_flag,
    _to_an_edge,
    _to_an_edge,
    _change_machine,
    _change_machine,
)
