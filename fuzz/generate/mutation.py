"""New inputs from old ones, op by op. Deterministic by the generator passed in.

`harness.program.parts` cuts an input into its ops and their arguments, which are changed and joined anew. What may be
done with an argument follows from its kind and role, so an op or a kind that is added comes along.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate
from random import Random
from typing import Final

from fuzz.generate.at_random import LONGEST_ARGUMENT, bare_machine, random_argument, random_op, with_random_knob
from fuzz.generate.handles import Handles
from harness.program.codec import FULL, Dialect, decode_machine, header_of, is_dear, lengths, made_usual
from harness.program.kinds import Kind, Role
from harness.program.parts import Part, Parts, read_argument, split
from harness.program.source import Source
from harness.program.space import U64_MAX, space_of

_STAY_DEAR: Final = 1 / 500
"""Of what is bred from inputs with a budget or a pool beyond the usual, what stays as dear."""
_MAX_STEPS: Final = 4
_MAX_RUN: Final = 4
"""Ops that are dropped, repeated or moved together."""
_ENTRY_SHIFTS: Final = (0, 1, 2)
"""Places in a space's units: of a page, a block, and what an entry covers above."""


def mutate(data: bytes, choice: Random, dialect: Dialect = FULL) -> bytes:
    """`data` with one to four changes that respect ops and arguments."""
    parts = split(data, dialect)
    _moderate(parts, choice)
    handles = Handles(parts)
    for change in choice.choices(_CHANGES, cum_weights=_SUMS, k=choice.randint(1, _MAX_STEPS)):
        change(parts, handles, choice)
    handles.settle(parts, choice)
    return parts.join()


def mutate_bytes(data: bytes, choice: Random, change: Callable[[bytes, int], bytes], dialect: Dialect = FULL) -> bytes:
    """`data` with the bytes of one argument, or of its machine, as `change` makes them of these and the most that they
    may become."""
    parts = split(data, dialect)
    _moderate(parts, choice)
    handles = Handles(parts)
    places = _arguments(parts)
    if not places or choice.random() < 1 / len(places):
        stage, header = parts.stage, change(parts.header, 2 * len(parts.header) + LONGEST_ARGUMENT)
        parts.header = header_of(decode_machine(Source(header), dialect).replace("stage", stage), dialect)
    else:
        op, index, kind = choice.choice(places)
        changed = change(op[index], LONGEST_ARGUMENT)
        size = lengths(kind)[changed[0] if changed else 0]
        op[index] = kind.normal(changed[:size].ljust(size, b"\0"))
        if kind.role is Role.HANDLE:
            handles.forget(op)
    handles.settle(parts, choice)
    return parts.join()


def crossover(first: bytes, second: bytes, choice: Random, dialect: Dialect = FULL) -> bytes:
    """The beginning of one program and the end of another; or a run of the other's ops in the middle of the first.
    The machine is the first's. Programs of different stages have nothing to exchange: then the first is changed."""
    parts, other = split(first, dialect), split(second, dialect)
    if parts.stage != other.stage:
        return mutate(first, choice, dialect)
    _moderate(parts, choice)
    handles = Handles(parts, other)
    if choice.random() < 0.5:
        parts.ops[_place(parts, choice) :] = other.ops[_place(other, choice) :]
    else:
        at, start = _place(parts, choice), _place(other, choice)
        parts.ops[at:at] = other.ops[start : start + choice.randint(1, _MAX_RUN)]
    handles.settle(parts, choice)
    return parts.join()


def _moderate(parts: Parts, choice: Random) -> None:
    """Breed mostly from the same ops on a usual machine where an input's own has a budget or a pool beyond these, for
    its descendants would take some hundred times as long as others."""
    if is_dear(parts.header, parts.dialect) and choice.random() >= _STAY_DEAR:
        parts.header = header_of(made_usual(parts.machine), parts.dialect)


def _place(parts: Parts, choice: Random) -> int:
    """The number of an op, or the end's."""
    return choice.randint(0, len(parts.ops))


def _run(parts: Parts, choice: Random) -> slice:
    """Some ops in a row, mostly one."""
    start = _place(parts, choice)
    return slice(start, start + (1 if choice.random() < 0.6 else choice.randint(1, _MAX_RUN)))


def _insert(parts: Parts, _handles: Handles, choice: Random) -> None:
    parts.ops.insert(_place(parts, choice), random_op(choice, parts.dialect, parts.stage))


def _drop(parts: Parts, _handles: Handles, choice: Random) -> None:
    del parts.ops[_run(parts, choice)]


def _duplicate(parts: Parts, handles: Handles, choice: Random) -> None:
    at = _place(parts, choice)
    parts.ops[at:at] = handles.copied(parts.ops[_run(parts, choice)])


def _move(parts: Parts, _handles: Handles, choice: Random) -> None:
    run = _run(parts, choice)
    moved = parts.ops[run]
    del parts.ops[run]
    at = _place(parts, choice)
    parts.ops[at:at] = moved


_Argument = tuple[Part, int, Kind]
"""An op, the number of a part of it, and the kind of argument that this is."""


def _arguments(parts: Parts, role: Role | None = None) -> list[_Argument]:
    """Every argument of that role, or of any."""
    return [
        (op, index, arg.kind)
        for op in parts.ops
        for index, arg in enumerate(parts.definition(op).args, start=1)
        if role is None or arg.kind.role is role
    ]


def _pick(parts: Parts, choice: Random, role: Role | None = None) -> _Argument | None:
    places = _arguments(parts, role)
    return choice.choice(places) if places else None


def _retarget(parts: Parts, _handles: Handles, choice: Random) -> None:
    """Give one op another's address, or its neighbour's, so that they meet."""
    places = _arguments(parts, Role.ADDRESS)
    if len(places) < 2:
        return
    (op, index, kind), (other, other_index, other_kind) = choice.sample(places, 2)
    space = space_of(parts.machine)
    step = 0
    if choice.random() < 0.3:
        step = choice.choice((1, -1)) << space.units[choice.choice(_ENTRY_SHIFTS)]
    elif kind is other_kind:
        op[index] = other[other_index]
        return
    address = read_argument(other_kind, other[other_index], space, 0) + step
    op[index] = kind.encode(address & U64_MAX, space, 0)


def _rechoose(parts: Parts, handles: Handles, choice: Random) -> None:
    """Choose one argument anew: an address, a size, a protection, a flag."""
    place = _pick(parts, choice)
    if place is not None:
        op, index, kind = place
        op[index] = random_argument(kind, choice)
        if kind.role is Role.HANDLE:
            handles.forget(op)


def _resize(parts: Parts, _handles: Handles, choice: Random) -> None:
    """Let one op work on a level's size more or less, or on one page more or less."""
    place = _pick(parts, choice, Role.SIZE)
    if place is None:
        return
    op, index, kind = place
    space = space_of(parts.machine)
    address = parts.address(op, space)
    size = read_argument(kind, op[index], space, address)
    sizes = [size // space.granule.entries, size + space.page, size - space.page, size * 2]
    if not kind.is_pagewise and address % space.block == 0:  # else a level more would only spend the budget
        sizes.append(size * space.granule.entries)
    op[index] = kind.encode(choice.choice(sizes) & U64_MAX, space, address)


def _flip_flag(parts: Parts, _handles: Handles, choice: Random) -> None:
    """Set or clear one flag or protection."""
    place = _pick(parts, choice, Role.FLAGS)
    if place is not None:
        op, index, kind = place
        space = space_of(parts.machine)
        known = parts.dialect.capabilities.bits(kind)
        bits = [bit for bit in kind.bits.values() if bit & known]
        if bits:
            value = read_argument(kind, op[index], space, 0) ^ choice.choice(bits)
            op[index] = kind.encode(value & known, space, 0)


def _to_an_edge(parts: Parts, _handles: Handles, choice: Random) -> None:
    """Move some arguments of one op to boundaries: the limit and its neighbours, table ends, odd sizes."""
    if not parts.ops:
        return
    op = choice.choice(parts.ops)
    for index, arg in enumerate(parts.definition(op).args, start=1):
        edges = arg.kind.edges
        if edges and choice.random() < 0.5:
            op[index] = choice.choice(edges)


def _change_machine(parts: Parts, _handles: Handles, choice: Random) -> None:
    """Choose one knob anew, or go back to the default machine."""
    if choice.random() < 0.3:
        machine = bare_machine(parts.dialect, parts.stage)
    else:
        machine = with_random_knob(parts.machine, choice, parts.dialect)
    parts.header = header_of(machine, parts.dialect)


_Change = Callable[[Parts, Handles, Random], None]
_WEIGHTS: Final[dict[_Change, int]] = {
    _insert: 2,
    _drop: 1,
    _duplicate: 2,
    _move: 1,
    _retarget: 3,
    _rechoose: 3,
    _resize: 2,
    _flip_flag: 1,
    _to_an_edge: 2,
    _change_machine: 2,
}
_CHANGES: Final = tuple(_WEIGHTS)
_SUMS: Final = tuple(accumulate(_WEIGHTS.values()))
