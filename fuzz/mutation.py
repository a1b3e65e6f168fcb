"""New inputs from old ones, op by op, and sensible programs from nothing. Deterministic by the generator passed in.

Inputs stay bytes: `harness.codec.layout` says where ops and arguments begin, and any cut there can be joined to any
other. The tables in `harness.ops` drive everything, so an op that is added comes along.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from random import Random
from typing import Final

from harness.codec import BOUNDARY_CHOICES, encode, layout
from harness.machine import Machine
from harness.ops import PROT_BITS, Kind, Op
from harness.program import Program

FRESH_SIZES: Final = (32, 112)
"""Bytes of an input made of random choices: about 4 to 14 ops."""
_MAX_STEPS: Final = 3

_PAGE: Final = 1 << 12
_BLOCK: Final = 1 << 21
_GIB: Final = 1 << 30
_RWX: Final = PROT_BITS["r"] | PROT_BITS["w"] | PROT_BITS["x"]
_RW: Final = PROT_BITS["r"] | PROT_BITS["w"]
_MEMORY: Final = 0x8000_0000
"""Physical minus intermediate address of the memory of the machines below."""


def random_input(choice: Random) -> bytes:
    """Random choices all the way."""
    return choice.randbytes(choice.randint(*FRESH_SIZES))


def mutate(data: bytes, choice: Random) -> bytes:
    """`data` with one to three changes that respect ops and arguments."""
    for _ in range(choice.randint(1, _MAX_STEPS)):
        data = choice.choice(_CHANGES)(data, choice)
    return data


def crossover(first: bytes, second: bytes, choice: Random) -> bytes:
    """The beginning of one program and the end of another; the machine is the first's."""
    return first[: _place(first, choice)] + second[_place(second, choice) :]


def _place(data: bytes, choice: Random) -> int:
    """Where an op begins, or the end."""
    parts = layout(data)
    return choice.choice([parts.header, *(cuts[-1] for _, cuts in parts.ops)])


def _span(data: bytes, choice: Random) -> tuple[int, int]:
    """One op's bytes; empty where there is none."""
    ops = layout(data).ops
    if not ops:
        return len(data), len(data)
    cuts = choice.choice(ops)[1]
    return cuts[0], cuts[-1]


def _insert(data: bytes, choice: Random) -> bytes:
    at = _place(data, choice)
    return data[:at] + choice.randbytes(choice.randint(4, 12)) + data[at:]


def _drop(data: bytes, choice: Random) -> bytes:
    start, end = _span(data, choice)
    return data[:start] + data[end:]


def _duplicate(data: bytes, choice: Random) -> bytes:
    start, end = _span(data, choice)
    at = _place(data, choice)
    return data[:at] + data[start:end] + data[at:]


def _move(data: bytes, choice: Random) -> bytes:
    start, end = _span(data, choice)
    rest = data[:start] + data[end:]
    at = _place(rest, choice)
    return rest[:at] + data[start:end] + rest[at:]


def _retarget(data: bytes, choice: Random) -> bytes:
    """Give one op another's address, so that they meet."""
    places = [
        (cuts[index + 1], cuts[index + 2])
        for definition, cuts in layout(data).ops
        for index, arg in enumerate(definition.args)
        if arg.kind is Kind.IPA
    ]
    if len(places) < 2:
        return data
    (start, end), (from_start, from_end) = choice.sample(places, 2)
    return data[:start] + data[from_start:from_end] + data[end:]


def _rechoose(data: bytes, choice: Random) -> bytes:
    """Choose one argument anew: an address, a size, a protection, a flag."""
    places = [pair for _, cuts in layout(data).ops for pair in pairwise(cuts[1:])]
    if not places:
        return data
    start, end = choice.choice(places)
    return data[:start] + choice.randbytes(max(end - start, 1)) + data[end:]


def _to_an_edge(data: bytes, choice: Random) -> bytes:
    """Move some arguments of one op to boundaries: the limit and its neighbours, table ends, odd sizes."""
    ops = layout(data).ops
    if not ops:
        return data
    definition, cuts = choice.choice(ops)
    out = data[: cuts[1]]
    for arg, (start, end) in zip(definition.args, pairwise(cuts[1:]), strict=True):
        edges = BOUNDARY_CHOICES.get(arg.kind)
        out += bytes((choice.choice(edges),)) if edges and choice.random() < 0.5 else data[start:end]
    return out + data[cuts[-1] :]


def _change_machine(data: bytes, choice: Random) -> bytes:
    return choice.randbytes(3) + data[layout(data).header :]


_CHANGES: Final[tuple[Callable[[bytes, Random], bytes], ...]] = (
    _insert,
    _drop,
    _duplicate,
    _move,
    _retarget,
    _retarget,
    _rechoose,
    _rechoose,
    _rechoose,
    _to_an_edge,
    _change_machine,
)


def life(choice: Random) -> bytes:
    """A virtual machine's life: memory is mapped, handed over and back, logged page by page, merged again, looked at,
    and torn down. Depth then does not depend on luck."""
    base = choice.choice((0, _BLOCK, 3 * _BLOCK, _GIB, 2 * _GIB))
    scenes = (_boot, _fault, _fault, _share, _reclaim, _log, _merge, _look, _shrink)
    ops: list[Op] = _boot(base, choice)
    for _ in range(choice.randint(4, 12)):
        near = base + choice.choice((0, 0, 0, _BLOCK, _GIB))
        ops += choice.choice(scenes)(near, choice)
    if choice.random() < 0.3:
        ops.append(Op.of("destroy"))
    knobs = {"fwb": choice.getrandbits(1), "tlb_range": choice.getrandbits(1)} if choice.random() < 0.4 else {}
    return encode(Program(tuple(ops), Machine.of(**knobs)))


def _page(base: int, choice: Random) -> int:
    return base + choice.choice((0, 1, 2, 3, 510, 511)) * _PAGE


def _map(ipa: int, size: int, prot: int, choice: Random) -> Op:
    flags = 1 << 4 if choice.random() < 0.2 else 0
    return Op.of("map", ipa=ipa, size=size, phys=ipa + _MEMORY, prot=prot, mc=choice.choice((5, 5, 4, 3)), flags=flags)


def _boot(base: int, choice: Random) -> list[Op]:
    size = choice.choice((_BLOCK, 2 * _BLOCK, _GIB if base % _GIB == 0 else _BLOCK))
    return [_map(base, size, _RWX, choice)]


def _fault(base: int, choice: Random) -> list[Op]:
    prot = choice.choice((_RWX, _RW, _RW | PROT_BITS["device"], PROT_BITS["r"]))
    return [_map(_page(base, choice), choice.choice((1, 1, 2, 4)) * _PAGE, prot, choice)]


def _share(base: int, choice: Random) -> list[Op]:
    size = choice.choice((1, 2, 3)) * _PAGE
    return [Op.of("set_owner", ipa=_page(base, choice), size=size, mc=5, owner=1)]


def _reclaim(base: int, choice: Random) -> list[Op]:
    page = _page(base, choice)
    return [Op.of("set_owner", ipa=page, size=_PAGE, mc=5, owner=0), _map(page, _PAGE, _RWX, choice)]


def _log(base: int, choice: Random) -> list[Op]:
    """Dirty logging splits a block: one page is mapped inside it."""
    return [_map(base, _BLOCK, _RW, choice), _map(_page(base, choice), _PAGE, _RW, choice)]


def _merge(base: int, choice: Random) -> list[Op]:
    big = base % _GIB == 0 and choice.random() < 0.3
    return [_map(base, _GIB if big else _BLOCK, _RWX, choice)]


def _look(base: int, choice: Random) -> list[Op]:
    flags = choice.choice((1, 3, 5, 6, 7))
    walk = Op.of("walk", ipa=_page(base, choice), size=choice.choice((1, 4, 16)) * _PAGE, flags=flags)
    return [walk, Op.of("get_leaf", ipa=_page(base, choice))]


def _shrink(base: int, choice: Random) -> list[Op]:
    size = choice.choice((_PAGE, 4 * _PAGE, _BLOCK, 2 * _BLOCK))
    return [Op.of("unmap", ipa=choice.choice((base, _page(base, choice))), size=size)]
