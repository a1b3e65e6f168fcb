"""New inputs from old ones, op by op, and sensible programs from nothing. Deterministic by the generator passed in.

`harness.program.codec.split` cuts an input into its ops and their arguments, which are changed and joined anew. The
tables in `harness.program.definition` drive everything, so an op that is added comes along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Final

from harness.program.capabilities import Capabilities
from harness.program.codec import (
    BOUNDARY_CHOICES,
    DEFAULT,
    Dialect,
    Parts,
    encode,
    fitting,
    header_of,
    is_dear,
    knob_value,
    made_usual,
    read_argument,
    space_of,
    split,
    write_argument,
)
from harness.program.definition import (
    FLAG_NAMES,
    MAP_FLAG_BITS,
    PLANTED_NAMES,
    PROT_BITS,
    SPLIT_CACHE_CAPACITY,
    U64_MAX,
    Kind,
    Op,
)
from harness.program.granule import GRANULE_4K, GRANULES, Granule, foreign_units
from harness.program.machine import DEFAULTS, MAX_BUDGET, MAX_POOL_PAGES, Machine
from harness.program.program import Program

FRESH_SIZES: Final = (40, 136)
"""Bytes of an input made of random choices: about 5 to 18 ops."""
_HYP_SHARE: Final = 0.15
"""Of inputs from nothing, those for stage 1: it has less code than stage 2."""
_WHOLE_BLOCKS: Final = 1 / 20_000
"""Of inputs from nothing, those that split a whole block of level 1: each takes as long as some hundred others."""
_STAY_DEAR: Final = 1 / 500
"""Of what is bred from one of these, what stays as dear."""
_MAX_STEPS: Final = 4
_MAX_RUN: Final = 4
"""Ops that are dropped, repeated or moved together."""


_RWX: Final = PROT_BITS["r"] | PROT_BITS["w"] | PROT_BITS["x"]
_RW: Final = PROT_BITS["r"] | PROT_BITS["w"]
_FAULT: Final = MAP_FLAG_BITS["handle_fault"] | MAP_FLAG_BITS["shared"]
_FAULT_FLAGS: Final = (0, 0, 0, 0, 0, _FAULT, _FAULT, MAP_FLAG_BITS["handle_fault"], MAP_FLAG_BITS["skip_cmo"])
"""What maps are done with: none, a fault handler's, and others."""
_MEMORY: Final = 0x8000_0000
"""Physical minus intermediate address of the memory of most machines below."""


def fresh(choice: Random, dialect: Dialect = DEFAULT, stages: Sequence[int] = ()) -> bytes:
    """An input from nothing, for one of these stages or any."""
    stage = choice.choice(stages) if stages else 1 if choice.random() < _HYP_SHARE else 2
    if not dialect.capabilities.has("stage"):
        stage = 2
    draw = choice.random()
    if draw < _WHOLE_BLOCKS and stage == 2 and dialect.granule.has_large_blocks and dialect.capabilities.has("split"):
        return whole_block(choice, dialect)
    if draw < 0.5:
        return hyp_life(choice, dialect) if stage == 1 else life(choice, dialect)
    return random_input(choice, dialect, stage)


def random_input(choice: Random, dialect: Dialect = DEFAULT, stage: int = 2) -> bytes:
    """Random choices all the way, mostly for that stage."""
    data = choice.randbytes(choice.randint(*FRESH_SIZES))
    return data if stage == 2 else header_of(Machine.of(stage=1), dialect) + data


def moderate(data: bytes, choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """What to breed from instead of `data`: mostly the same ops on a usual machine where its own has a budget or a pool
    beyond these, for its descendants would take some hundred times as long as others; else the same."""
    parts = split(data, dialect)
    _moderate(parts, choice)
    return parts.join()


def _moderate(parts: Parts, choice: Random) -> None:
    if is_dear(parts) and choice.random() >= _STAY_DEAR:
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
    parts.ops[at:at] = split(parts.header + choice.randbytes(16), parts.dialect).ops[:1]


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
        for index, arg in enumerate(parts.definition(op).args, start=1):
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
        space = space_of(parts.machine)
        step = choice.choice((space.page, space.block, 1 << space.units[2])) * choice.choice((1, -1))
        value = read_argument(kind, op[index], space, 0) + step
        op[index] = write_argument(kind, value & U64_MAX, space, 0)


def _rechoose(parts: Parts, choice: Random) -> None:
    """Choose one argument anew: an address, a size, a protection, a flag."""
    place = _pick(parts, choice)
    if place is not None:
        op, index, _ = place
        fresh = split(parts.header + op[0] + choice.randbytes(64), parts.dialect).ops[0]
        op[index] = fresh[index]


def _resize(parts: Parts, choice: Random) -> None:
    """Let one op work on a level's size more or less, or on one page more or less."""
    place = _pick(parts, choice, Kind.SIZE, Kind.PAGEWISE_SIZE)
    if place is None:
        return
    op, index, kind = place
    space = space_of(parts.machine)
    ipa = read_argument(Kind.IPA, op[1], space, 0)
    size = read_argument(kind, op[index], space, ipa)
    sizes = [size // space.granule.entries, size + space.page, size - space.page, size * 2]
    if kind is Kind.SIZE and ipa % space.block == 0:  # else a level more, page by page, would only spend the budget
        sizes.append(size * space.granule.entries)
    op[index] = write_argument(kind, choice.choice(sizes) & U64_MAX, space, ipa)


def _flip_flag(parts: Parts, choice: Random) -> None:
    """Set or clear one flag or protection."""
    place = _pick(parts, choice, *FLAG_NAMES)
    if place is not None:
        op, index, kind = place
        space = space_of(parts.machine)
        bits = [bit for bit in FLAG_NAMES[kind].values() if bit & parts.dialect.capabilities.bits(kind)]
        if bits:
            value = read_argument(kind, op[index], space, 0) ^ choice.choice(bits)
            op[index] = write_argument(kind, value, space, 0)


def _to_an_edge(parts: Parts, choice: Random) -> None:
    """Move some arguments of one op to boundaries: the limit and its neighbours, table ends, odd sizes."""
    if not parts.ops:
        return
    op = choice.choice(parts.ops)
    for index, arg in enumerate(parts.definition(op).args, start=1):
        edges = BOUNDARY_CHOICES.get(arg.kind)
        if edges and choice.random() < 0.5:
            op[index] = bytes((choice.choice(edges),))


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


@dataclass(frozen=True, slots=True)
class Place:
    """Where a scene of a life plays: at `ipa`, in a machine with such sizes of pages and blocks, whose memory lies at
    `memory` plus the intermediate address. `large` is a block of level 1 where there are such, else a step as far."""

    ipa: int
    page: int
    block: int
    large: int
    has_large_blocks: bool
    memory: int
    foreign: tuple[int, ...]
    """Boundaries of other granules within a block."""

    @property
    def fits_large(self) -> bool:
        """Whether a block of level 1 may lie here."""
        return self.has_large_blocks and self.ipa % self.large == 0

    def next(self, step: int) -> Place:
        """Another place, so many bytes further."""
        return replace(self, ipa=self.ipa + step)


def life(choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """A virtual machine's life: memory is mapped, handed over and back, logged, split ahead of need, aged, merged
    again, looked at, and torn down; as far as the dialect can say it. Depth then does not depend on luck."""
    granule = dialect.granule
    scenes, dear_scenes = _on_offer(dialect.capabilities)
    knobs = _knobs(choice, dialect)
    space = space_of(Machine.of(**knobs))
    large = space.steps[0][1]
    base = choice.choice((0, space.block, 3 * space.block, large, 2 * large))
    memory = choice.choice(space.deltas[2:]) if choice.random() < _ELSEWHERE else _MEMORY
    at = Place(base, space.page, space.block, large, granule.has_large_blocks, memory, _foreign(granule))
    ops: list[Op] = _boot(at, choice)
    dear = _DEAR * GRANULE_4K.entries / granule.entries
    for _ in range(choice.randint(4, 11)):
        near = at.next(choice.choice((0, 0, 0, space.block, large)))
        if choice.random() >= dear or not dear_scenes:
            ops += choice.choice(scenes)(near, choice)
            continue
        ops += choice.choice(dear_scenes)(near, choice)
        knobs["budget"] = DEFAULTS["budget"] * granule.entries // GRANULE_4K.entries
    if choice.random() < 0.3:
        ops.append(Op.of("destroy"))
    if choice.random() < 0.05:
        knobs["idmap"] = 1
        ops = [_to_itself(op) for op in ops]
    if choice.random() < 0.25:
        knobs |= {"kvm_mode": choice.randrange(4), "vcpu": choice.randrange(3)}
    known = [op for op in ops if dialect.capabilities.has(op.name)]
    return encode(Program(tuple(known), Machine.of(**knobs)), dialect)


def whole_block(choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """A block of level 1 is split page by page, with all its tables in the split cache at once, on a machine that has
    room for them; then something happens at either end of it."""
    scenes, _ = _on_offer(dialect.capabilities)
    knobs = _knobs(choice, dialect) | {"budget": MAX_BUDGET, "pool_pages": MAX_POOL_PAGES, "force_pte": 0}
    space = space_of(Machine.of(**knobs))
    large = space.large
    base = choice.choice((0, large, 3 * large))
    at = Place(base, space.page, space.block, large, True, _MEMORY, _foreign(dialect.granule))
    ops = [
        _map(at, base, large, choice.choice((_RWX, _RW, PROT_BITS["r"])), choice),
        Op.of("split", ipa=base, size=large, mc=SPLIT_CACHE_CAPACITY),
    ]
    for _ in range(choice.randint(1, 3)):
        ops += choice.choice(scenes)(at.next(choice.choice((0, large - space.block, large - space.block))), choice)
    known = [op for op in ops if dialect.capabilities.has(op.name)]
    return encode(Program(tuple(known), Machine.of(**knobs)), dialect)


def _knobs(choice: Random, dialect: Dialect) -> dict[str, int]:
    """Those of a life's machine."""
    granule = dialect.granule
    wide = "lpa2" if granule.shift < _LPA_SHIFT else "pa_bits_52"
    knobs = {"granule": GRANULES.index(granule)}
    if choice.random() < 0.4:
        knobs |= {name: choice.getrandbits(1) for name in ("fwb", "tlb_range")}
    if choice.random() < 0.1:
        knobs["nofwb"] = 1
    if choice.random() < 0.04:
        knobs["force_pte"] = choice.randint(1, 2)
    if choice.random() < _WIDE and dialect.capabilities.has(wide):
        knobs[wide] = 1
        knobs["ia_bits"] = choice.choice((40, 48, 51, 52))
    return knobs


def _to_itself(op: Op) -> Op:
    """A map of the same addresses to themselves; any other op as it is."""
    if op.name != "map":
        return op
    values = {arg.name: value for arg, value in zip(op.definition.args, op.args, strict=True)}
    return Op.of("map", **{**values, "phys": values["ipa"]})


@cache
def _foreign(granule: Granule) -> tuple[int, ...]:
    return tuple(unit for unit in foreign_units(granule) if unit < granule.block)


def _page(at: Place, choice: Random) -> int:
    if choice.random() < _FOREIGN:
        return at.ipa + choice.choice(at.foreign)
    return at.ipa + choice.choice((0, 1, 2, 3, -2, -1)) * at.page % at.block


def _map(at: Place, ipa: int, size: int, prot: int, choice: Random) -> Op:
    flags = choice.choice(_FAULT_FLAGS)
    return Op.of(
        "map", ipa=ipa, size=size, phys=ipa + at.memory, prot=prot, mc=choice.choice((5, 5, 4, 3)), flags=flags
    )


def _boot(at: Place, choice: Random) -> list[Op]:
    size = choice.choice((at.block, 2 * at.block, at.large if at.fits_large else at.block))
    return [_map(at, at.ipa, size, _RWX, choice)]


def _fault(at: Place, choice: Random) -> list[Op]:
    prot = choice.choice((_RWX, _RW, _RW | PROT_BITS["device"], PROT_BITS["r"]))
    return [_map(at, _page(at, choice), choice.choice((1, 1, 2, 4)) * at.page, prot, choice)]


def _fault_twice(at: Place, choice: Random) -> list[Op]:
    """Two vCPUs fault on the same page: the second comes too late, perhaps with more permissions."""
    page, size = _page(at, choice), choice.choice((1, 1, 3)) * at.page
    return [_map(at, page, size, _RW, choice), _map(at, page, size, choice.choice((_RW, _RW, _RWX)), choice)]


def _migrate(at: Place, choice: Random) -> list[Op]:
    """The host has moved the memory behind a page or a block, and it faults back in."""
    size = choice.choice((at.page, at.page, at.block))
    ipa = _page(at, choice) if size == at.page else at.ipa
    gone = [Op.of("unmap", ipa=ipa, size=size)] if choice.random() < 0.5 else []
    return [*gone, Op.of("map", ipa=ipa, size=size, phys=ipa + at.memory + at.large, prot=_RWX, mc=4, flags=0)]


def _share(at: Place, choice: Random) -> list[Op]:
    size = choice.choice((1, 2, 3)) * at.page
    return [Op.of("set_owner", ipa=_page(at, choice), size=size, mc=5, owner=1)]


def _reclaim(at: Place, choice: Random) -> list[Op]:
    page = _page(at, choice)
    return [Op.of("set_owner", ipa=page, size=at.page, mc=5, owner=0), _map(at, page, at.page, _RWX, choice)]


def _log(at: Place, choice: Random) -> list[Op]:
    """Dirty logging splits a block: one page is mapped inside it."""
    return [_map(at, at.ipa, at.block, _RW, choice), _map(at, _page(at, choice), at.page, _RW, choice)]


def _protect(at: Place, choice: Random) -> list[Op]:
    """The log is read: everything is write-protected, and some pages are written to again."""
    size = choice.choice((16 * at.page, at.block, 2 * at.block))
    ops = [Op.of("wrprotect", ipa=at.ipa, size=size)]
    if choice.random() < 0.5:
        ops.append(Op.of("tlb_flush_vmid_range", ipa=at.ipa, size=size))
    return ops + [_relax(at, choice) for _ in range(choice.randint(0, 2))]


def _relax(at: Place, choice: Random) -> Op:
    prot = choice.choice((_RW, _RWX, PROT_BITS["x"] | PROT_BITS["r"]))
    return Op.of("relax_perms", ipa=_page(at, choice), prot=prot)


def _permit(at: Place, choice: Random) -> list[Op]:
    """A page with few permissions gets more, fault by fault."""
    page = _page(at, choice)
    return [_map(at, page, at.page, PROT_BITS["r"], choice), *(_relax(at, choice) for _ in range(2))]


def _age(at: Place, choice: Random) -> list[Op]:
    """Memory is looked at for accesses, and accessed."""
    size = choice.choice((at.page, 16 * at.page, at.block, 2 * at.block))
    old = Op.of("test_clear_young", ipa=at.ipa, size=size, mkold=int(choice.random() < 0.7))
    touched = [Op.of("mkyoung", ipa=_page(at, choice)) for _ in range(choice.randint(0, 2))]
    return [old, *touched, Op.of("test_clear_young", ipa=_page(at, choice), size=at.page)]


def _age_one(at: Place, choice: Random) -> list[Op]:
    """The same page by page."""
    page = _page(at, choice)
    ops = [Op.of("mkold", ipa=page), Op.of("mkyoung", ipa=choice.choice((page, _page(at, choice))))]
    return [*ops[: choice.randint(1, 2)], Op.of("is_young", ipa=page)]


def _split(at: Place, choice: Random) -> list[Op]:
    """Blocks are split before dirty logging asks for it, mostly once they are write-protected."""
    size = choice.choice((at.page, at.block, at.block + at.page, 2 * at.block))
    ops = [Op.of("split", ipa=_page(at, choice), size=size, mc=choice.choice((1, 1, 2, 2, 3)))]
    if choice.random() < 0.5:
        ops.insert(0, Op.of("wrprotect", ipa=at.ipa, size=at.block))
    if choice.random() < 0.4:
        ops.insert(0, _map(at, at.ipa, at.block, choice.choice((_RWX, _RW | PROT_BITS["device"])), choice))
    return ops


def _detach(at: Place, choice: Random) -> list[Op]:
    """A table is made apart from the tree, and freed or kept."""
    level = choice.choice((2, 2, 1))
    made = Op.of(
        "create_unlinked", phys=at.ipa + at.memory, level=level, prot=_RW, mc=2, force_pte=int(choice.random() < 0.2)
    )
    if choice.random() < 0.3:
        return [made, Op.of("link", ipa=_page(at, choice), table=choice.choice((0, 0, 1)))]
    return [made, Op.of("free_unlinked", table=choice.choice((0, 0, 1, 2)))]


def _run_out(at: Place, choice: Random) -> list[Op]:
    """Memory for a table is not there, though the memcache was topped up. The guest faults again."""
    far = at.next(choice.choice((0, at.block, 5 * at.block, at.large)))
    size = choice.choice((at.page, 2 * at.block))
    failed = [
        _map(far, _page(far, choice), size, _RW, choice),
        Op.of("set_owner", ipa=far.ipa, size=at.page, mc=4, owner=1),
    ]
    return [
        Op.of("fail_alloc", nth=choice.choice((1, 1, 2))),
        choice.choice(failed),
        _map(far, far.ipa, at.page, _RWX, choice),
    ]


def _tamper(at: Place, choice: Random) -> list[Op]:
    """Somebody else writes an entry, before the guest faults there."""
    level, ipa = choice.choice(((3, _page(at, choice)), (3, _page(at, choice)), (2, at.ipa), (1, at.ipa)))
    value = choice.choice((PLANTED_NAMES["locked"], PLANTED_NAMES["locked"], PLANTED_NAMES["table"], 0, 4))
    table = _map(at, _page(at, choice), at.page, _RW, choice)
    after = choice.choice((_map(at, ipa, at.page, _RWX, choice), Op.of("unmap", ipa=ipa, size=at.page)))
    return [table, Op.of("plant", ipa=ipa, level=level, pte=value), after]


def _race(at: Place, choice: Random) -> list[Op]:
    """Two vCPUs fault on the same page at once; the other is the faster one."""
    page = _page(at, choice)
    ipa, size = choice.choice(((page, at.page), (page, 2 * at.page), (at.ipa, at.block)))
    value = choice.choice((PLANTED_NAMES["locked"], PLANTED_NAMES["table"], PLANTED_NAMES["table"], 0, 4))
    flags = choice.choice((_FAULT, MAP_FLAG_BITS["shared"], MAP_FLAG_BITS["shared"]))
    phys = ipa + at.memory + choice.choice((0, at.large))
    raced = Op.of("map", ipa=ipa, size=size, phys=phys, prot=_RW, mc=5, flags=flags)
    other = Op.of("relax_perms", ipa=ipa, prot=_RWX)
    race = Op.of("race", nth=choice.choice((1, 1, 1, 2, 3)), pte=value)
    return [race, other if choice.random() < 0.2 else raced, _map(at, ipa, at.page, _RW, choice)]


def _clean(at: Place, choice: Random) -> list[Op]:
    return [Op.of("flush", ipa=_page(at, choice), size=choice.choice((at.page, 4 * at.page, at.block)))]


def _merge(at: Place, choice: Random) -> list[Op]:
    big = at.fits_large and choice.random() < 0.3
    return [_map(at, at.ipa, at.large if big else at.block, _RWX, choice)]


def _look(at: Place, choice: Random) -> list[Op]:
    flags = choice.choice((1, 3, 5, 6, 7))
    visitor = choice.randrange(1, 32) if choice.random() < 0.2 else 0
    size = choice.choice((1, 4, 16)) * at.page
    walk = Op.of("walk", ipa=_page(at, choice), size=size, flags=flags, visitor=visitor)
    return [walk, Op.of("get_leaf", ipa=_page(at, choice))]


def _shrink(at: Place, choice: Random) -> list[Op]:
    size = choice.choice((at.page, 4 * at.page, at.block, 2 * at.block))
    return [Op.of("unmap", ipa=choice.choice((at.ipa, _page(at, choice))), size=size)]


_Scene = Callable[[Place, Random], list[Op]]

_SCENES: Final[tuple[_Scene, ...]] = (
    *(_boot, _boot, _fault, _fault, _fault, _fault_twice, _fault_twice, _migrate, _migrate),
    *(_share, _share, _reclaim, _reclaim, _log, _log, _merge, _merge, _look, _look, _shrink, _shrink),
    *(_protect, _protect, _permit, _age, _age, _age_one, _age_one, _clean, _run_out, _tamper, _race),
)
_DEAR_SCENES: Final[tuple[_Scene, ...]] = (_split, _detach)
"""These fill whole tables, which costs as much as all the rest of a life."""
_NEEDS: Final[Mapping[_Scene, str]] = {
    _age: "test_clear_young",
    _age_one: "mkold",
    _split: "split",
    _detach: "link",
    _race: "race",
}
"""Scenes that are nothing without an op."""
_DEAR: Final = 0.05


_FOREIGN: Final = 0.015
"""How many of its pages lie where another granule has a boundary."""
_WIDE: Final = 0.1
"""How many lives are those of machines with 52 bits of address."""
_ELSEWHERE: Final = 0.2
"""How many have their memory where its addresses have more bits."""
_LPA_SHIFT: Final = 16
"""log2 of the pages that 52 bits need no LPA2 for."""


Mapped = list[tuple[int, int]]
"""Addresses and sizes."""
_HYP_PROTS: Final = (_RW, _RW, PROT_BITS["r"] | PROT_BITS["x"], PROT_BITS["r"], _RW | PROT_BITS["device"])
_HYP_BITS: Final = {12: (32, 39, 40, 47, 49, 52, 57), 14: (36, 37, 47, 48, 52, 58), 16: (29, 42, 43, 48, 52, 55)}
"""Of virtual address, by log2 of the page: on either side of where a level is added."""


def hyp_life(choice: Random, dialect: Dialect = DEFAULT) -> bytes:
    """Hyp's life: text, data, devices and pages of guests are mapped, change their state, and go, mostly as wholes."""
    granule, capabilities = dialect.granule, dialect.capabilities
    knobs = {"granule": GRANULES.index(granule), "stage": 1}
    if choice.random() < 0.4:
        switches = {name: choice.getrandbits(1) for name in ("ttl", "bti", "hvhe", "repeat_tlbi")}
        knobs |= {name: on for name, on in switches.items() if capabilities.has(name)}
    if choice.random() < 0.2:
        knobs["va_bits"] = choice.choice(_HYP_BITS[granule.shift])
    wide = "lpa2" if granule.shift < _LPA_SHIFT else "pa_bits_52"
    if choice.random() < _WIDE and capabilities.has(wide):
        knobs[wide] = 1
    space = space_of(Machine.of(**knobs))
    large = space.steps[0][1]
    base = choice.choice((0, space.block, large, 2 * large))
    memory = choice.choice(space.deltas[2:]) if choice.random() < _ELSEWHERE else _MEMORY
    at = Place(base, space.page, space.block, large, granule.has_large_blocks, memory, _foreign(granule))
    mapped: Mapped = []
    ops: list[Op] = []
    for _ in range(choice.randint(5, 14)):
        near = at.next(choice.choice((0, 0, 0, space.block, large)))
        ops += choice.choice(_HYP_SCENES)(near, mapped, choice)
    if choice.random() < 0.3:
        ops.append(Op.of("destroy"))
    known = [op for op in ops if capabilities.has(op.name)]
    return encode(Program(tuple(known), Machine.of(**knobs)), dialect)


def _hyp_op(at: Place, va: int, size: int, prot: int) -> Op:
    return Op.of("hyp_map", va=va, size=size, phys=va + at.memory, prot=prot)


def _hyp_map(at: Place, mapped: Mapped, choice: Random) -> list[Op]:
    if at.fits_large and choice.random() < 0.1:
        place = at.ipa, at.large
    elif choice.random() < 0.4:
        place = at.ipa, choice.choice((1, 1, 2)) * at.block
    else:
        place = _page(at, choice), choice.choice((1, 1, 2, 4)) * at.page
    mapped.append(place)
    return [_hyp_op(at, *place, choice.choice(_HYP_PROTS))]


def _hyp_unmap(at: Place, mapped: Mapped, choice: Random) -> list[Op]:
    """What was mapped, or less or more of it."""
    if not mapped:
        return []
    va, size = mapped.pop(choice.randrange(len(mapped)))
    size = choice.choice((size, size, size, size, at.page, size + at.page, 2 * size))
    return [Op.of("hyp_unmap", va=va + choice.choice((0, 0, 0, 0, at.page)), size=size)]


def _hyp_again(at: Place, mapped: Mapped, choice: Random) -> list[Op]:
    """pKVM changes the state of a page: its software bits. Whatever else would change is refused."""
    if not mapped:
        return []
    va, size = choice.choice(mapped)
    state = choice.choice((0, PROT_BITS["sw0"], PROT_BITS["sw1"], PROT_BITS["sw0"] | PROT_BITS["sw3"]))
    prot = choice.choice((_RW, choice.choice(_HYP_PROTS)))
    return [_hyp_op(at, va, choice.choice((size, size, at.page)), prot | state)]


def _hyp_look(at: Place, mapped: Mapped, choice: Random) -> list[Op]:
    return _look(at, choice)


_HYP_SCENES: Final = (_hyp_map, _hyp_map, _hyp_map, _hyp_unmap, _hyp_unmap, _hyp_again, _hyp_again, _hyp_look)


@cache
def _on_offer(capabilities: Capabilities) -> tuple[tuple[_Scene, ...], tuple[_Scene, ...]]:
    """The scenes that can be played with what is on offer: the cheap ones and the dear ones."""
    cheap, dear = (
        tuple(scene for scene in scenes if scene not in _NEEDS or capabilities.has(_NEEDS[scene]))
        for scenes in (_SCENES, _DEAR_SCENES)
    )
    return cheap, dear
