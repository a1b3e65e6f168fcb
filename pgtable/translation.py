"""What the MMU makes of a table: an address and an access to a physical address and its attributes, or to a fault.

Written from the Arm ARM (DDI 0487, chapter D8 and its pseudocode) and from nothing else: it shares no reading of an
entry with the rest of this package, so that it can judge what that writes. All that is known of the table is the
registers that the walk begins with and a function that reads memory; nothing here loops, raises, or trusts an entry.

The PE is one with FEAT_LPA, FEAT_LVA, FEAT_LPA2, FEAT_TTST, FEAT_XNX and FEAT_HAFDBS, 52 bits of physical address, no
FEAT_S1PIE or FEAT_S2PIE. What the architecture leaves to it is chosen so: the contiguous bit (D8.7.1) and nT are
ignored; a reserved memory type is Device-nGnRnE with FEAT_S2FWB, else inner write-back; the reserved shareability is
non-shareable; an access that has no permission sets no access flag.
"""

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

PA_BITS: Final = 52
"""Of physical address that the PE has (PAMax)."""
_LAST_LEVEL: Final = 3
_ENTRY: Final = 8
_ENTRY_SHIFT: Final = 3
_SIZES: Final = (32, 36, 40, 42, 44, 48, 52, 52)
"""Bits of physical address by the field PS; 0b111 is taken for 0b110."""
_GRANULES: Final = {0: 12, 1: 16, 2: 14}
"""log2 of the page's bytes by the field TG0; 0b11 is reserved, and taken for 4K."""
_TOP_BYTE: Final = 56
_AF: Final = 1 << 10

ReadEntry = Callable[[int], int | None]
"""The 64 bits at a physical address, a multiple of 8; None where there is no memory."""


class Access(enum.Enum):
    """What is done at the address, at EL1 (stage 2) or EL2 (stage 1)."""

    READ = "read"
    WRITE = "write"
    EXEC = "exec"


class FaultKind(enum.Enum):
    """Classes of MMU faults (Memory aborts, MMU fault types)."""

    ADDRESS_SIZE = "address size"
    TRANSLATION = "translation"
    ACCESS_FLAG = "access flag"
    PERMISSION = "permission"
    EXTERNAL = "external abort on the walk"
    """The walk came to an address where no memory is."""


_STATUS: Final = {
    FaultKind.ADDRESS_SIZE: 0b000000,
    FaultKind.TRANSLATION: 0b000100,
    FaultKind.ACCESS_FLAG: 0b001000,
    FaultKind.PERMISSION: 0b001100,
    FaultKind.EXTERNAL: 0b010100,
}
_STATUS_ABOVE: Final = {
    FaultKind.ADDRESS_SIZE: 0b101001,
    FaultKind.TRANSLATION: 0b101011,
    FaultKind.EXTERNAL: 0b010011,
}
"""At level -1, which only these have."""


class Fault(NamedTuple):
    """Why there is no translation, and at which level and stage. Level 0 of an input address that the table does not
    translate at all."""

    kind: FaultKind
    level: int
    stage: int

    @property
    def status(self) -> int:
        """The fault status code: DFSC, IFSC and PAR_EL1.FST (ESR_ELx, ISS encoding for a Data Abort)."""
        return _STATUS_ABOVE[self.kind] if self.level < 0 else _STATUS[self.kind] | self.level


class AccessFlag(NamedTuple):
    """What the walker writes to set an access flag: the entry's physical address, and what it becomes."""

    pa: int
    entry: int


class Translation(NamedTuple):
    """Where an address leads to. `level` and `size` (bytes) are the leaf's."""

    pa: int
    level: int
    size: int
    memory: int
    """The memory type as MAIR_ELx encodes it (0xff: Normal, write-back), of both stages together."""
    shareability: int
    """As SH in an entry: 0 non-shareable, 2 outer, 3 inner."""
    readable: bool
    writable: bool
    executable: bool
    access_flag: AccessFlag | None
    """What this very access writes, where the walker sets access flags and this one was clear."""


@dataclass(frozen=True, slots=True)
class Stage2Registers:
    """A guest's stage 2, of the EL1&0 regime, below a stage 1 that is off with HCR_EL2.DC set.

    vtcr: VTCR_EL2; with its HA, the walker sets access flags. root: the address in VTTBR_EL2. fwb: HCR_EL2.FWB.
    """

    vtcr: int
    root: int
    fwb: bool


@dataclass(frozen=True, slots=True)
class Stage1Registers:
    """EL2's own stage 1: regime EL2, or with HCR_EL2.E2H the lower half of EL2&0, PSTATE.PAN clear. SCTLR_EL2 has M, C
    and I set, and WXN clear.

    tcr, root, mair: TCR_EL2, the address in TTBR0_EL2, MAIR_EL2.
    """

    tcr: int
    root: int
    mair: int
    e2h: bool


def translate(
    registers: Stage2Registers | Stage1Registers, read: ReadEntry, address: int, access: Access
) -> Translation | Fault:
    """The translation of an address (64 bits) for an access, by the table that these registers point to.

    Nothing is written: `Translation.access_flag` says what the walker would.
    """
    if isinstance(registers, Stage2Registers):
        return _translate_stage2(registers, read, address, access)
    return _translate_stage1(registers, read, address, access)


class _Table(NamedTuple):
    """What the registers say of a table."""

    stage: int
    page_shift: int
    input_bits: int
    start_level: int
    root: int
    output_bits: int
    ds: bool
    """Descriptors as FEAT_LPA2 has them."""
    sets_access_flags: bool


class _Fields(NamedTuple):
    """Of VTCR_EL2 and TCR_EL2, wherever each has them."""

    t0sz: int
    page_shift: int
    ps: int
    sh0: int
    ds: bool
    ha: bool


class _Leaf(NamedTuple):
    pa: int
    entry: int
    entry_pa: int
    level: int
    size: int
    tables: int
    """The entries above it, by OR: what they forbid, they forbid for all below."""


# The walk (D8.2, AArch64.S1Walk and AArch64.S2Walk)


def _table(stage: int, fields: _Fields, start_level: int, root: int) -> _Table:
    """The effective values of the registers' fields."""
    ds = fields.ds and fields.page_shift != 16
    output_bits = min(_SIZES[fields.ps], PA_BITS)
    if not ds and fields.page_shift != 16:
        output_bits = min(output_bits, 48)
    input_bits = 64 - fields.t0sz
    # A root is aligned to its size, and its lower address bits are RES0 (VTTBR_EL2.BADDR, TTBR0_EL2.BADDR).
    size = max(1 << max(input_bits - _shift(fields.page_shift, start_level), 0) + _ENTRY_SHIFT, 64)
    return _Table(stage, fields.page_shift, input_bits, start_level, root & -size, output_bits, ds, fields.ha)


def _shift(page_shift: int, level: int) -> int:
    """log2 of the bytes that an entry of that level translates."""
    return page_shift + (_LAST_LEVEL - level) * (page_shift - _ENTRY_SHIFT)


def _least_t0sz(fields: _Fields) -> int:
    """AArch64.S1MinTxSZ and AArch64.S2MinTxSZ, with FEAT_LVA."""
    return 12 if fields.page_shift == 16 or fields.ds else 16


def _has_blocks(table: _Table, level: int) -> bool:
    """D8.3, AArch64.BlockDescSupported: 512G blocks with FEAT_LPA2 only; with 64K pages, 4T blocks by FEAT_LPA."""
    first = {12: 0 if table.ds else 1, 14: 1 if table.ds else 2, 16: 1}[table.page_shift]
    return first <= level < _LAST_LEVEL


def _output(table: _Table, entry: int, low: int) -> int:
    """The address in an entry, from bit `low` up (D8.3; AArch64.NextTableBase, AArch64.LeafBase)."""
    top = 50 if table.ds else 48
    address = entry & (1 << top) - (1 << low)
    if table.ds:
        return address | (entry >> 8 & 0b11) << 50
    if table.page_shift == 16:
        return address | (entry >> 12 & 0xF) << 48
    return address


def _walk(table: _Table, read: ReadEntry, address: int) -> _Leaf | Fault:
    """The leaf that translates an address of the table's range, when its access flag lets it."""

    def fault(kind: FaultKind, level: int) -> Fault:
        return Fault(kind, level, table.stage)

    level, tables = table.start_level, 0
    # The first index may have more bits than a page has entries: concatenated tables (D8.2).
    at = table.root + (address >> _shift(table.page_shift, level)) * _ENTRY
    if at >> table.output_bits:
        return fault(FaultKind.ADDRESS_SIZE, 0)
    while True:
        entry = read(at)
        if entry is None:
            return fault(FaultKind.EXTERNAL, level)
        if not entry & 1:
            return fault(FaultKind.TRANSLATION, level)
        if level == _LAST_LEVEL or not entry & 2:
            break
        at = _output(table, entry, table.page_shift)
        if at >> table.output_bits:
            return fault(FaultKind.ADDRESS_SIZE, level)
        tables |= entry
        level += 1
        index = address >> _shift(table.page_shift, level) & (1 << table.page_shift - _ENTRY_SHIFT) - 1
        at += index * _ENTRY
    if not (entry & 2 if level == _LAST_LEVEL else _has_blocks(table, level)):
        return fault(FaultKind.TRANSLATION, level)
    shift = _shift(table.page_shift, level)
    pa = _output(table, entry, shift) | address & (1 << shift) - 1
    if pa >> table.output_bits:
        return fault(FaultKind.ADDRESS_SIZE, level)
    if not entry & _AF and not table.sets_access_flags:
        return fault(FaultKind.ACCESS_FLAG, level)
    return _Leaf(pa, entry, at, level, 1 << shift, tables)


def _finish(
    table: _Table, leaf: _Leaf, access: Access, memory: tuple[int, int], permissions: tuple[bool, bool, bool]
) -> Translation | Fault:
    """The translation by a leaf whose attributes these are, if it permits the access (D8.4)."""
    readable, writable, executable = permissions
    if not {Access.READ: readable, Access.WRITE: writable, Access.EXEC: executable}[access]:
        return Fault(FaultKind.PERMISSION, leaf.level, table.stage)
    flag = None if leaf.entry & _AF else AccessFlag(leaf.entry_pa, leaf.entry | _AF)
    return Translation(leaf.pa, leaf.level, leaf.size, *memory, readable, writable, executable, flag)


# Stage 2 (AArch64.S2Translate)


def _translate_stage2(registers: Stage2Registers, read: ReadEntry, address: int, access: Access) -> Translation | Fault:
    if address >> PA_BITS:  # AArch64.S1DisabledOutput
        return Fault(FaultKind.ADDRESS_SIZE, 0, 1)
    vtcr = registers.vtcr
    fields = _Fields(
        vtcr & 0x3F,
        _GRANULES.get(vtcr >> 14 & 3, 12),
        vtcr >> 16 & 7,
        vtcr >> 12 & 3,
        bool(vtcr >> 32 & 1),
        bool(vtcr >> 21 & 1),
    )
    level = _stage2_start(vtcr, fields)
    if level is None or address >> 64 - fields.t0sz:
        return Fault(FaultKind.TRANSLATION, 0, 2)
    table = _table(2, fields, level, registers.root)
    leaf = _walk(table, read, address)
    if isinstance(leaf, Fault):
        return leaf
    entry = leaf.entry
    # S2AP; XN[1:0] with FEAT_XNX: 00 all, 01 EL0 alone, 10 nobody, 11 EL1 alone (D8.4).
    executable = entry >> 53 & 3 in (0b00, 0b11)
    shareability = fields.sh0 if table.ds else entry >> 8 & 3
    memory = _stage2_memory(entry >> 2 & 0xF, shareability, registers.fwb)
    return _finish(table, leaf, access, memory, (bool(entry >> 6 & 1), bool(entry >> 7 & 1), executable))


def _stage2_start(vtcr: int, fields: _Fields) -> int | None:
    """The level that a walk starts at; None where VTCR_EL2's fields do not go together, which is a translation fault
    (D8.2; AArch64.S2InvalidSL, AArch64.S2InconsistentSL)."""
    sl0, sl2 = vtcr >> 6 & 3, vtcr >> 33 & 1
    level: int | None
    if fields.page_shift == 12 and fields.ds and sl2:
        level = -1 if sl0 == 0 else None
    elif fields.page_shift == 12:
        level = 3 if sl0 == 3 else 2 - sl0
    elif sl0 == 3 and not (fields.page_shift == 14 and fields.ds):
        level = None
    else:
        level = 3 - sl0
    if level is None or not _least_t0sz(fields) <= fields.t0sz <= (47 if fields.page_shift == 16 else 48):
        return None
    least = _shift(fields.page_shift, level) + 1
    most = least + fields.page_shift - _ENTRY_SHIFT - 1 + 4
    return level if least <= 64 - fields.t0sz <= most else None


_WRITE_BACK: Final = 0xF
"""Of one half of an attribute: write-back, read- and write-allocate. Stage 1's hints stay."""
_INNER_AND_OUTER: Final = 0x11
_HALVES: Final = {0b00: _WRITE_BACK, 0b01: 0x4, 0b10: 0xB, 0b11: _WRITE_BACK}
"""Of Normal memory, inner or outer by MemAttr's two bits: non-cacheable and write-through win over stage 1's
write-back."""
_NON_CACHEABLE: Final = 0x44


def _stage2_memory(memattr: int, shareability: int, fwb: bool) -> tuple[int, int]:
    """Memory type and shareability from an entry's MemAttr[3:0] and SH, where stage 1 gives Normal, write-back,
    non-shareable (D8.6; S2CombineS1MemAttrs, AArch64.S2ApplyFWBMemAttrs)."""
    if memattr < 0b0100:
        memory = memattr << 2
    elif not fwb:
        memory = _HALVES[memattr >> 2] << 4 | _HALVES[memattr & 3]
    elif memattr == 0b0101:
        memory = _NON_CACHEABLE
    elif memattr in (0b0110, 0b0111):
        memory = _WRITE_BACK * _INNER_AND_OUTER
    else:
        memory = 0
    return memory, _effective(memory, 0 if shareability == 0b01 else shareability)


def _effective(memory: int, shareability: int) -> int:
    """Device memory and what is not cached at all are outer shareable (EffectiveShareability)."""
    return 0b10 if memory < 0x10 or memory == _NON_CACHEABLE else shareability


# Stage 1 (AArch64.S1Translate)


def _translate_stage1(registers: Stage1Registers, read: ReadEntry, address: int, access: Access) -> Translation | Fault:
    tcr, e2h = registers.tcr, registers.e2h
    fields = _Fields(
        tcr & 0x3F,
        _GRANULES.get(tcr >> 14 & 3, 12),
        tcr >> (32 if e2h else 16) & 7,
        tcr >> 12 & 3,
        bool(tcr >> (59 if e2h else 32) & 1),
        bool(tcr >> (39 if e2h else 21) & 1),
    )
    input_bits = 64 - fields.t0sz
    # In EL2&0, bit 55 chooses between the halves, and TBI0 may leave out what is above.
    if tcr >> (37 if e2h else 20) & 1:
        address &= (1 << _TOP_BYTE) - 1
    if not _least_t0sz(fields) <= fields.t0sz <= (47 if fields.page_shift == 16 else 48) or address >> input_bits:
        return Fault(FaultKind.TRANSLATION, 0, 1)
    # As few levels as translate these bits (D8.2; AArch64.S1StartLevel).
    level = _LAST_LEVEL - (input_bits - 1 - fields.page_shift) // (fields.page_shift - _ENTRY_SHIFT)
    table = _table(1, fields, level, registers.root)
    leaf = _walk(table, read, address)
    if isinstance(leaf, Fault):
        return leaf
    entry = leaf.entry
    memory = registers.mair >> 8 * (entry >> 2 & 7) & 0xFF
    shareability = fields.sh0 if table.ds else entry >> 8 & 3
    above = 0 if tcr >> (41 if e2h else 24) & 1 else leaf.tables  # HPD0, HPD
    permissions = _stage1_permissions(entry, above, e2h)
    return _finish(table, leaf, access, (memory, _effective(memory, shareability)), permissions)


def _stage1_permissions(entry: int, above: int, e2h: bool) -> tuple[bool, bool, bool]:
    """Whether EL2 may read, write and execute, by a leaf and what the entries above it forbid (D8.4)."""
    writable = not (entry >> 7 | above >> 62) & 1  # AP[2], APTable[1]
    if not e2h:
        return True, writable, not (entry >> 54 | above >> 60) & 1  # XN, XNTable
    # What EL0 may write, EL2 must not execute.
    el0_writes = writable and entry >> 6 & 1 and not above >> 61 & 1  # AP[1], APTable[0]
    return True, writable, not ((entry >> 53 | above >> 59) & 1 or el0_writes)  # PXN, PXNTable
