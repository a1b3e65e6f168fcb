"""The rules by which stale translations are judged, each with its place in the Arm ARM (DDI 0487 J.a) or in
kvm_pgtable.h. Nothing else in this folder decides; it only keeps the books.

Judged is as on a CPU with FEAT_BBM level 0, whatever the CPU has: what holds there holds everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, IntEnum
from typing import Final, NamedTuple

from harness.observation.descriptors import TABLE, AddressField, is_table_entry
from harness.observation.events import DOMAIN_NAMES
from harness.observation.tlbi import Invalidation, Target
from harness.program.definition import Op
from harness.program.granule import LAST_LEVEL
from harness.program.kinds.flags import MAP_FLAG_BITS

VALID: Final = 1
AF: Final = 1 << 10
XN: Final = 0b11 << 53
SOFTWARE: Final = 0x1FF << 55
"""Bits 63:55 of a leaf, that the hardware ignores (D8.3, "Block and page descriptors")."""
PERMISSIONS: Final = 0b11 << 6 | AF | 1 << 51 | XN
"""S2AP (of stage 1: AP), AF, DBM and XN."""
VA_MASK: Final = (1 << 56) - 1
"""What the operand of a TLBI by VA has of an address."""


class Rule(NamedTuple):
    """Where a rule stands, and what it says, in short."""

    section: str
    says: str


_BBM: Final = 'Arm ARM D8.14.1, "Using break-before-make when updating translation table entries"'
_MAINTENANCE: Final = 'Arm ARM D8.14, "TLB maintenance"'


class Rules(Enum):
    """All of them. The order is that of a translation's life: cached, changed, invalidated, gone."""

    CACHED = Rule(
        'Arm ARM D8.13, "Translation Lookaside Buffers"',
        "whatever translates may be cached, at any time and whether or not it is used: a valid entry that the tree"
        " leads to, and the way to it; not an entry that is invalid or whose access flag is clear",
    )
    BREAK = Rule(
        f"{_BBM}, R_WHZWS",
        "an entry that gives way to a table or a block, or gets another address or memory type, is invalid in between,"
        " and what was cached of it is invalidated before the new entry is there",
    )
    IN_PLACE = Rule(
        _BBM,
        "permissions, access flag and bits that the hardware ignores may change in place; what allows less than the"
        " table does harms nobody, what allows more must be invalidated",
    )
    INVALIDATED = Rule(
        f"{_MAINTENANCE}, and kvm_pgtable.h: `TLB invalidation is performed for each page-table entry cleared`",
        "what an op takes from the table is invalidated when it returns, unless the header leaves that to its caller",
    )
    FREED = Rule(
        f"{_MAINTENANCE}, on entries that hold the address of a table",
        "a page is a table's as long as the tree, or a TLB, may lead to it",
    )
    STORED = Rule(
        f"{_MAINTENANCE}, ordering and completion",
        "a TLBI acts on an entry whose store a DSB has completed before, in the domain of the TLBI",
    )
    COMPLETED = Rule(
        f"{_MAINTENANCE}, ordering and completion",
        "a TLBI is done at the next DSB, for loads and stores, of its domain",
    )
    HIT = Rule(
        'Arm ARM C5.5, "TLBI IPAS2E1", "TLBI RIPAS2E1", "TLBI VAE1"',
        "a TLBI hits what translates any address that it names; with a level hint (TTL), only leaves of that level",
    )
    LAST_LEVEL = Rule(
        'Arm ARM C5.5, "TLBI IPAS2LE1", "TLBI VALE2"',
        "an operation for the last level alone leaves the entries that lead to tables",
    )
    STAGES = Rule(
        f"{_MAINTENANCE}, operations by IPA",
        "an operation by IPA reaches entries of stage 2; what was combined of both stages goes by VMALLE1, or by VA,"
        " behind a DSB that has completed it; VMALLS12E1 and ALLE1 reach both",
    )
    SHARED = Rule(
        f"{_MAINTENANCE}, shareability",
        "a non-shareable operation reaches this CPU alone, and other CPUs walk the same tables",
    )
    CONTEXT = Rule(
        f"{_MAINTENANCE}, VMIDs and translation regimes",
        "an operation is for the VMID in VTTBR_EL2, and with HCR_EL2.{E2H,TGE} for the host's own regime; both as the"
        " last ISB found them",
    )
    PRIVATE = Rule(
        f"{_MAINTENANCE}, on ASIDs and TTBR_ELx.CnP; seed 003 (de-facto CnP)",
        "on a CPU a vCPU finds nothing of stage 1 that another vCPU left there under the same VMID: ASIDs may mean"
        " different things to the two",
    )
    WITNESSED = Rule(
        'Arm ARM D8.13, "Translation Lookaside Buffers"',
        "an access sees the table as it is, or an entry that a TLB may still hold",
    )


# D8.3, D8.13: what may be cached.


def is_valid(entry: int, level: int) -> bool:
    """Whether the hardware goes by an entry of that level. At the last one, type 0b01 is reserved."""
    return bool(entry & VALID) and (level != LAST_LEVEL or entry & TABLE == TABLE)


def may_be_cached(entry: int, level: int) -> bool:
    """Whether a TLB may hold what an entry of that level says: `Rules.CACHED`."""
    return is_valid(entry, level) and (is_table_entry(entry, level) or bool(entry & AF))


# D8.14.1: what may change, and how.


def same_for_hardware(old: int, new: int, level: int) -> bool:
    """Whether two entries of a level translate alike. Of a table, only the address counts that KVM writes."""
    return not (old ^ new) & ~SOFTWARE if not is_table_entry(old, level) else old == new


def needs_break(old: int, new: int) -> bool:
    """Whether a valid entry may become another valid one only through an invalid one: `Rules.BREAK`. KVM has no
    contiguous leaves. Another output address always needs it, though it need not where neither entry is writable."""
    return bool((old ^ new) & ~(PERMISSIONS | SOFTWARE))


class Access(IntEnum):
    """What an entry may allow."""

    READ = 1
    WRITE = 2
    EXEC = 4
    """From EL1, and in hyp's stage 1 from EL2."""
    EXEC_EL0 = 8


_EXECUTION: Final = {
    0b00: Access.EXEC | Access.EXEC_EL0,
    0b01: int(Access.EXEC_EL0),
    0b10: 0,
    0b11: int(Access.EXEC),
}
"""By XN[1:0], as FEAT_XNX has it (D8.4, "Stage 2 execute permissions")."""


def allows(entry: int, is_stage_1: bool) -> int:
    """What a leaf allows: a set of `Access` (D8.4, "Memory access control"). Of stage 1 every bit that takes something
    away counts for itself, for whether XN or PXN applies is the regime's affair."""
    if is_stage_1:
        write = 0 if entry & 1 << 7 else Access.WRITE
        return Access.READ | write | sum(bit for bit, xn in ((4, 1 << 54), (8, 1 << 53)) if not entry & xn)
    return entry >> 6 & 0b11 | _EXECUTION[entry >> 53 & 0b11]


def is_harmless(old: int, new: int, is_stage_1: bool) -> bool:
    """Whether nobody is harmed by an entry that is still cached as it was: `Rules.IN_PLACE`."""
    if needs_break(old, new) or not new & AF:
        return False
    return not allows(old, is_stage_1) & ~allows(new, is_stage_1)


# C5.5 and D8.14: what a TLBI reaches, and when.


class Barrier(NamedTuple):
    """What a DSB waits for (C6.2, "DSB"): on this CPU alone, or everywhere in the inner shareable domain."""

    has_stores: bool
    has_loads: bool
    is_everywhere: bool


_NOTHING: Final = Barrier(False, False, False)


def barrier_of(domain: int) -> Barrier:
    """The DSB with that CRm. Only one with both loads and stores completes a TLBI."""
    name = DOMAIN_NAMES.get(domain)
    if name is None:
        return _NOTHING
    return Barrier(not name.endswith("ld"), not name.endswith(("ld", "st")), not name.startswith("nsh"))


class Part(IntEnum):
    """What may be cached of an entry, as a set."""

    STAGE = 1
    """What the stage alone says, and the way to it."""
    COMBINED = 2
    """What both stages together say."""


def parts_of(target: Target) -> int:
    """What of an entry of stage 2 an operation of the EL1&0 regime reaches: `Rules.STAGES`."""
    if target is Target.STAGE_2:
        return Part.STAGE
    return Part.COMBINED if target in (Target.STAGE_1, Target.STAGE_1_OF_VMID) else Part.STAGE | Part.COMBINED


def is_of_regime(what: Invalidation, is_stage_1: bool, page_shift: int) -> bool:
    """Whether a TLBI is for the regime of the table under test, with its granule, and does anything. Entries that were
    made with stage 1 off are global, so that none goes by its ASID."""
    operation = what.operation
    if what.flaw is not None or operation.regime != (2 if is_stage_1 else 1):
        return False
    if operation.target is Target.STAGE_1 and not operation.takes_address:
        return False
    return what.page_shift in (None, page_shift)


def overlaps(what: Invalidation, start: int, size: int, is_stage_1: bool) -> bool:
    """Whether any address that a TLBI names lies in those: `Rules.HIT`."""
    if what.start is None:
        return True
    first = what.start
    if is_stage_1:
        first, start = first & VA_MASK, start & VA_MASK
    return first < start + size and start < first + (1 if what.size is None else what.size)


def passed_over(what: Invalidation, entry: int, level: int) -> Rules | None:
    """The rule by which a TLBI that names an entry's address leaves it; None where it hits. The level that TTL hints
    is that of the leaf at the address, which a table is not. Hints of operations by VA are of stage 1's tables."""
    is_table = is_table_entry(entry, level)
    if what.operation.last_level_only and is_table:
        return Rules.LAST_LEVEL
    if what.level is not None and (is_table or what.level != level):
        return Rules.HIT
    return None


# kvm_pgtable.h: what an op leaves to its caller.


class Duty(Enum):
    """Why an entry may be stale although the code under test did what it is for."""

    GRANTS_LESS = "it allows less than the table does, which harms nobody"
    LEFT_TO_CALLER = (
        "kvm_pgtable.h: `it is the caller's responsibility to invalidate the TLB after calling this function`"
    )
    UNREACHABLE = (
        "kvm_pgtable.h: `The page-table is assumed to be unreachable by any hardware walkers prior to freeing`"
    )
    NO_TLBI_WANTED = "the caller asks for no TLB invalidation (KVM_PGTABLE_WALK_SKIP_BBM_TLBI)"
    MAPPED_ALREADY = "the caller maps an address of hyp's that is mapped already"
    PART_OF_A_PAGE = "the caller's size is not of whole pages, of which KVM's own caller warns"
    PROGRAM = "the program itself wrote the entry"
    WRONG_CALLER = "the TLB function was called while another stage 2's vCPU ran, of which it warns"
    TOLD = "its op left it so, and is told of"
    NESTED_LOG = "a log write-protects a nested guest's table, which a contract judges (docs/violations.md)"


_ATTRIBUTES: Final = frozenset({"wrprotect", "test_clear_young", "mkold", "memslot_age"})
"""Ops that change attributes in place, with that note in the header; of memslot_age, linux/mmu_notifier.h says that it
may omit the flush."""
LOG_OPS: Final = frozenset({"memslot_add", "memslot_move", "memslot_log", "memslot_dirty", "memslot_clear"})
"""Ops that write-protect what is logged."""
_UNREACHABLE: Final = frozenset({"destroy", "free_unlinked", "init"})
"""Ops on a tree that no walker may be using. Another `init` leaves the tree before it behind, under the same VMID."""


def duty_of(op: Op | None, is_in_place: bool) -> Duty | None:
    """Who is to invalidate what an op takes from the tree, by its header; None: the op itself. `op` is None for the
    implicit init."""
    if op is None or op.name in _UNREACHABLE:
        return Duty.UNREACHABLE
    if op.name in _ATTRIBUTES and is_in_place:
        return Duty.LEFT_TO_CALLER
    if op.name == "map" and op.value("flags") & MAP_FLAG_BITS["skip_bbm_tlbi"]:
        return Duty.NO_TLBI_WANTED
    return Duty.MAPPED_ALREADY if op.name == "hyp_map" else None


def is_part_of_a_page(op: Op | None, start: int, size: int, page: int) -> bool:
    """Whether only what an op rounds its range up to has these addresses. kvm_pgtable.h rounds the size of an unmap up
    to pages, and its deferred invalidation down."""
    if op is None or op.name != "unmap":
        return False
    first, length = op.value("ipa") & -page, op.value("size")
    whole = length & -page
    return length != whole and not (whole and start < first + whole and first < start + size)


# D8.5, ESR_ELx: what an access sees.

DATA_ABORT: Final = 0x24 << 26
INSTRUCTION_ABORT: Final = 0x20 << 26
_WNR: Final = 1 << 6
_PERMISSION_FAULT: Final = 0b001100
ACCESSES: Final[Mapping[str, Access]] = {
    **{"read": Access.READ, "write": Access.WRITE, "exec": Access.EXEC},
    "vcpu_read": Access.READ,
}
"""Of ops by which the guest accesses memory, but for `fault`, whose argument says it."""


def permission_fault(access: Access, level: int) -> int:
    """The syndrome of an access that an entry of that level forbids. HPFAR_EL2 is not defined for it."""
    status = _PERMISSION_FAULT | level
    if access is Access.EXEC:
        return INSTRUCTION_ABORT | status
    return DATA_ABORT | (_WNR if access is Access.WRITE else 0) | status


def output_address(entry: int, address: int, size: int, addresses: AddressField) -> int:
    """Where a leaf that translates `size` bytes leads to."""
    return addresses.address(entry) & -size | address & size - 1
