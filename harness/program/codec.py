"""The fuzzer's private binary form of programs.

Any bytes decode to a program: each byte is a choice, and most choices lead to values that page-table code cares about
(few addresses, so that operations meet; sizes and alignments of every level; the limit and its neighbours). Every
program has an encoding that decodes to the same machine and ops; comments and `requires` stay with the text form.

Bytes are read in a `Dialect`, which can say what a run's sides offer and nothing else, so that no input is wasted on
what a kernel lacks. The granule is not among the choices either: a fuzzing process stays with one kernel, and so with
one granule, which is the dialect's. Addresses and sizes come from its geometry.

The form is tied to the tables below and to the op weights: whenever they change in a way that changes what bytes
mean, CODEC goes up by one, and older corpora are refused (they convert through text, with the version that wrote
them). Op numbers themselves are never reused.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from harness.program.capabilities import DEFAULT as DEFAULT_CAPABILITIES
from harness.program.capabilities import EVERYTHING, Capabilities
from harness.program.definition import (
    FLAG_NAMES,
    LIMITS,
    MAP_FLAG_BITS,
    MAX_UNLINKED,
    OPS,
    PLANTED_NAMES,
    PROT_BITS,
    U64_MAX,
    Kind,
    Op,
    OpDef,
)
from harness.program.granule import GRANULE_4K, GRANULES, Granule, foreign_units
from harness.program.machine import (
    DEFAULT_MACHINE,
    KNOBS,
    USUAL_BUDGET,
    USUAL_POOL_PAGES,
    Knob,
    Machine,
    highest_pool,
    highest_va_bits,
)
from harness.program.program import MAX_OPS, Program

CODEC: Final = 12

_LITERAL: Final = 0xFF
"""As the first byte of a value: the value follows in eight bytes, little-endian."""

_ONE_KNOB, _TWO_KNOBS, _MANY_KNOBS = 112, 192, 240
"""From which first byte on so many knobs are changed; for many, the next byte says how many."""

_CHOICES: Final = 192
"""Below this, a flags, memcache or owner byte picks from a short list; from here on, the value is spelt out."""

_TOP_STEPS: Final = (0, 1, 2, 3)
_BLOCK_STEPS: Final = (0, 1, 2, 3, 4, 8, -2, -1)
_PAGE_STEPS: Final = (0, 0, 0, 1, 2, 3, -2, -1)
"""Coordinates of an address, in entries of levels 1 to 3: few, so that ops overlap; the last ones count from the end of
a table, and touch its edge."""

_PAGE_COUNTS: Final = (1, 1, 2, 3, 4, 5, 8, 16)
_NEAR: Final = 16
"""Pages."""
_FOREIGN: Final = 15
"""Which choice among the sizes is one of another granule's."""

_MEMORY: Final = 0x8000_0000
_PLAIN_PA: Final = 1 << 48
"""Below it an address is its own encoding in an entry."""
_DELTAS: Final = {
    48: (_MEMORY, 0, 0x4000_0000, 0x1_0000_0000),
    52: (_MEMORY, 0, 0x5_0000_4000_0000, 0xA_0001_0000_0000),
}
"""Physical minus intermediate address, by bits of physical address, for mappings whose blocks line up."""

_ODD_PAGES: Final = (3, 5, 7, 8, 12, 15, 16, 17, 31)
_ODD_COUNT: Final = len(_ODD_PAGES) + 5
_HUGE: Final = bytes((_ODD_COUNT << 4 | 15,))
"""The first byte of a huge size; the next chooses. Rare, for an op that fills or invalidates so much spends the whole
budget, and the program ends with it."""
_HUGE_COUNT: Final = 12


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """The addresses that the bytes of one program choose from. There is one of a kind: see `space_of`."""

    limit: int
    """Where intermediate addresses end; phys_end, where physical ones do."""
    phys_end: int
    granule: Granule
    page: int
    block: int
    large: int
    """The largest thing that one op maps without filling tables: a block of level 1, or else several of level 2."""
    steps: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    """Coordinates in bytes, to be added."""
    units: tuple[int, ...]
    """Bits of address that an entry covers, from level 3 up to 0."""
    odd_sizes: tuple[int, ...]
    huge_sizes: tuple[int, ...]
    deltas: tuple[int, ...]
    phys_ends: tuple[int, int]
    offsets: tuple[int, ...]
    """To be added to an address so that it lies within a page, or at a boundary of another granule."""
    phys_offsets: tuple[tuple[int, ...], tuple[int, ...]]
    """The same for a physical address: where the other address is aligned to a block, so that the two still line up,
    or both are rounded to a page, which is cheap; and where it is not."""
    foreign_sizes: tuple[tuple[int, ...], tuple[int, ...]]
    """Sizes of other granules' pages and blocks that fill no table here: for an address that is aligned to a block, and
    for one that is not."""


def space_of(machine: Machine) -> Space:
    """The space of that machine."""
    return _space(machine.granule, machine["va_bits" if machine["stage"] == 1 else "ia_bits"], machine.phys_bits)


@functools.cache
def _space(granule: Granule, bits: int, phys_bits: int) -> Space:
    page, block = granule.page, granule.block
    units = tuple(granule.level_shift(level) for level in (3, 2, 1, 0))
    top = max(min(units[2], bits - 2), units[1])  # four of them are within the limit, where there is room
    large = 1 << units[2] if granule.has_large_blocks else 4 * block
    last = 1 << units[2]
    foreign = [unit for unit in foreign_units(granule) if unit < 1 << max(bits - 1, 0)] or [page]
    lining_up = [unit for unit in foreign if unit < page or unit % block == 0] or [0]
    pages, blocks = (
        [unit for unit in foreign if unit <= _MOST_PAGES * page],
        [unit for unit in foreign if unit >= block],
    )
    some_blocks = [unit for unit in blocks if unit <= _MOST_PAGES * block]
    return Space(
        limit=1 << bits,
        phys_end=1 << phys_bits,
        granule=granule,
        page=page,
        block=block,
        large=large,
        steps=(
            tuple(step << top for step in _TOP_STEPS),
            tuple(step % (1 << top - units[1]) << units[1] for step in _BLOCK_STEPS),
            tuple(step % granule.entries << units[0] for step in _PAGE_STEPS),
        ),
        units=units,
        odd_sizes=(0, 1, page + 1, *(count * page for count in _ODD_PAGES), block - 1, block + page),
        huge_sizes=(
            *(2 * block - page, 2 * block + 1, last - page, 1 << 31, 1 << 33, 1 << 36, 1 << 39, 1 << 40),
            *(1 << 47, 1 << 63, U64_MAX, U64_MAX - page + 1),
        ),
        deltas=_DELTAS[phys_bits],
        phys_ends=(1 << phys_bits, 1 << 64),
        offsets=(*(step * _ODD_STEP for step in _ODD_STEPS), *_repeated(foreign, _OFFSETS - len(_ODD_STEPS))),
        phys_offsets=(_phys_offsets(lining_up), _phys_offsets(foreign)),
        foreign_sizes=((*pages, *some_blocks) or (page,), tuple(pages) or (page,)),
    )


_ODD_STEP: Final = 0x88
_ODD_STEPS: Final = (*range(15), 31)
"""How often it is added to an address that is to be aligned to nothing."""
_OFFSETS: Final = 32
_MOST_PAGES: Final = 32
"""Or blocks: entries that an op fills without being dear."""


def _repeated(values: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(values[number % len(values)] for number in range(count))


def _phys_offsets(foreign: Sequence[int]) -> tuple[int, ...]:
    """Every second one is a boundary of another granule."""
    return tuple(
        foreign[number // 2 % len(foreign)] if number & 1 else number // 2 % 2 * _ODD_STEP for number in range(_OFFSETS)
    )


_PTE_BITS: Final = (1 << 0, 1 << 6, 1 << 7, 1 << 54, 1 << 55, 1 << 56, 1 << 58, 1 << 2)
"""Valid, readable, writable, not executable, three software bits, and a bit of the memory type (or an owner's id)."""

_LOCKED, _TABLE = PLANTED_NAMES["locked"], PLANTED_NAMES["table"]
_PLANTED: Final = (
    *(_LOCKED, _TABLE, 0, _LOCKED | 1 << 2, 1 << 2, 0xFF << 2, 1 << 55, 0x7DB),
    *(0x7D9, 0x3DB, 0x3D9, 0x75B, 1 << 54 | 0x7D9, 1 << 55 | 0x7DB, 0x7C7, 0x781),
)
"""Entries without their addresses: invalid ones with and without a lock or an owner, one with a software bit; then a
page and a block, old ones, a read-only page, a block that is not executable, a page with a software bit, one of device
memory, and a block without a memory type."""

_SMALL_POOL: Final = 24
"""Pages: a program of some ops needs about so many."""

_FAULT, _SHARED = MAP_FLAG_BITS["handle_fault"], MAP_FLAG_BITS["shared"]
_R, _W, _X = PROT_BITS["r"], PROT_BITS["w"], PROT_BITS["x"]
_COMMON_FLAGS: Final = {
    Kind.PROT: (
        _R | _W | _X,
        _R | _W,
        _R | _W | _X,
        _R,
        _R | _X,
        _R | _W | PROT_BITS["device"],
        _R | _W | PROT_BITS["nc"],
        _R | _W | PROT_BITS["sw0"],
    ),
    Kind.HYP_PROT: (
        _R | _W,
        _R | _X,
        _R | _W,
        _R,
        _R | _W | PROT_BITS["sw0"],
        _R | _X | PROT_BITS["sw1"],
        _R | _W | PROT_BITS["device"],
    ),
    Kind.MAP_FLAGS: (0, 0, 0, 0, _FAULT, _SHARED, _FAULT | _SHARED),
    Kind.VISIT_FLAGS: (7, 1, 3, 5, 2, 4, 6, 7 | _FAULT | _SHARED),
}
_COMMON_CACHES: Final = (4, 4, 3, 3, 5, 2, 2, 1, 5, 0)
_COMMON_SPLIT_CACHES: Final = (1, 2, 1, 2, 3, 0, 4, 1)
"""A split fills a table for every page it takes, which is dear."""
_COMMON_LEVELS: Final = (2, 2, 2, 1, 1, 2, 0, 3)
_COMMON_UNLINKED: Final = (0, 0, 0, 1, 1, 2, 3)
_COMMON_NTHS: Final = (1, 1, 1, 1, 2, 2, 3, 4)
_COMMON_OWNERS: Final = (1, 1, 1, 0, 0, 2, 255)


class _Bytes:
    """Input bytes, followed by as many zeros as are asked for."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        at = self.at
        self.at = at + 1
        return self.data[at] if at < len(self.data) else 0

    def literal(self) -> int:
        return int.from_bytes(bytes(self.byte() for _ in range(8)), "little")


_Decoder = Callable[[_Bytes, Space, int], int]
_Encoder = Callable[[int, Space, int], bytes]

_MAX_SELECTORS: Final = 256
"""A selector is one byte."""


def _selector(capabilities: Capabilities, stage: int) -> tuple[OpDef, ...]:
    """The op that each byte chooses, modulo their number. Padding and mutation are fond of 0 and 255, so the two
    commonest ops have the ends."""
    ops = [op for op in capabilities.ops if stage in op.stages]
    total = sum(op.weight for op in ops)
    weights = {op.number: op.weight for op in ops}
    if total > _MAX_SELECTORS:
        weights = {number: max(1, weight * _MAX_SELECTORS // total) for number, weight in weights.items()}
    first, last, *others = sorted(ops, key=lambda op: -op.weight)
    return tuple(op for op in (first, *others, last) for _ in range(weights[op.number]))


class Dialect:
    """The binary form of programs for one granule that ask for no more than `offer`. Use `dialect_for`: each is made
    once."""

    def __init__(self, capabilities: Capabilities, granule: Granule) -> None:
        self.capabilities = capabilities
        self.granule = granule
        self.selectors = {stage: _selector(capabilities, stage) for stage in (1, 2)}
        """By stage, which ops the bytes mean."""
        assert max(map(len, self.selectors.values())) <= _MAX_SELECTORS
        self.first_selectors = {
            stage: {op.number: selector.index(op) for op in selector} for stage, selector in self.selectors.items()
        }
        self.knobs = tuple(knob for knob in KNOBS if knob.name != "granule" and knob.name not in capabilities.lacks)
        """Those that bytes choose."""
        self.bare = DEFAULT_MACHINE.replace("granule", GRANULES.index(granule))
        # By op number: looking a Kind up costs more than decoding an argument.
        self.decoders = {
            op.number: tuple(_decoder(arg.kind, capabilities) for arg in op.args) for op in capabilities.ops
        }

    def chosen(self, stage: int, byte: int) -> OpDef:
        """The op that a byte chooses."""
        selector = self.selectors[stage]
        return selector[byte % len(selector)]


@functools.cache
def dialect_for(capabilities: Capabilities = DEFAULT_CAPABILITIES, granule: Granule = GRANULE_4K) -> Dialect:
    """The dialect in which everything on offer can be said, and nothing else."""
    return Dialect(capabilities, granule)


def decode(data: bytes, dialect: Dialect | None = None) -> Program:
    """The program that any bytes stand for. Never raises."""
    dialect = dialect or DEFAULT
    source = _Bytes(data)
    machine = _decode_machine(source, dialect)
    space, selector, decoders = space_of(machine), dialect.selectors[machine["stage"]], dialect.decoders
    ops: list[Op] = []
    while source.at < len(data) and len(ops) < MAX_OPS:
        definition = selector[source.byte() % len(selector)]
        ops.append(_decode_op(definition, decoders[definition.number], source, space))
    return Program(tuple(ops), machine)


def encode(program: Program, dialect: Dialect | None = None) -> bytes:
    """Bytes that decode to a program with the same machine and ops, in a dialect of its granule whose offer has what it
    asks for."""
    dialect = dialect or dialect_for(granule=program.machine.granule)
    out = bytearray()
    _encode_machine(program.machine, dialect, out)
    space, selectors = space_of(program.machine), dialect.first_selectors[program.machine["stage"]]
    for op in program.ops:
        out.append(selectors[op.definition.number])
        _encode_op(op, out, space)
    return bytes(out)


@dataclass(slots=True)
class Parts:
    """An input, cut where it may be joined anew. `header` is the machine's bytes; each op is a list of its selector
    and its arguments, as bytes. What an argument's bytes mean may depend on the op's address, how many they are does
    not, so any argument of the same kind may stand in its place. Which op a selector is depends on the `stage`, which
    is the header's: ops may join those of the same stage only."""

    header: bytes
    stage: int
    ops: list[list[bytes]]
    dialect: Dialect

    def join(self) -> bytes:
        """As one input again."""
        return b"".join((self.header, *(part for op in self.ops for part in op)))

    @property
    def machine(self) -> Machine:
        """What the header says."""
        return _decode_machine(_Bytes(self.header), self.dialect)

    def definition(self, op: list[bytes]) -> OpDef:
        """Which op one of `ops` is."""
        return self.dialect.chosen(self.stage, op[0][0])


def split(data: bytes, dialect: Dialect | None = None) -> Parts:
    """The parts of an input; what is missing of its last op is filled up with zeros. Never raises."""
    dialect = dialect or DEFAULT
    source = _Bytes(data)
    stage = _decode_machine(source, dialect)["stage"]
    at = source.at
    header = data[:at].ljust(at, b"\0")
    ops: list[list[bytes]] = []
    while at < len(data) and len(ops) < MAX_OPS:
        op = [data[at : at + 1]]
        at += 1
        for lengths in _ARG_LENGTHS[dialect.chosen(stage, op[0][0]).number]:
            size = lengths[data[at] if at < len(data) else 0]
            op.append(data[at : at + size].ljust(size, b"\0"))
            at += size
        ops.append(op)
    return Parts(header, stage, ops, dialect)


def is_dear(parts: Parts) -> bool:
    """Whether an input is for a machine with a budget or a pool beyond the usual ones."""
    if len(parts.header) < _DEAR_HEADER:  # such a knob is spelt out
        return False
    machine = parts.machine
    return any(machine[name] > usual for name, usual in _USUAL.items())


def made_usual(machine: Machine) -> Machine:
    """The machine with the default budget and pool, where those are beyond the usual ones."""
    for name, usual in _USUAL.items():
        if machine[name] > usual:
            machine = machine.replace(name, DEFAULT_MACHINE[name])
    return machine


_DEAR_HEADER: Final = 1 + 2 + 8
"""Bytes: how many knobs, one of them, that it is spelt out, and its value."""


def header_of(machine: Machine, dialect: Dialect | None = None) -> bytes:
    """The bytes that begin an input for `machine`."""
    out = bytearray()
    _encode_machine(machine, dialect or DEFAULT, out)
    return bytes(out)


def knob_value(knob: Knob, byte: int) -> int:
    """The value of a knob that one byte chooses; it is among those that the knob allows."""
    return _knob_choice(knob, byte)


def read_argument(kind: Kind, part: bytes, space: Space, ipa: int) -> int:
    """What an argument's bytes mean in a machine with such addresses, in an op whose first argument is `ipa` (0 for the
    first itself)."""
    return _DECODERS[kind](_Bytes(part), space, ipa)


def write_argument(kind: Kind, value: int, space: Space, ipa: int) -> bytes:
    """Bytes that mean `value` there."""
    return _ENCODERS[kind](value, space, ipa)


def fitting(machine: Machine, knob: Knob, value: int) -> Machine:
    """The machine with one knob changed to a value that the knob allows; the pool is moved if it must."""
    return _fitted({**dict(zip(_NAMES, machine.values, strict=True)), knob.name: value})


_NAMES: Final = tuple(knob.name for knob in KNOBS)


def _decode_machine(source: _Bytes, dialect: Dialect) -> Machine:
    count = source.byte()
    if count < _ONE_KNOB:
        return dialect.bare
    own = dialect.knobs
    changes = 1 if count < _TWO_KNOBS else 2
    if count >= _MANY_KNOBS:
        changes = source.byte() % (len(own) + 1)
    knobs = dict(zip(_NAMES, dialect.bare.values, strict=True))
    for _ in range(changes):
        knob = own[source.byte() % len(own)]
        choice = source.byte()
        value = source.literal() if choice == _LITERAL else choice
        knobs[knob.name] = _fit(knob, value) if choice == _LITERAL else _knob_choice(knob, value)
    return _fitted(knobs)


_COUNTS: Final = (b"\0", bytes((_ONE_KNOB,)), bytes((_TWO_KNOBS,)))


def _fitted(knobs: dict[str, int]) -> Machine:
    """The machine of knobs that are each in their range."""
    granule = GRANULES[knobs["granule"]]
    highest = highest_pool(knobs)
    base = knobs["pool_base"]
    knobs["pool_base"] = (base if base <= highest else base % (highest + 1)) & -granule.page
    knobs["va_bits"] = min(knobs["va_bits"], highest_va_bits(knobs))
    return Machine(tuple(knobs.values()))


def _encode_machine(machine: Machine, dialect: Dialect, out: bytearray) -> None:
    changed = machine.changed()
    changed.pop("granule", None)
    out += _COUNTS[len(changed)] if len(changed) < len(_COUNTS) else bytes((_MANY_KNOBS, len(changed)))
    for index, knob in enumerate(dialect.knobs):
        if knob.name not in changed:
            continue
        value = changed[knob.name]
        out.append(index)
        choice = next((byte for byte in range(_LITERAL) if _knob_choice(knob, byte) == value), None)
        if choice is None:
            out.append(_LITERAL)
            out += value.to_bytes(8, "little")
        else:
            out.append(choice)


_USUAL: Final = {"pool_pages": USUAL_POOL_PAGES, "budget": USUAL_BUDGET}
"""What a byte chooses at most where more would be dear: that is spelt out."""


def _knob_choice(knob: Knob, byte: int) -> int:
    span = _USUAL.get(knob.name, knob.high) - knob.low
    if knob.name == "pool_pages" and byte < _CHOICES:  # memory that runs out is worth more than memory that does not
        return 1 + byte % _SMALL_POOL
    return _fit(knob, byte if span <= 256 else span >> byte % span.bit_length())


def _fit(knob: Knob, value: int) -> int:
    """The value itself where the knob allows it as it is, else one that the knob allows."""
    if knob.problem(value) is None:
        return value
    wrapped = knob.low + value % (_USUAL.get(knob.name, knob.high) - knob.low + 1)
    return wrapped - wrapped % knob.align


def _decode_op(definition: OpDef, decoders: Sequence[_Decoder], source: _Bytes, space: Space) -> Op:
    values: list[int] = []
    ipa = 0
    for decoder in decoders:
        values.append(decoder(source, space, ipa))
        ipa = values[0]
    return Op(definition, tuple(values))


def _encode_op(op: Op, out: bytearray, space: Space) -> None:
    ipa = 0
    for arg, value in zip(op.definition.args, op.args, strict=True):
        out += _ENCODERS[arg.kind](value, space, ipa)
        ipa = op.args[0]


def _grid(byte: int, steps: int, space: Space) -> int:
    """An address from one byte of coordinates; `steps` of them (of level 1, then 2, then 3) are used."""
    top, block, page = space.steps
    address = top[byte >> 6]
    if steps > 1:
        address += block[byte >> 3 & 7]
    if steps > 2:
        address += page[byte & 7]
    return address


def _decode_ipa(source: _Bytes, space: Space, _ipa: int) -> int:
    first = source.byte()
    if first == _LITERAL:
        return source.literal()
    form, rest = first & 7, first >> 3
    if form < 5:
        return _grid(source.byte(), (3, 2, 3, 3, 1)[form], space)
    if form == 5:
        return (space.limit - ((rest & 7) << space.units[rest >> 3 & 3])) & U64_MAX
    if form == 6:
        return (rest << space.units[source.byte() & 3]) % space.limit
    return _grid(source.byte(), 3, space) + space.offsets[rest]


def _decode_size(source: _Bytes, space: Space, ipa: int) -> int:
    """Blocks where the address is aligned to one, else mostly pages: filling a table entry by entry is the dearest
    thing a program can do."""
    first = source.byte()
    if first == _LITERAL:
        return source.literal()
    form, rest = first & 15, first >> 4
    if form == 14:
        return _size_to_an_edge(ipa, space, rest)
    if form == 15:
        return space.odd_sizes[rest] if first != _HUGE[0] else space.huge_sizes[source.byte() % _HUGE_COUNT]
    if ipa % space.block and (form or rest):
        if rest == _FOREIGN:
            sizes = space.foreign_sizes[1]
            return sizes[form % len(sizes)]
        return _PAGE_COUNTS[rest & 7] * space.page
    if form < 6:
        return (rest % 3 + 1) * space.block
    if form == 6 and ipa % space.large == 0:
        return 1 << space.units[3] if rest > 13 else (rest % 3 + 1) * space.large
    if form == 6 and ipa % space.block == 0:
        return space.large if rest == 0 else (rest % 3 + 1) * space.block
    if rest == _FOREIGN and ipa % space.block == 0:
        sizes = space.foreign_sizes[0]
        return sizes[form % len(sizes)]
    return _PAGE_COUNTS[rest & 7] * space.page


def _size_to_an_edge(ipa: int, space: Space, rest: int) -> int:
    """Up to the limit, or to the end of a table, where one is near; give or take a page."""
    limit, block = space.limit, space.block
    edge = limit if ipa <= limit < ipa + 16 * block else ipa - ipa % block + block
    if edge != limit and edge - ipa > _NEAR * space.page:
        return _PAGE_COUNTS[rest & 7] * space.page if ipa % block else block << (rest & 1)
    return max(0, edge - ipa + ((rest & 3) - 1) * space.page)


def _decode_pagewise_size(source: _Bytes, space: Space, _ipa: int) -> int:
    first = source.byte()
    if first == _LITERAL:
        return source.literal()
    if first < 240:
        return _PAGE_COUNTS[first & 7] * space.page
    return space.odd_sizes[(first - 240) % _ODD_COUNT]


def _decode_phys(source: _Bytes, space: Space, ipa: int) -> int:
    first = source.byte()
    if first == _LITERAL:
        return source.literal()
    form, rest = first & 7, first >> 3
    if form < 6:
        return (ipa + space.deltas[rest & 3]) & U64_MAX
    if form == 6:
        return space.phys_ends[rest >> 4] - ((rest & 7) << space.units[rest >> 3 & 1]) & U64_MAX
    is_aligned = ipa % space.block == 0
    steps = 2 if is_aligned and rest < 24 else 3  # what does not line up is mapped page by page
    return _MEMORY + _grid(source.byte(), steps, space) + space.phys_offsets[not is_aligned][rest]


def _flags_decoder(kind: Kind) -> _Decoder:
    common, bits = _COMMON_FLAGS[kind], tuple(FLAG_NAMES[kind].values())

    def decode_flags(source: _Bytes, _space: Space, _ipa: int) -> int:
        first = source.byte()
        if first < _CHOICES:
            return common[first % len(common)]
        mask = source.byte() | (first - _CHOICES) << 8
        return sum(bit for index, bit in enumerate(bits) if mask >> index & 1)

    return decode_flags


def _flags_encoder(kind: Kind) -> _Encoder:
    bits = tuple(FLAG_NAMES[kind].values())

    def encode_flags(value: int, _space: Space, _ipa: int) -> bytes:
        mask = sum(1 << index for index, bit in enumerate(bits) if value & bit)
        return bytes((_CHOICES + (mask >> 8), mask & 0xFF))

    return encode_flags


def _small_decoder(kind: Kind, common: Sequence[int]) -> _Decoder:
    """Of a kind whose values all fit behind the common choices."""
    count = LIMITS[kind] + 1

    def decode_small(source: _Bytes, _space: Space, _ipa: int) -> int:
        first = source.byte()
        return common[first % len(common)] if first < _CHOICES else (first - _CHOICES) % count

    return decode_small


def _encode_small(value: int, _space: Space, _ipa: int) -> bytes:
    return bytes((_CHOICES + value,))


def _decode_owner(source: _Bytes, _space: Space, _ipa: int) -> int:
    first = source.byte()
    return _COMMON_OWNERS[first % len(_COMMON_OWNERS)] if first < _CHOICES else source.byte()


def _encode_owner(value: int, _space: Space, _ipa: int) -> bytes:
    return bytes((_CHOICES, value))


def _decode_unlinked(source: _Bytes, _space: Space, _ipa: int) -> int:
    first = source.byte()
    if first == _LITERAL:
        return source.literal() % MAX_UNLINKED
    return _COMMON_UNLINKED[first % len(_COMMON_UNLINKED)] if first < _CHOICES else first - _CHOICES


def _decode_split_cache(source: _Bytes, _space: Space, _ipa: int) -> int:
    first = source.byte()
    if first == _LITERAL:
        return source.literal() % (LIMITS[Kind.SPLIT_CACHE] + 1)
    return _COMMON_SPLIT_CACHES[first % len(_COMMON_SPLIT_CACHES)] if first < _CHOICES else first - _CHOICES


def _decode_nth(source: _Bytes, _space: Space, _ipa: int) -> int:
    first = source.byte()
    if first == _LITERAL:
        return source.literal() % (LIMITS[Kind.NTH] + 1)
    return _COMMON_NTHS[first % len(_COMMON_NTHS)] if first < _CHOICES else first - _CHOICES


def _decode_visitor(source: _Bytes, _space: Space, _ipa: int) -> int:
    first = source.byte()
    if first == _LITERAL:
        return source.literal() % (LIMITS[Kind.VISITOR] + 1)
    return 0 if first < _CHOICES else first - _CHOICES


def _decode_planted(source: _Bytes, space: Space, ipa: int) -> int:
    """Valid entries translate to where maps of `ipa` do, a block or a page on."""
    first = source.byte()
    if first == _LITERAL:
        return source.literal()
    entry, shift = _PLANTED[first & 15], first >> 4 & 3
    if entry & 1 == 0 or entry == _TABLE:
        return entry
    phys = ipa + _MEMORY + (shift & 1) * space.block + (shift >> 1) * space.page
    return entry | phys & _PLAIN_PA - 1 & -space.page


def _decode_id_register(source: _Bytes, _space: Space, _ipa: int) -> int:
    """Its two lowest fields: PARange of MMFR0 and VMIDBits of MMFR1 are the ones that are looked at."""
    first = source.byte()
    return source.literal() if first == _LITERAL else first


def _decode_phys_shift(source: _Bytes, _space: Space, _ipa: int) -> int:
    """What a VM may have, 32 to 52; sometimes fewer or more than any."""
    first = source.byte()
    if first == _LITERAL:
        return source.literal() % (LIMITS[Kind.PHYS_SHIFT] + 1)
    return 32 + first % 21 if first < _CHOICES else first - _CHOICES + 4


def _decode_vtcr(source: _Bytes, _space: Space, _ipa: int) -> int:
    """T0SZ and SL0, in any combination."""
    first = source.byte()
    return source.literal() if first == _LITERAL else 12 + (first & 31) | (first >> 5 & 3) << 6


def _decode_switch(source: _Bytes, _space: Space, _ipa: int) -> int:
    return source.byte() & 1


def _encode_switch(value: int, _space: Space, _ipa: int) -> bytes:
    return bytes((value,))


def _decode_pte(source: _Bytes, _space: Space, _ipa: int) -> int:
    """An entry's bits that say something to software: valid or not, permissions, software bits."""
    first = source.byte()
    if first == _LITERAL:
        return source.literal()
    return sum(bit for index, bit in enumerate(_PTE_BITS) if first >> index & 1)


def _literal(value: int) -> bytes:
    return bytes((_LITERAL,)) + value.to_bytes(8, "little")


def _shortest(decoder: _Decoder, candidates: Sequence[bytes]) -> _Encoder:
    """An encoder that looks for `value` among the candidates' meanings before it spells the value out."""

    @functools.lru_cache(maxsize=1 << 14)
    def encode_value(value: int, space: Space, ipa: int) -> bytes:
        for candidate in candidates:
            if decoder(_Bytes(candidate), space, ipa) == value:
                return candidate
        return _literal(value)

    return encode_value


_ONE_BYTE: Final = tuple(bytes((byte,)) for byte in range(_LITERAL))
_IPA_FORMS: Final = (
    *(bytes((0, byte)) for byte in range(256)),
    *(bytes((byte,)) for byte in range(_LITERAL) if byte & 7 == 5),
)
_PHYS_FORMS: Final = (
    *(bytes((byte,)) for byte in range(_LITERAL) if byte & 7 in (0, 6)),
    *(bytes((7, byte)) for byte in range(256)),
)

_SIZE_FORMS: Final = (
    *(form for form in _ONE_BYTE if form != _HUGE),
    *(_HUGE + bytes((byte,)) for byte in range(_HUGE_COUNT)),
)

BOUNDARY_CHOICES: Final = {
    Kind.IPA: tuple(byte for byte in range(_LITERAL) if byte & 7 == 5),
    Kind.SIZE: (
        *(byte for byte in range(_LITERAL) if byte & 15 == 14),
        *(byte << 4 | 15 for byte in range(_ODD_COUNT)),
    ),
    Kind.PAGEWISE_SIZE: tuple(range(240, _LITERAL)),
    Kind.PHYS: tuple(byte for byte in range(_LITERAL) if byte & 7 == 6),
}
"""First bytes that choose a value at an edge: the limit, the end of a table, an odd size, the last physical address.
Each is a whole argument."""

_DECODERS: Final = {
    Kind.IPA: _decode_ipa,
    Kind.SIZE: _decode_size,
    Kind.PAGEWISE_SIZE: _decode_pagewise_size,
    Kind.PHYS: _decode_phys,
    Kind.PROT: _flags_decoder(Kind.PROT),
    Kind.HYP_PROT: _flags_decoder(Kind.HYP_PROT),
    Kind.MAP_FLAGS: _flags_decoder(Kind.MAP_FLAGS),
    Kind.VISIT_FLAGS: _flags_decoder(Kind.VISIT_FLAGS),
    Kind.CACHE: _small_decoder(Kind.CACHE, _COMMON_CACHES),
    Kind.OWNER: _decode_owner,
    Kind.SPLIT_CACHE: _decode_split_cache,
    Kind.LEVEL: _small_decoder(Kind.LEVEL, _COMMON_LEVELS),
    Kind.UNLINKED: _decode_unlinked,
    Kind.SWITCH: _decode_switch,
    Kind.PTE: _decode_pte,
    Kind.NTH: _decode_nth,
    Kind.PLANTED: _decode_planted,
    Kind.VISITOR: _decode_visitor,
    Kind.ID_REGISTER: _decode_id_register,
    Kind.PHYS_SHIFT: _decode_phys_shift,
    Kind.VTCR: _decode_vtcr,
}
_ENCODERS: Final = {
    Kind.IPA: _shortest(_decode_ipa, _IPA_FORMS),
    Kind.SIZE: _shortest(_decode_size, _SIZE_FORMS),
    Kind.PAGEWISE_SIZE: _shortest(_decode_pagewise_size, _ONE_BYTE),
    Kind.PHYS: _shortest(_decode_phys, _PHYS_FORMS),
    Kind.PROT: _flags_encoder(Kind.PROT),
    Kind.HYP_PROT: _flags_encoder(Kind.HYP_PROT),
    Kind.MAP_FLAGS: _flags_encoder(Kind.MAP_FLAGS),
    Kind.VISIT_FLAGS: _flags_encoder(Kind.VISIT_FLAGS),
    Kind.CACHE: _encode_small,
    Kind.OWNER: _encode_owner,
    Kind.SPLIT_CACHE: _shortest(_decode_split_cache, _ONE_BYTE),
    Kind.LEVEL: _encode_small,
    Kind.UNLINKED: _shortest(_decode_unlinked, _ONE_BYTE),
    Kind.SWITCH: _encode_switch,
    Kind.PTE: _shortest(_decode_pte, _ONE_BYTE),
    Kind.NTH: _shortest(_decode_nth, _ONE_BYTE),
    Kind.PLANTED: _shortest(_decode_planted, _ONE_BYTE),
    Kind.VISITOR: _shortest(_decode_visitor, _ONE_BYTE),
    Kind.ID_REGISTER: _shortest(_decode_id_register, _ONE_BYTE),
    Kind.PHYS_SHIFT: _shortest(_decode_phys_shift, _ONE_BYTE),
    Kind.VTCR: _shortest(_decode_vtcr, _ONE_BYTE),
}


def _length(kind: Kind, first: int) -> int:
    source = _Bytes(bytes((first,)))
    _DECODERS[kind](source, space_of(DEFAULT_MACHINE), 0)
    return source.at


_LENGTHS: Final = {kind: tuple(_length(kind, first) for first in range(256)) for kind in _DECODERS}
"""Of an argument, in bytes, by its first one."""

_ARG_LENGTHS: Final = {op.number: tuple(_LENGTHS[arg.kind] for arg in op.args) for op in OPS}


def _decoder(kind: Kind, capabilities: Capabilities) -> _Decoder:
    """The decoder of arguments of a kind, without the flags that are not on offer."""
    decoder = _DECODERS[kind]
    bits = capabilities.bits(kind) if kind in FLAG_NAMES else 0
    if kind not in FLAG_NAMES or bits == LIMITS[kind]:
        return decoder
    return lambda source, space, ipa: decoder(source, space, ipa) & bits


FULL: Final = dialect_for(EVERYTHING)
"""In which every program can be said."""
DEFAULT: Final = dialect_for(DEFAULT_CAPABILITIES)
"""That of the default kernel, and of all functions here unless they are told another."""
