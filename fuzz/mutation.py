"""New inputs from old ones, op by op, and sensible programs from nothing. Deterministic by the generator passed in.

`harness.codec.split` cuts an input into its ops and their arguments, which are changed and joined anew. The tables in
`harness.ops` drive everything, so an op that is added comes along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache
from random import Random
from typing import Final

from harness.codec import (
    BOUNDARY_CHOICES,
    DEFAULT,
    Dialect,
    Parts,
    encode,
    header_of,
    knob_value,
    read_argument,
    split,
    write_argument,
)
from harness.machine import Machine
from harness.offer import Offer
from harness.ops import FLAG_NAMES, MAP_FLAG_BITS, PLANTED_NAMES, PROT_BITS, U64_MAX, Kind, Op
from harness.program import Program

FRESH_SIZES: Final = (40, 136)
"""Bytes of an input made of random choices: about 5 to 18 ops."""
_MAX_STEPS: Final = 4
_MAX_RUN: Final = 4
"""Ops that are dropped, repeated or moved together."""

_PAGE: Final = 1 << 12
_BLOCK: Final = 1 << 21
_GIB: Final = 1 << 30
_RWX: Final = PROT_BITS["r"] | PROT_BITS["w"] | PROT_BITS["x"]
_RW: Final = PROT_BITS["r"] | PROT_BITS["w"]
_FAULT: Final = MAP_FLAG_BITS["handle_fault"] | MAP_FLAG_BITS["shared"]
_FAULT_FLAGS: Final = (0, 0, 0, 0, 0, _FAULT, _FAULT, MAP_FLAG_BITS["handle_fault"], MAP_FLAG_BITS["skip_cmo"])
"""What maps are done with: none, a fault handler's, and others."""
_MEMORY: Final = 0x8000_0000
"""Physical minus intermediate address of the memory of the machines below."""
_NEIGHBOURS: Final = (_PAGE, -_PAGE, _BLOCK, -_BLOCK, _GIB, -_GIB)
_LEVEL_BITS: Final = 9
"""Log2 of how much more an entry maps one level up."""


def random_input(choice: Random) -> bytes:
    """Random choices all the way."""
    return choice.randbytes(choice.randint(*FRESH_SIZES))


def mutate(data: bytes, choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """`data` with one to four changes that respect ops and arguments."""
    parts = split(data, dialect)
    for _ in range(choice.randint(1, _MAX_STEPS)):
        choice.choice(_CHANGES)(parts, choice)
    return parts.join()


def crossover(first: bytes, second: bytes, choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """The beginning of one program and the end of another; or a run of the other's ops in the middle of the first.
    The machine is the first's."""
    parts, other = split(first, dialect), split(second, dialect)
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
    parts.ops[at:at] = split(b"\0" + choice.randbytes(16), parts.dialect).ops[:1]


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


def _arguments(parts: Parts, *kinds: Kind) -> Iterator[tuple[list[bytes], int, Kind]]:
    """Every argument of these kinds (of any, where none is named): the op, its part's number there, the kind."""
    for op in parts.ops:
        for index, arg in enumerate(parts.definition_of(op).args, start=1):
            if not kinds or arg.kind in kinds:
                yield op, index, arg.kind


def _pick(parts: Parts, choice: Random, *kinds: Kind) -> tuple[list[bytes], int, Kind] | None:
    places = list(_arguments(parts, *kinds))
    return choice.choice(places) if places else None


def _retarget(parts: Parts, choice: Random) -> None:
    """Give one op another's address, or its neighbour's, so that they meet."""
    places = list(_arguments(parts, Kind.IPA))
    if len(places) < 2:
        return
    (op, index, kind), (other, other_index, _) = choice.sample(places, 2)
    op[index] = other[other_index]
    if choice.random() < 0.3:
        limit = 1 << parts.machine["ia_bits"]
        value = read_argument(kind, op[index], limit, 0) + choice.choice(_NEIGHBOURS)
        op[index] = write_argument(kind, value & U64_MAX, limit, 0)


def _rechoose(parts: Parts, choice: Random) -> None:
    """Choose one argument anew: an address, a size, a protection, a flag."""
    place = _pick(parts, choice)
    if place is not None:
        op, index, _ = place
        fresh = split(b"\0" + op[0] + choice.randbytes(64), parts.dialect).ops[0]
        op[index] = fresh[index]


def _resize(parts: Parts, choice: Random) -> None:
    """Let one op work on a level's size more or less, or on one page more or less."""
    place = _pick(parts, choice, Kind.SIZE, Kind.PAGEWISE_SIZE)
    if place is None:
        return
    op, index, kind = place
    limit = 1 << parts.machine["ia_bits"]
    ipa = read_argument(Kind.IPA, op[1], limit, 0)
    size = read_argument(kind, op[index], limit, ipa)
    sizes = [size >> _LEVEL_BITS, size + _PAGE, size - _PAGE, size * 2]
    if kind is Kind.SIZE and ipa % _BLOCK == 0:  # else a level more, page by page, would only spend the budget
        sizes.append(size << _LEVEL_BITS)
    op[index] = write_argument(kind, choice.choice(sizes) & U64_MAX, limit, ipa)


def _flip_flag(parts: Parts, choice: Random) -> None:
    """Set or clear one flag or protection."""
    place = _pick(parts, choice, *FLAG_NAMES)
    if place is not None:
        op, index, kind = place
        bits = [bit for bit in FLAG_NAMES[kind].values() if bit & parts.dialect.offer.bits(kind)]
        if bits:
            value = read_argument(kind, op[index], 1, 0) ^ choice.choice(bits)
            op[index] = write_argument(kind, value, 1, 0)


def _to_an_edge(parts: Parts, choice: Random) -> None:
    """Move some arguments of one op to boundaries: the limit and its neighbours, table ends, odd sizes."""
    if not parts.ops:
        return
    op = choice.choice(parts.ops)
    for index, arg in enumerate(parts.definition_of(op).args, start=1):
        edges = BOUNDARY_CHOICES.get(arg.kind)
        if edges and choice.random() < 0.5:
            op[index] = bytes((choice.choice(edges),))


def _change_machine(parts: Parts, choice: Random) -> None:
    """Choose one knob anew, or go back to the default machine."""
    if choice.random() < 0.3:
        parts.header = header_of(Machine(), parts.dialect)
        return
    knob = choice.choice(parts.dialect.knobs)
    machine = parts.machine.replace(knob.name, knob_value(knob, choice.randrange(256)))
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


def life(choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """A virtual machine's life: memory is mapped, handed over and back, logged, split ahead of need, aged, merged
    again, looked at, and torn down; as far as the dialect can say it. Depth then does not depend on luck."""
    scenes, dear_scenes = _on_offer(dialect.offer)
    base = choice.choice((0, _BLOCK, 3 * _BLOCK, _GIB, 2 * _GIB))
    ops: list[Op] = _boot(base, choice)
    for _ in range(choice.randint(4, 11)):
        near = base + choice.choice((0, 0, 0, _BLOCK, _GIB))
        ops += choice.choice(dear_scenes if choice.random() < _DEAR and dear_scenes else scenes)(near, choice)
    if choice.random() < 0.3:
        ops.append(Op.of("destroy"))
    knobs = {name: choice.getrandbits(1) for name in ("fwb", "tlb_range")} if choice.random() < 0.4 else {}
    if choice.random() < 0.1:
        knobs["nofwb"] = 1
    if choice.random() < 0.04:
        knobs["force_pte"] = choice.randint(1, 2)
    if choice.random() < 0.05:
        knobs["idmap"] = 1
    if choice.random() < 0.25:
        knobs |= {"kvm_mode": choice.randrange(4), "vcpu": choice.randrange(3)}
        ops = [_to_itself(op) for op in ops]
    known = [op for op in ops if dialect.offer.has(op.name)]
    return encode(Program(tuple(known), Machine.of(**knobs)), dialect)


def _to_itself(op: Op) -> Op:
    """A map of the same addresses to themselves; any other op as it is."""
    if op.name != "map":
        return op
    values = {arg.name: value for arg, value in zip(op.definition.args, op.args, strict=True)}
    return Op.of("map", **{**values, "phys": values["ipa"]})


def _page(base: int, choice: Random) -> int:
    return base + choice.choice((0, 1, 2, 3, 510, 511)) * _PAGE


def _map(ipa: int, size: int, prot: int, choice: Random) -> Op:
    flags = choice.choice(_FAULT_FLAGS)
    return Op.of("map", ipa=ipa, size=size, phys=ipa + _MEMORY, prot=prot, mc=choice.choice((5, 5, 4, 3)), flags=flags)


def _boot(base: int, choice: Random) -> list[Op]:
    size = choice.choice((_BLOCK, 2 * _BLOCK, _GIB if base % _GIB == 0 else _BLOCK))
    return [_map(base, size, _RWX, choice)]


def _fault(base: int, choice: Random) -> list[Op]:
    prot = choice.choice((_RWX, _RW, _RW | PROT_BITS["device"], PROT_BITS["r"]))
    return [_map(_page(base, choice), choice.choice((1, 1, 2, 4)) * _PAGE, prot, choice)]


def _fault_twice(base: int, choice: Random) -> list[Op]:
    """Two vCPUs fault on the same page: the second comes too late, perhaps with more permissions."""
    page, size = _page(base, choice), choice.choice((1, 1, 3)) * _PAGE
    return [_map(page, size, _RW, choice), _map(page, size, choice.choice((_RW, _RW, _RWX)), choice)]


def _migrate(base: int, choice: Random) -> list[Op]:
    """The host has moved the memory behind a page or a block, and it faults back in."""
    size = choice.choice((_PAGE, _PAGE, _BLOCK))
    ipa = _page(base, choice) if size == _PAGE else base
    gone = [Op.of("unmap", ipa=ipa, size=size)] if choice.random() < 0.5 else []
    return [*gone, Op.of("map", ipa=ipa, size=size, phys=ipa + _MEMORY + _GIB, prot=_RWX, mc=4, flags=0)]


def _share(base: int, choice: Random) -> list[Op]:
    size = choice.choice((1, 2, 3)) * _PAGE
    return [Op.of("set_owner", ipa=_page(base, choice), size=size, mc=5, owner=1)]


def _reclaim(base: int, choice: Random) -> list[Op]:
    page = _page(base, choice)
    return [Op.of("set_owner", ipa=page, size=_PAGE, mc=5, owner=0), _map(page, _PAGE, _RWX, choice)]


def _log(base: int, choice: Random) -> list[Op]:
    """Dirty logging splits a block: one page is mapped inside it."""
    return [_map(base, _BLOCK, _RW, choice), _map(_page(base, choice), _PAGE, _RW, choice)]


def _protect(base: int, choice: Random) -> list[Op]:
    """The log is read: everything is write-protected, and some pages are written to again."""
    size = choice.choice((16 * _PAGE, _BLOCK, 2 * _BLOCK))
    ops = [Op.of("wrprotect", ipa=base, size=size)]
    if choice.random() < 0.5:
        ops.append(Op.of("tlb_flush_vmid_range", ipa=base, size=size))
    return ops + [_relax(base, choice) for _ in range(choice.randint(0, 2))]


def _relax(base: int, choice: Random) -> Op:
    prot = choice.choice((_RW, _RWX, PROT_BITS["x"] | PROT_BITS["r"]))
    return Op.of("relax_perms", ipa=_page(base, choice), prot=prot)


def _permit(base: int, choice: Random) -> list[Op]:
    """A page with few permissions gets more, fault by fault."""
    page = _page(base, choice)
    return [_map(page, _PAGE, PROT_BITS["r"], choice), *(_relax(base, choice) for _ in range(2))]


def _age(base: int, choice: Random) -> list[Op]:
    """Memory is looked at for accesses, and accessed."""
    size = choice.choice((_PAGE, 16 * _PAGE, _BLOCK, 2 * _BLOCK))
    old = Op.of("test_clear_young", ipa=base, size=size, mkold=int(choice.random() < 0.7))
    touched = [Op.of("mkyoung", ipa=_page(base, choice)) for _ in range(choice.randint(0, 2))]
    return [old, *touched, Op.of("test_clear_young", ipa=_page(base, choice), size=_PAGE)]


def _age_one(base: int, choice: Random) -> list[Op]:
    """The same page by page."""
    page = _page(base, choice)
    ops = [Op.of("mkold", ipa=page), Op.of("mkyoung", ipa=choice.choice((page, _page(base, choice))))]
    return [*ops[: choice.randint(1, 2)], Op.of("is_young", ipa=page)]


def _split(base: int, choice: Random) -> list[Op]:
    """Blocks are split before dirty logging asks for it, mostly once they are write-protected."""
    size = choice.choice((_PAGE, _BLOCK, _BLOCK + _PAGE, 2 * _BLOCK))
    ops = [Op.of("split", ipa=_page(base, choice), size=size, mc=choice.choice((1, 1, 2, 2, 3)))]
    if choice.random() < 0.5:
        ops.insert(0, Op.of("wrprotect", ipa=base, size=_BLOCK))
    if choice.random() < 0.4:
        ops.insert(0, _map(base, _BLOCK, choice.choice((_RWX, _RW | PROT_BITS["device"])), choice))
    return ops


def _detach(base: int, choice: Random) -> list[Op]:
    """A table is made apart from the tree, and freed or kept."""
    level = choice.choice((2, 2, 1))
    made = Op.of(
        "create_unlinked", phys=base + _MEMORY, level=level, prot=_RW, mc=2, force_pte=int(choice.random() < 0.2)
    )
    if choice.random() < 0.3:
        return [made, Op.of("link", ipa=_page(base, choice), table=choice.choice((0, 0, 1)))]
    return [made, Op.of("free_unlinked", table=choice.choice((0, 0, 1, 2)))]


def _run_out(base: int, choice: Random) -> list[Op]:
    """Memory for a table is not there, though the memcache was topped up. The guest faults again."""
    far = base + choice.choice((0, _BLOCK, 5 * _BLOCK, _GIB))
    size = choice.choice((_PAGE, 2 * _BLOCK))
    failed = [_map(_page(far, choice), size, _RW, choice), Op.of("set_owner", ipa=far, size=_PAGE, mc=4, owner=1)]
    return [Op.of("fail_alloc", nth=choice.choice((1, 1, 2))), choice.choice(failed), _map(far, _PAGE, _RWX, choice)]


def _tamper(base: int, choice: Random) -> list[Op]:
    """Somebody else writes an entry, before the guest faults there."""
    level, ipa = choice.choice(((3, _page(base, choice)), (3, _page(base, choice)), (2, base), (1, base)))
    value = choice.choice((PLANTED_NAMES["locked"], PLANTED_NAMES["locked"], PLANTED_NAMES["table"], 0, 4))
    table = _map(_page(base, choice), _PAGE, _RW, choice)
    after = choice.choice((_map(ipa, _PAGE, _RWX, choice), Op.of("unmap", ipa=ipa, size=_PAGE)))
    return [table, Op.of("plant", ipa=ipa, level=level, pte=value), after]


def _clean(base: int, choice: Random) -> list[Op]:
    return [Op.of("flush", ipa=_page(base, choice), size=choice.choice((_PAGE, 4 * _PAGE, _BLOCK)))]


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


_Scene = Callable[[int, Random], list[Op]]

_SCENES: Final[tuple[_Scene, ...]] = (
    *(_boot, _boot, _fault, _fault, _fault, _fault_twice, _fault_twice, _migrate, _migrate),
    *(_share, _share, _reclaim, _reclaim, _log, _log, _merge, _merge, _look, _look, _shrink, _shrink),
    *(_protect, _protect, _permit, _age, _age, _age_one, _age_one, _clean, _run_out, _tamper),
)
_DEAR_SCENES: Final[tuple[_Scene, ...]] = (_split, _detach)
"""These fill whole tables, which costs as much as all the rest of a life."""
_NEEDS: Final[Mapping[_Scene, str]] = {
    _age: "test_clear_young",
    _age_one: "mkold",
    _split: "split",
    _detach: "link",
}
"""Scenes that are nothing without an op."""
_DEAR: Final = 0.05


@cache
def _on_offer(offer: Offer) -> tuple[tuple[_Scene, ...], tuple[_Scene, ...]]:
    """The scenes that can be played with what is on offer: the cheap ones and the dear ones."""
    cheap, dear = (
        tuple(scene for scene in scenes if scene not in _NEEDS or offer.has(_NEEDS[scene]))
        for scenes in (_SCENES, _DEAR_SCENES)
    )
    return cheap, dear
