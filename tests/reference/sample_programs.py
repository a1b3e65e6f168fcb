"""Programs that the tests of the reference run."""

from __future__ import annotations

import random
from typing import Final

from dialects import DEFAULT
from seeds import missing

from fuzz.generate.fresh import random_input
from harness.program.capabilities import Capabilities
from harness.program.codec import Dialect, decode
from harness.program.definition import Op
from harness.program.granule import GRANULE_4K
from harness.program.guest import WINDOW
from harness.program.kinds.flags import MAP_FLAG_BITS, PROT_BITS
from harness.program.machine import MAX_POOL_PAGES, Machine
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.space import U64_MAX

RWX: Final = PROT_BITS["r"] | PROT_BITS["w"] | PROT_BITS["x"]
RW: Final = PROT_BITS["r"] | PROT_BITS["w"]
PAGE_SIZE: Final = GRANULE_4K.page
BLOCK: Final = 1 << 21
PHYS: Final = 0x8000_0000


def map_op(ipa: int, size: int = PAGE_SIZE, phys: int | None = None, prot: int = RWX, mc: int = 5) -> Op:
    return op_of("map", ipa=ipa, size=size, phys=PHYS + ipa if phys is None else phys, prot=prot, mc=mc)


def unmap_op(ipa: int, size: int = PAGE_SIZE) -> Op:
    return op_of("unmap", ipa=ipa, size=size)


def owner_op(ipa: int, size: int = PAGE_SIZE, owner: int = 1) -> Op:
    return op_of("set_owner", ipa=ipa, size=size, mc=5, owner=owner)


def walk_op(ipa: int, size: int, flags: int = 7, visitor: int = 0) -> Op:
    return op_of("walk", ipa=ipa, size=size, flags=flags, visitor=visitor)


def shared_op(ipa: int) -> Op:
    """A map that others may race with."""
    flags = MAP_FLAG_BITS["shared"]
    return op_of("map", ipa=ipa, size=PAGE_SIZE, phys=PHYS + ipa, prot=RW, mc=5, flags=flags)


def hyp_map_op(va: int, size: int = PAGE_SIZE, phys: int | None = None, prot: int = RW) -> Op:
    return op_of("hyp_map", va=va, size=size, phys=PHYS + va if phys is None else phys, prot=prot)


def hyp_unmap_op(va: int, size: int = PAGE_SIZE) -> Op:
    return op_of("hyp_unmap", va=va, size=size)


def leaf_op(ipa: int) -> Op:
    return op_of("get_leaf", ipa=ipa)


INIT: Final = op_of("init")
DESTROY: Final = op_of("destroy")

ONE_PAGE: Final = Program((map_op(0x1000),))
BUSY: Final = Program(
    (
        map_op(0, BLOCK),
        map_op(0x3000, prot=RW),
        owner_op(0x5000, 2 * PAGE_SIZE, 7),
        walk_op(0, BLOCK),
        map_op(0, BLOCK, prot=RW),
        leaf_op(0x3000),
        map_op(1 << 30, 16 * PAGE_SIZE),
        unmap_op(1 << 30, 3 * PAGE_SIZE),
        map_op(2 << 30, 1 << 30),
        unmap_op(0, 1 << 32),
        walk_op(0, 1 << 30),
    )
)

FAULTS: Final = Program((map_op(0, prot=RW), op_of("relax_perms", ipa=0, prot=RWX), op_of("mkyoung", ipa=0)))
"""What a fault handler does once the page is there."""
HYP_BUSY: Final = (
    hyp_map_op(0, BLOCK + 3 * PAGE_SIZE),
    hyp_map_op(1 << 30, 2 * PAGE_SIZE, prot=PROT_BITS["r"] | PROT_BITS["x"]),
    hyp_map_op(BLOCK, prot=RW | PROT_BITS["sw1"]),
    hyp_map_op(BLOCK + PAGE_SIZE, prot=PROT_BITS["r"]),
    hyp_map_op(PAGE_SIZE),
    walk_op(BLOCK, 4 * PAGE_SIZE),
    hyp_unmap_op(1 << 30, 2 * PAGE_SIZE),
    hyp_unmap_op(BLOCK, 4 * PAGE_SIZE),
    DESTROY,
)

_TABLES: Final = (map_op(0, BLOCK), map_op(0x3000, prot=RW), map_op(1 << 30, 4 * PAGE_SIZE), owner_op(1 << 21))

_TLB: Final = (
    *_TABLES,
    map_op(0x3000, prot=RWX),
    op_of("relax_perms", ipa=0x3000, prot=PROT_BITS["x"]),
    unmap_op(0, BLOCK),
    op_of("tlb_flush_vmid_range", ipa=0x5000, size=67 * PAGE_SIZE),
    op_of("flush_cpu_context"),
    op_of("flush_vm_context"),
)
"""Every way to invalidate."""

_LOOKED_AT: Final = (
    map_op(0, phys=WINDOW),
    op_of("read", ipa=0),
    op_of("write", ipa=0, value=1),
    op_of("plant", ipa=0, level=3, pte=WINDOW | 0x3FF),
    op_of("probe", ipa=0),
    op_of("fault", ipa=0, access=1),
    op_of("exec", ipa=0),
    INIT,
    op_of("exec", ipa=0),
    map_op(0, BLOCK, phys=WINDOW),
    op_of("read", ipa=0x1000),
    DESTROY,
    op_of("read", ipa=0x1000),
)
"""By a guest, what it has and not."""

SPECIAL: Final = {
    "nothing": Program(()),
    "cut in map": Program(_TABLES, Machine.of(budget=11)),
    "cut in init": Program(_TABLES, Machine.of(budget=1)),
    "cut in walk": Program((*_TABLES, walk_op(0, 1 << 31)), Machine.of(budget=60)),
    "cut in destroy": Program((*_TABLES, DESTROY), Machine.of(budget=50)),
    "init again": Program((*_TABLES, INIT, map_op(0x4000), unmap_op(0, BLOCK))),
    "destroy twice": Program((*_TABLES, DESTROY, DESTROY)),
    "used after destroy": Program((DESTROY, map_op(0), unmap_op(0), walk_op(0, BLOCK), leaf_op(0), INIT, map_op(0))),
    "no pages": Program(_TABLES, Machine.of(pool_pages=1, ia_bits=41)),
    "few pages": Program(_TABLES, Machine.of(pool_pages=3)),
    "pool at 0": Program(_TABLES, Machine.of(pool_base=0, pool_pages=MAX_POOL_PAGES)),
    "pool high": Program(_TABLES, Machine.of(pool_base=(1 << 48) - MAX_POOL_PAGES * PAGE_SIZE, pool_pages=17)),
    "no memcache": Program((map_op(0, mc=0), owner_op(0), map_op(0, BLOCK, mc=0))),
    "full memcache": Program((map_op(0, mc=41), map_op(0, BLOCK, mc=41)), Machine.of(pool_pages=50)),
    "concatenated root": Program((*_TABLES, walk_op(1 << 39, 1 << 40)), Machine.of(ia_bits=43)),
    "48 bits": Program((*_TABLES, map_op(U64_MAX >> 16 & ~0xFFF)), Machine.of(ia_bits=48)),
    "32 bits": Program((*_TABLES, map_op(0xFFFF_F000, 2 * PAGE_SIZE)), Machine.of(ia_bits=32)),
    "no fwb": Program((*_TABLES, unmap_op(0, BLOCK)), Machine.of(fwb=0)),
    "no range": Program((*_TABLES, unmap_op(0, 1 << 31)), Machine.of(tlb_range=0)),
    "merge without range": Program((*_TABLES, map_op(0, BLOCK)), Machine.of(tlb_range=0)),
    "no hardware flag": Program((*_TABLES, map_op(0x3000, prot=RWX)), Machine.of(hw_af=0)),
    "one TLB": Program(_TLB),
    "TLB of VHE": Program(_TLB, Machine.of(kvm_mode=1, vcpu=2, ttl=0)),
    "TLB of pKVM's host": Program(_TLB, Machine.of(kvm_mode=3, vcpu=2, tlb_range=0, cnp=0, vmid=0xFFFF)),
    "TLB told twice": Program(_TLB, Machine.of(kvm_mode=2, repeat_tlbi=1)),
    "TLB of the wrong one": Program(_TLB, Machine.of(vcpu=2)),
    "cut in a TLB function": Program(_TLB, Machine.of(budget=46)),
    "nothing offered": Program((*_TABLES, unmap_op(0, BLOCK)), Machine.of(fwb=0, tlb_range=0, hw_af=0)),
    "huge unmap": Program((*_TABLES, unmap_op(0, U64_MAX), unmap_op(U64_MAX, U64_MAX))),
    "allocation fails": Program((op_of("fail_alloc", nth=2), map_op(0), map_op(0), op_of("fail_alloc", nth=1), INIT)),
    "tampered with": Program((map_op(0), op_of("plant", ipa=0, level=3, pte=1 << 10), map_op(0), unmap_op(0, BLOCK))),
    "raced": Program(
        (op_of("race", nth=1, pte=3), shared_op(0), op_of("race", nth=2, pte=1 << 10), shared_op(1 << 30))
    ),
    "visited": Program((walk_op(0, BLOCK, visitor=3), walk_op(0, BLOCK, 17, visitor=4 | 2 << 3))),
    "wrong arguments": Program((map_op(U64_MAX, U64_MAX, U64_MAX), owner_op(U64_MAX, 0, 255), walk_op(1, 1, 0))),
    "looked at": Program(_LOOKED_AT, Machine.of(guest=1)),
    "looked at, marked by the walker": Program(_LOOKED_AT, Machine.of(guest=1, ha=1)),
    "looked at, with few pages": Program(_LOOKED_AT, Machine.of(guest=1, pool_pages=3)),
    "stage 1": Program((*HYP_BUSY, INIT, *HYP_BUSY, DESTROY), Machine.of(stage=1)),
    "stage 1, nothing offered": Program(HYP_BUSY, Machine.of(stage=1, ttl=0, bti=0)),
    "stage 1 with hVHE": Program(HYP_BUSY, Machine.of(stage=1, hvhe=1)),
    "stage 1, five levels": Program(HYP_BUSY, Machine.of(stage=1, va_bits=57)),
    "stage 1, too many levels": Program(HYP_BUSY, Machine.of(stage=1, va_bits=58)),
    "stage 1, pool at 0": Program((DESTROY, DESTROY), Machine.of(stage=1, pool_base=0)),
    "stage 1 with few pages": Program(HYP_BUSY, Machine.of(stage=1, pool_pages=5)),
}
"""By what is special about them."""


def special_programs(capabilities: Capabilities) -> list[Program]:
    """Those of SPECIAL that ask for no more."""
    return [program for program in SPECIAL.values() if not missing(capabilities, program)]


def random_programs(seed: int, count: int, longest: int = 40, dialect: Dialect = DEFAULT) -> list[Program]:
    """Random choices, of up to `longest` ops, some for hyp."""
    rng = random.Random(seed)
    stages = (2,) * 9 + (1,)
    return [decode(random_input(rng, dialect, rng.choice(stages), (0, longest)), dialect) for _ in range(count)]


def largest_program() -> Program:
    """As many ops as a program may have, each as long in a request as it can be."""
    ops = (map_op(U64_MAX - 4096 * index, U64_MAX, U64_MAX, RWX | 15 << 55, 41) for index in range(4096))
    return Program(tuple(ops))
