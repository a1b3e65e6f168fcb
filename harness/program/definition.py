"""The operations of a program: each defined once, here.

An operation's number is part of the binary form and of the reference's protocol: it is never reused. To add one,
append its definition, implement it in `reference/kernel/ops.c` and in `harness/model/executor.py`, and write its tests.

Every argument is an unsigned 64-bit value on every side; its `Kind` says how people write it and what the fuzzer
likes to choose for it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

U64_MAX: Final = (1 << 64) - 1

CACHE_CAPACITY: Final = 40
"""Pages a memcache holds at most (linux: KVM_ARCH_NR_OBJS_PER_MEMORY_CACHE on arm64)."""
SPLIT_CACHE_CAPACITY: Final = 1 + 512
"""Pages the split cache holds at most: the tables of a whole 1G block of 4K pages. Linux's is as large as the chunk
needs that user space chose (KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE)."""

MAX_UNLINKED: Final = 4096
"""Unlinked tables that a program can make: one with each of its ops."""


class Kind(enum.Enum):
    """What an argument means."""

    IPA = "ipa"
    SIZE = "size"
    PAGEWISE_SIZE = "size of what is done page by page"
    PHYS = "phys"
    PROT = "prot"
    HYP_PROT = "prot of hyp"
    MAP_FLAGS = "map flags"
    VISIT_FLAGS = "visit flags"
    CACHE = "memcache"
    OWNER = "owner"
    SPLIT_CACHE = "split cache"
    LEVEL = "level"
    UNLINKED = "unlinked table"
    SWITCH = "on or off"
    PTE = "page-table entry"
    NTH = "which one, counted from 1"
    PLANTED = "what an entry becomes"
    VISITOR = "what a walk's visitor does"
    ID_REGISTER = "ID register of the CPU"
    PHYS_SHIFT = "bits of address"
    VTCR = "VTCR_EL2"


PROT_BITS: Final[Mapping[str, int]] = {
    "r": 1 << 2,
    "w": 1 << 1,
    "x": 1 << 0,
    "device": 1 << 3,
    "nc": 1 << 4,
    "sw0": 1 << 55,
    "sw1": 1 << 56,
    "sw2": 1 << 57,
    "sw3": 1 << 58,
}
"""enum kvm_pgtable_prot (asm/kvm_pgtable.h)."""

MAP_FLAG_BITS: Final[Mapping[str, int]] = {
    "handle_fault": 1 << 4,
    "shared": 1 << 3,
    "skip_bbm_tlbi": 1 << 5,
    "skip_cmo": 1 << 6,
}
VISIT_FLAG_BITS: Final[Mapping[str, int]] = {
    "leaf": 1 << 0,
    "table_pre": 1 << 1,
    "table_post": 1 << 2,
    "shared": 1 << 3,
    "handle_fault": 1 << 4,
}
"""enum kvm_pgtable_walk_flags (asm/kvm_pgtable.h)."""

PLANTED_NAMES: Final[Mapping[str, int]] = {"locked": 1 << 10, "table": 0b11}
"""Entries with a name of their own: one that another CPU holds (KVM_INVALID_PTE_LOCKED), and one that points to a
table. What reads as a table must not say where that is: it is always a fresh page of the pool. At level 3 the same
bits are a page, at any address."""

VISITORS: Final = ("look", "clear", "lock", "table", "eagain", "enomem", "einval", "e2big")
"""What a walk's visitor does besides recording: nothing, write the entry (as `plant` does), or return an error. A value
of Kind.VISITOR is the index of one of them in its lowest VISITOR_BITS bits; above these, the number of the visit that
it is done at, from 1; 0 is every visit."""
VISITOR_BITS: Final = 3

FLAG_NAMES: Final[Mapping[Kind, Mapping[str, int]]] = {
    Kind.PROT: PROT_BITS,
    Kind.HYP_PROT: PROT_BITS,
    Kind.MAP_FLAGS: MAP_FLAG_BITS,
    Kind.VISIT_FLAGS: VISIT_FLAG_BITS,
}

LIMITS: Final[Mapping[Kind, int]] = {
    Kind.PROT: sum(PROT_BITS.values()),
    Kind.HYP_PROT: sum(PROT_BITS.values()),
    Kind.MAP_FLAGS: sum(MAP_FLAG_BITS.values()),
    Kind.VISIT_FLAGS: sum(VISIT_FLAG_BITS.values()),
    Kind.CACHE: CACHE_CAPACITY + 1,
    Kind.OWNER: 0xFF,
    Kind.SPLIT_CACHE: SPLIT_CACHE_CAPACITY,
    Kind.LEVEL: 3,
    Kind.UNLINKED: MAX_UNLINKED - 1,
    Kind.SWITCH: 1,
    Kind.NTH: 0xFFF,
    Kind.VISITOR: 0x7FFF,
    Kind.PHYS_SHIFT: 0xFFFF_FFFF,
}
"""Largest value of a kind; for the flag kinds, the mask of allowed bits. Others take any 64-bit value."""


@dataclass(frozen=True, slots=True)
class Arg:
    """One argument: `key=value` in the text form. `default` may be left out there."""

    name: str
    kind: Kind
    default: int | None = None
    limit: int = field(init=False)
    forbidden: int = field(init=False)
    """Bits that must be clear."""

    def __post_init__(self) -> None:
        limit = LIMITS.get(self.kind, U64_MAX)
        object.__setattr__(self, "limit", limit)
        object.__setattr__(self, "forbidden", ~limit if self.kind in FLAG_NAMES else 0)

    def allows(self, value: int) -> bool:
        """Whether `value` can be carried out by both sides."""
        return 0 <= value <= self.limit and not value & self.forbidden


@dataclass(frozen=True, slots=True)
class OpDef:
    """One operation: `outs` names the values it yields besides its return code, `repeats` says that they come as
    any number of such groups (a walk's visits). `stages` are those whose tables have it; `weight` is how often the
    fuzzer chooses it, out of all weights of a stage."""

    number: int
    name: str
    args: tuple[Arg, ...]
    summary: str
    weight: int
    outs: tuple[str, ...] = ()
    repeats: bool = False
    stages: tuple[int, ...] = (2,)


_BOTH: Final = (1, 2)
_HYP: Final = (1,)
_IPA = Arg("ipa", Kind.IPA)
_SIZE = Arg("size", Kind.SIZE)
_VA = Arg("va", Kind.IPA)
_CACHE = Arg("mc", Kind.CACHE, default=0)

OPS: Final = (
    OpDef(
        1,
        "init",
        (),
        "allocate an empty table for the header's ia_bits, or va_bits in stage 1 (every program begins with one)",
        weight=3,
        outs=("vtcr", "ia_bits", "start_level", "root_pages"),
        stages=_BOTH,
    ),
    OpDef(
        2,
        "map",
        (
            _IPA,
            _SIZE,
            Arg("phys", Kind.PHYS),
            Arg("prot", Kind.PROT),
            _CACHE,
            Arg("flags", Kind.MAP_FLAGS, default=0),
        ),
        "map [ipa, ipa+size) to phys, splitting blocks and merging tables as needed",
        weight=80,
    ),
    OpDef(3, "unmap", (_IPA, _SIZE), "remove every mapping and owner annotation in the range", weight=28),
    OpDef(
        4,
        "set_owner",
        (_IPA, Arg("size", Kind.PAGEWISE_SIZE), _CACHE, Arg("owner", Kind.OWNER)),
        "unmap the range and annotate its entries with an owner id",
        weight=30,
    ),
    OpDef(
        5,
        "get_leaf",
        (_IPA,),
        "the entry that ends the walk of ipa, and its level",
        weight=16,
        outs=("pte", "level"),
        stages=_BOTH,
    ),
    OpDef(
        6,
        "walk",
        (_IPA, _SIZE, Arg("flags", Kind.VISIT_FLAGS), Arg("visitor", Kind.VISITOR, default=0)),
        "walk the range, recording each visit; at one of them, or at all, the visitor does something",
        weight=18,
        outs=("visit", "level", "ipa", "pte"),
        repeats=True,
        stages=_BOTH,
    ),
    OpDef(7, "destroy", (), "tear the table down and free its pages", weight=3, stages=_BOTH),
    OpDef(8, "wrprotect", (_IPA, _SIZE), "take write permission from the range, leaving the TLB alone", weight=12),
    OpDef(9, "mkyoung", (_IPA,), "set the access flag of the leaf that translates ipa", weight=8, outs=("pte",)),
    OpDef(
        10,
        "test_clear_young",
        (_IPA, _SIZE, Arg("mkold", Kind.SWITCH, default=0)),
        "look for access flags in the range, and clear them if so asked",
        weight=12,
        outs=("young",),
    ),
    OpDef(
        11,
        "relax_perms",
        (_IPA, Arg("prot", Kind.PROT)),
        "add permissions to the leaf that translates ipa, as a permission fault does",
        weight=14,
    ),
    OpDef(12, "flush", (_IPA, _SIZE), "clean the data cache of the range's memory; nothing with FWB", weight=5),
    OpDef(13, "tlb_flush_vmid_range", (_IPA, _SIZE), "invalidate the TLB for the range", weight=4),
    OpDef(14, "pte_prot", (Arg("pte", Kind.PTE),), "the permissions in an entry's bits", weight=2, outs=("prot",)),
    OpDef(
        15,
        "split",
        (_IPA, _SIZE, Arg("mc", Kind.SPLIT_CACHE)),
        "split the blocks of the range into pages, with tables from the split cache",
        weight=3,
    ),
    OpDef(
        16,
        "create_unlinked",
        (
            Arg("phys", Kind.PHYS),
            Arg("level", Kind.LEVEL),
            Arg("prot", Kind.PROT),
            _CACHE,
            Arg("force_pte", Kind.SWITCH, default=0),
        ),
        "make a full table for an entry of that level, which no entry points to",
        weight=1,
        outs=("table",),
    ),
    OpDef(
        17,
        "free_unlinked",
        (Arg("table", Kind.UNLINKED),),
        "free an unlinked table: the n-th that the program made or failed to make, from 0",
        weight=2,
    ),
    OpDef(
        18,
        "fail_alloc",
        (Arg("nth", Kind.NTH),),
        "let the n-th page allocation from here on fail, in whatever op that is; 0 takes it back",
        weight=2,
        stages=_BOTH,
    ),
    OpDef(
        19,
        "plant",
        (_IPA, Arg("level", Kind.LEVEL), Arg("pte", Kind.PLANTED)),
        "write an entry of the tree as somebody else would, with its page's references",
        weight=2,
        stages=_BOTH,
    ),
    OpDef(
        20,
        "link",
        (_IPA, Arg("table", Kind.UNLINKED)),
        "let the entry for ipa, of the level that the unlinked table was made for, point to it",
        weight=1,
    ),
    OpDef(21, "flush_cpu_context", (), "invalidate this CPU's TLB and instruction cache for the VMID", weight=1),
    OpDef(22, "flush_vm_context", (), "invalidate the TLB for all VMIDs, as when they run out", weight=1),
    OpDef(
        23,
        "race",
        (Arg("nth", Kind.NTH), Arg("pte", Kind.PLANTED)),
        "before the n-th cmpxchg from here on, in whatever op that is, the entry becomes pte; 0 takes it back",
        weight=3,
    ),
    OpDef(
        24,
        "hyp_map",
        (_VA, _SIZE, Arg("phys", Kind.PHYS), Arg("prot", Kind.HYP_PROT)),
        "map [va, va+size) to phys in hyp's stage 1",
        weight=110,
        stages=_HYP,
    ),
    OpDef(
        25,
        "hyp_unmap",
        (_VA, _SIZE),
        "unmap the range from hyp's stage 1, up to what is not mapped",
        weight=60,
        outs=("unmapped",),
        stages=_HYP,
    ),
    OpDef(
        26,
        "hyp_pte_prot",
        (Arg("pte", Kind.PTE),),
        "the permissions in a stage-1 entry's bits",
        weight=6,
        outs=("prot",),
        stages=_HYP,
    ),
    OpDef(
        27,
        "get_vtcr",
        (Arg("mmfr0", Kind.ID_REGISTER), Arg("mmfr1", Kind.ID_REGISTER), Arg("phys_shift", Kind.PHYS_SHIFT)),
        "the VTCR_EL2 of a VM with such an address space, on a CPU with such ID_AA64MMFR{0,1}_EL1",
        weight=1,
        outs=("vtcr",),
    ),
    OpDef(
        28,
        "pgd_size",
        (Arg("vtcr", Kind.VTCR),),
        "the bytes of a root that is shaped like this",
        weight=1,
        outs=("size",),
    ),
    OpDef(29, "mkold", (_IPA,), "clear the access flag of the leaf that translates ipa", weight=8, outs=("pte",)),
    OpDef(
        30, "is_young", (_IPA,), "whether the leaf that translates ipa has the access flag", weight=6, outs=("young",)
    ),
)

OPS_BY_NAME: Final[Mapping[str, OpDef]] = {op.name: op for op in OPS}
OPS_BY_NUMBER: Final[Mapping[int, OpDef]] = {op.number: op for op in OPS}
INIT: Final = OPS_BY_NAME["init"]


@dataclass(frozen=True, slots=True)
class Op:
    """One operation with its arguments, in the definition's order.

    Raises ValueError when the number of arguments or a value does not fit the definition.
    """

    definition: OpDef
    args: tuple[int, ...]

    def __post_init__(self) -> None:
        expected = self.definition.args
        if len(self.args) != len(expected):
            raise ValueError(f"{self.definition.name} takes {len(expected)} arguments, got {len(self.args)}")
        for arg, value in zip(expected, self.args, strict=True):
            if not arg.allows(value):
                raise ValueError(f"{self.definition.name}: {arg.name}={value:#x} is out of range")

    @classmethod
    def of(cls, name: str, **args: int) -> Op:
        """An op by name; arguments left out take their defaults. KeyError names what is unknown or missing."""
        definition = OPS_BY_NAME[name]
        unknown = args.keys() - {arg.name for arg in definition.args}
        if unknown:
            raise KeyError(f"{name} has no argument {min(unknown)}")
        values = []
        for arg in definition.args:
            value = args.get(arg.name, arg.default)
            if value is None:
                raise KeyError(f"{name} needs {arg.name}")
            values.append(value)
        return cls(definition, tuple(values))

    @property
    def name(self) -> str:
        return self.definition.name
