"""`translate` on tables made by hand, entry by entry, from the Arm ARM's descriptor formats."""

import random

import pytest

from pgtable import (
    GRANULE_4K,
    GRANULE_16K,
    GRANULE_64K,
    Access,
    AccessFlag,
    Fault,
    FaultKind,
    Features,
    Memcache,
    PagePool,
    Prot,
    Stage1Registers,
    Stage2,
    Stage2Registers,
    Translation,
    get_vtcr,
    translate,
)

READ, WRITE, EXEC = Access.READ, Access.WRITE, Access.EXEC
ROOT, TABLE_A, TABLE_B, TABLE_C = 0x4400_0000, 0x4420_0000, 0x4430_0000, 0x4440_0000
AF, ISH, WB = 1 << 10, 3 << 8, 0xF << 2
RW = 3 << 6
LEAF = AF | ISH | WB | RW
TG0 = {12: 0, 14: 2, 16: 1}
PS = {32: 0, 36: 1, 40: 2, 42: 3, 44: 4, 48: 5, 52: 6}


def vtcr(page_shift, ia_bits, sl0, ps=48, ds=0, ha=0, sl2=0):
    fields = (64 - ia_bits) | sl0 << 6 | 3 << 12 | TG0[page_shift] << 14 | PS[ps] << 16 | ha << 21 | 1 << 31
    return fields | ds << 32 | sl2 << 33


def stage2(*args, fwb=False, root=ROOT, **kwargs):
    return Stage2Registers(vtcr(*args, **kwargs), root, fwb)


def tcr(page_shift, va_bits, ps=48, ds=0, ha=0, e2h=False, hpd=0):
    common = (64 - va_bits) | 3 << 12 | TG0[page_shift] << 14
    if e2h:
        return common | PS[ps] << 32 | ha << 39 | hpd << 41 | ds << 59
    return common | PS[ps] << 16 | ha << 21 | hpd << 24 | ds << 32


class Memory(dict):
    """Entries by physical address; 0 elsewhere."""

    def read(self, pa):
        return self.get(pa, 0)

    def look(self, registers, address, access=READ):
        return translate(registers, self.read, address, access)


def found(memory, registers, address, access=READ):
    translation = memory.look(registers, address, access)
    assert isinstance(translation, Translation), translation
    return translation


FOUR_K = stage2(12, 39, 1)
"""One root of level 1."""


def four_k(leaf, level=3):
    """A path to the leaf for IPA 0x40201xxx (indices 1, 1, 1)."""
    memory = Memory()
    path = [(ROOT + 8, TABLE_A | 3), (TABLE_A + 8, TABLE_B | 3), (TABLE_B + 8, 0)]
    memory.update(path[: level - 1])
    memory[path[level - 1][0]] = leaf
    return memory


IPA = 0x4020_1000


# The walk


@pytest.mark.parametrize(
    ("registers", "entries", "ipa", "pa", "level", "size"),
    [
        pytest.param(
            stage2(12, 40, 1),  # 40 bits from level 1: two tables in a row
            {ROOT + 8 * 513: TABLE_A | 3, TABLE_A + 8 * 2: TABLE_B | 3, TABLE_B + 8 * 3: 0x8_7654_3000 | LEAF | 3},
            0x80_4040_3ABC,
            0x8_7654_3ABC,
            3,
            1 << 12,
            id="4k-concatenated",
        ),
        pytest.param(
            stage2(12, 48, 2),
            {
                ROOT + 8 * 511: TABLE_A | 3,
                TABLE_A: TABLE_B | 3,
                TABLE_B + 8 * 511: TABLE_C | 3,
                TABLE_C: 0x9000_0000 | LEAF | 3,
            },
            0xFF80_3FE0_0008,
            0x9000_0008,
            3,
            1 << 12,
            id="4k-level-0",
        ),
        pytest.param(
            stage2(14, 40, 1),  # level 2 with 16 tables
            {ROOT + 8 * (15 << 11 | 2047): TABLE_A | 3, TABLE_A + 8: 0x8000_4000 | LEAF | 3},
            0xFF_FE00_4123,
            0x8000_4123,
            3,
            1 << 14,
            id="16k-concatenated",
        ),
        pytest.param(
            stage2(16, 42, 1),
            {ROOT + 8 * 8191: TABLE_A | 3, TABLE_A + 8 * 8191: 0x8001_0000 | LEAF | 3},
            0x3FF_FFFF_FFF8,
            0x8001_FFF8,
            3,
            1 << 16,
            id="64k",
        ),
        pytest.param(
            stage2(12, 52, 0, ps=52, ds=1, sl2=1),
            {
                ROOT + 8 * 15: TABLE_A | 3,
                TABLE_A: TABLE_B | 3,
                TABLE_B: 0x8000_0000 | AF | WB | RW | 1,
            },
            0xF_0000_0000_1000,
            0x8000_1000,
            1,
            1 << 30,
            id="4k-level-minus-1",
        ),
        pytest.param(
            stage2(12, 52, 2, ps=52, ds=1),  # level 0 with 16 tables
            {ROOT + 8 * (15 << 9): 2 << 8 | 1 << 48 | AF | WB | RW | 1},
            0xF_0000_1234_5678,
            0x9_0000_1234_5678,
            0,
            1 << 39,
            id="4k-block-of-512g",
        ),
        pytest.param(
            stage2(14, 48, 2, ps=52, ds=1),
            {ROOT: 0xC000_0000_0000 | AF | WB | RW | 1},
            0x123_4567,
            0xC000_0123_4567,
            1,
            1 << 36,
            id="16k-block-of-64g",
        ),
        pytest.param(
            stage2(16, 48, 2, ps=52),
            {ROOT + 8: 0xA << 12 | 0x400_0000_0000 | LEAF | 1},
            0x400_0000_0010,
            0xA_0400_0000_0010,
            1,
            1 << 42,
            id="64k-block-of-4t",
        ),
    ],
)
def test_walk(registers, entries, ipa, pa, level, size):
    translation = found(Memory(entries), registers, ipa)
    assert (translation.pa, translation.level, translation.size) == (pa, level, size)
    assert translation.access_flag is None


def test_a_root_is_aligned_to_its_size():
    memory = Memory({ROOT + 8: 0x8000_0000 | LEAF | 1})
    assert found(memory, stage2(12, 40, 1, root=ROOT + 0x1000), 1 << 30).pa == 0x8000_0000


@pytest.mark.parametrize("level", [1, 2, 3])
def test_what_is_invalid_is_a_translation_fault_of_its_level(level):
    assert four_k(0xABC0, level).look(FOUR_K, IPA) == Fault(FaultKind.TRANSLATION, level, 2)


@pytest.mark.parametrize(
    ("page_shift", "ds", "levels"),
    [(12, 0, {1, 2}), (12, 1, {0, 1, 2}), (14, 0, {2}), (14, 1, {1, 2}), (16, 0, {1, 2})],
)
def test_blocks_are_of_their_levels_alone(page_shift, ds, levels):
    """Everything else is reserved, and a translation fault (D8.3)."""
    start, sl0 = {12: (0, 2), 14: (1, 2), 16: (1, 2)}[page_shift]
    ia_bits = 48
    registers = stage2(page_shift, ia_bits, sl0, ps=52 if ds else 48, ds=ds)
    good = set()
    for level in range(start, 4):
        memory = Memory()
        table = ROOT
        for above in range(start, level):
            memory[table] = (TABLE_A + (above << 20)) | 3
            table = TABLE_A + (above << 20)
        memory[table] = AF | WB | RW | 1
        result = memory.look(registers, 0)
        if isinstance(result, Translation):
            good.add(level)
        else:
            assert result == Fault(FaultKind.TRANSLATION, level, 2)
    assert good == levels


def test_level_minus_1_has_no_blocks():
    registers = stage2(12, 52, 0, ps=52, ds=1, sl2=1)
    assert Memory({ROOT: LEAF | 1}).look(registers, 0) == Fault(FaultKind.TRANSLATION, -1, 2)


@pytest.mark.parametrize(
    ("registers", "ipa", "result"),
    [
        (FOUR_K, 1 << 39, Fault(FaultKind.TRANSLATION, 0, 2)),
        (FOUR_K, (1 << 52) - 1, Fault(FaultKind.TRANSLATION, 0, 2)),
        (FOUR_K, 1 << 52, Fault(FaultKind.ADDRESS_SIZE, 0, 1)),
        (FOUR_K, (1 << 64) - 1, Fault(FaultKind.ADDRESS_SIZE, 0, 1)),
    ],
)
def test_addresses_that_no_table_translates(registers, ipa, result):
    assert Memory({ROOT: LEAF | 1}).look(registers, ipa) == result


@pytest.mark.parametrize(
    "registers",
    [
        stage2(12, 49, 2),  # more bits than 4K pages translate
        stage2(12, 49, 2, ps=52, ds=0),
        stage2(12, 53, 2, ps=52, ds=1),
        stage2(16, 53, 2, ps=52),
        stage2(12, 44, 1),  # 32 tables
        stage2(12, 30, 1),  # less than a level 2 translates
        stage2(14, 48, 3),  # level 0 is LPA2's
        stage2(16, 48, 3),
        stage2(12, 52, 1, ps=52, ds=1, sl2=1),
    ],
)
def test_fields_that_do_not_go_together_are_a_translation_fault(registers):
    """At level 0, whatever the table says."""
    assert translate(registers, lambda _: LEAF | 3, 0, READ) == Fault(FaultKind.TRANSLATION, 0, 2)


def test_sl2_means_nothing_without_lpa2():
    memory = four_k(0x8000_0000 | LEAF | 3)
    assert found(memory, stage2(12, 39, 1, sl2=1), IPA).pa == 0x8000_0000


def test_a_walk_to_where_no_memory_is_ends():
    memory = Memory({ROOT: TABLE_A | 3})

    def read(pa):
        return memory.read(pa) if pa < TABLE_A else None

    assert translate(FOUR_K, read, 0, READ) == Fault(FaultKind.EXTERNAL, 2, 2)
    assert translate(FOUR_K, lambda _: None, 0, READ) == Fault(FaultKind.EXTERNAL, 1, 2)


# Output addresses


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("ps", [32, 36, 40, 42, 44])
def test_addresses_beyond_ps_are_address_size_faults(ps, level):
    registers = stage2(12, 39, 1, ps=ps)
    kind = 1 if level < 3 else 3
    assert four_k(1 << ps | LEAF | kind, level).look(registers, IPA) == Fault(FaultKind.ADDRESS_SIZE, level, 2)
    assert found(four_k(1 << ps - 1 | LEAF | kind, level), registers, IPA).pa >> ps - 1 == 1
    if level < 3:
        assert four_k(1 << ps | TABLE_A | 3, level).look(registers, IPA) == Fault(FaultKind.ADDRESS_SIZE, level, 2)


def test_a_root_beyond_ps_is_an_address_size_fault_at_level_0():
    assert Memory().look(stage2(12, 39, 1, ps=32, root=1 << 32), 0) == Fault(FaultKind.ADDRESS_SIZE, 0, 2)


def test_with_64k_pages_bits_15_to_12_are_address_bits_whatever_ps_is():
    """AArch64.LeafBase and AArch64.OAOutOfRange."""
    memory = Memory({ROOT: 1 << 12 | LEAF | 1})
    assert found(memory, stage2(16, 42, 1, ps=52), 0).pa == 1 << 48
    assert memory.look(stage2(16, 42, 1, ps=48), 0) == Fault(FaultKind.ADDRESS_SIZE, 2, 2)
    assert Memory({ROOT: TABLE_A | 1 << 15 | 3}).look(stage2(16, 42, 1), 0) == Fault(FaultKind.ADDRESS_SIZE, 2, 2)


def test_lpa2_takes_address_bits_51_to_48_from_9_8_and_49_48():
    memory = Memory({ROOT: 2 << 8 | 1 << 49 | AF | WB | RW | 1})
    registers = stage2(12, 39, 1, ps=52, ds=1)
    translation = found(memory, registers, 0)
    assert translation.pa == 0xA_0000_0000_0000
    assert translation.shareability == 3, "VTCR_EL2.SH0"
    assert memory.look(stage2(12, 39, 1, ps=48, ds=1), 0) == Fault(FaultKind.ADDRESS_SIZE, 1, 2)


def test_bits_of_a_block_below_its_size_are_no_address():
    assert found(four_k(0x8000_0000 | 0x1F_F000 | LEAF | 1, 2), FOUR_K, IPA).pa == 0x8000_1000


# Access flag, permissions


def test_without_ha_a_clear_access_flag_faults():
    assert four_k(LEAF & ~AF | 3).look(FOUR_K, IPA) == Fault(FaultKind.ACCESS_FLAG, 3, 2)
    assert four_k(LEAF & ~AF | 1, 2).look(FOUR_K, IPA) == Fault(FaultKind.ACCESS_FLAG, 2, 2)


def test_with_ha_the_walker_sets_it():
    entry = 0x8000_0000 | LEAF & ~AF | 3
    memory = four_k(entry)
    translation = found(memory, stage2(12, 39, 1, ha=1), IPA)
    assert translation.access_flag == AccessFlag(TABLE_B + 8, entry | AF)
    assert memory[TABLE_B + 8] == entry, "nothing is written"


def test_an_access_without_permission_sets_no_access_flag():
    memory = four_k(ISH | WB | 1 << 6 | 3)
    registers = stage2(12, 39, 1, ha=1)
    assert memory.look(registers, IPA, WRITE) == Fault(FaultKind.PERMISSION, 3, 2)
    assert found(memory, registers, IPA).access_flag is not None


def test_address_size_is_told_before_access_flag_and_that_before_permission():
    registers = stage2(12, 39, 1, ps=40)
    assert four_k(1 << 40 | 3).look(registers, IPA).kind is FaultKind.ADDRESS_SIZE
    assert four_k(3).look(registers, IPA).kind is FaultKind.ACCESS_FLAG
    assert four_k(AF | 3).look(registers, IPA).kind is FaultKind.PERMISSION


@pytest.mark.parametrize("s2ap", range(4))
def test_s2ap(s2ap):
    memory = four_k(AF | WB | s2ap << 6 | 3)
    for access, bit in ((READ, 1), (WRITE, 2)):
        result = memory.look(FOUR_K, IPA, access)
        assert isinstance(result, Translation) if s2ap & bit else result == Fault(FaultKind.PERMISSION, 3, 2)


@pytest.mark.parametrize(("xn", "executable"), [(0b00, True), (0b01, False), (0b10, False), (0b11, True)])
def test_xn_of_el1(xn, executable):
    """With FEAT_XNX, and whether or not it may be read."""
    for s2ap in (0b00, 0b01):
        result = four_k(xn << 53 | AF | WB | s2ap << 6 | 3).look(FOUR_K, IPA, EXEC)
        assert isinstance(result, Translation) if executable else result == Fault(FaultKind.PERMISSION, 3, 2)


# Memory types: PAR_EL1.ATTR and SH, below a stage 1 of HCR_EL2.DC


@pytest.mark.parametrize(
    ("memattr", "memory"),
    [(0, 0x00), (1, 0x04), (2, 0x08), (3, 0x0C), (0x5, 0x44), (0xA, 0xBB), (0xF, 0xFF), (0x7, 0x4F), (0xD, 0xF4)],
)
def test_memory_types_without_fwb(memattr, memory):
    translation = found(four_k(AF | ISH | RW | memattr << 2 | 3), FOUR_K, IPA)
    assert translation.memory == memory
    assert translation.shareability == (2 if memattr < 4 or memattr == 5 else 3)


@pytest.mark.parametrize(
    ("memattr", "memory"), [(0, 0x00), (1, 0x04), (2, 0x08), (3, 0x0C), (0x5, 0x44), (0x6, 0xFF), (0x7, 0xFF)]
)
def test_memory_types_with_fwb(memattr, memory):
    translation = found(four_k(AF | ISH | RW | memattr << 2 | 3), stage2(12, 39, 1, fwb=True), IPA)
    assert translation.memory == memory
    assert translation.shareability == (2 if memattr < 6 else 3)


@pytest.mark.parametrize(("sh", "shareability"), [(0, 0), (1, 0), (2, 2), (3, 3)])
def test_shareability(sh, shareability):
    assert found(four_k(AF | sh << 8 | WB | RW | 3), FOUR_K, IPA).shareability == shareability


# Status codes


@pytest.mark.parametrize(
    ("kind", "level", "status"),
    [
        (FaultKind.ADDRESS_SIZE, 0, 0x00),
        (FaultKind.ADDRESS_SIZE, 3, 0x03),
        (FaultKind.ADDRESS_SIZE, -1, 0x29),
        (FaultKind.TRANSLATION, 0, 0x04),
        (FaultKind.TRANSLATION, 3, 0x07),
        (FaultKind.TRANSLATION, -1, 0x2B),
        (FaultKind.ACCESS_FLAG, 0, 0x08),
        (FaultKind.ACCESS_FLAG, 3, 0x0B),
        (FaultKind.PERMISSION, 0, 0x0C),
        (FaultKind.PERMISSION, 3, 0x0F),
        (FaultKind.EXTERNAL, 2, 0x16),
        (FaultKind.EXTERNAL, -1, 0x13),
    ],
)
def test_status(kind, level, status):
    assert Fault(kind, level, 2).status == status


# Stage 1

MAIR = 0x04_00_44_FF_FF
S1 = AF | ISH | 1 << 6
EL2 = Stage1Registers(tcr(12, 39), ROOT, MAIR, e2h=False)
EL20 = Stage1Registers(tcr(12, 39, e2h=True), ROOT, MAIR, e2h=True)
AP_EL0, READ_ONLY, PXN, XN = 1 << 6, 1 << 7, 1 << 53, 1 << 54


@pytest.mark.parametrize(
    ("page_shift", "va_bits", "ds", "va", "path", "level"),
    [
        (12, 48, 0, 0x1000, [0, 0, 0, 1], 0),
        (12, 52, 1, 0xF_0000_0000_0000, [15, 0, 0, 0, 0], -1),
        (12, 39, 0, 0x40_0000_0000, [256, 0, 0], 1),
        (12, 16, 0, 0xF000, [15], 3),
        (14, 47, 0, 0x4000, [0, 0, 1], 1),
        (14, 48, 0, 0x8000_0000_0000, [1, 0, 0, 0], 0),
        (14, 52, 1, 0xF_0000_0000_0000, [30, 0, 0, 0], 0),
        (16, 48, 0, 0x1_0000, [0, 0, 1], 1),
        (16, 52, 0, 0xF_FC00_0000_0000, [1023, 0, 0], 1),
        (16, 42, 0, 0x2000_0000, [1, 0], 2),
    ],
)
def test_a_stage_1_walk_has_as_few_levels_as_it_can(page_shift, va_bits, ds, va, path, level):
    registers = Stage1Registers(tcr(page_shift, va_bits, ps=52 if ds else 48, ds=ds), ROOT, MAIR, e2h=False)
    memory, table = Memory(), ROOT
    for number, index in enumerate(path[:-1]):
        memory[table + 8 * index] = (TABLE_A + (number << 20)) | 3
        table = TABLE_A + (number << 20)
    memory[table + 8 * path[-1]] = 0x8000_0000 | AF | AP_EL0 | 3
    translation = found(memory, registers, va | 0x8)
    assert (translation.pa, translation.level) == (0x8000_0008, 3)
    assert 4 - len(path) == level
    assert Memory().look(registers, va) == Fault(FaultKind.TRANSLATION, level, 1)


@pytest.mark.parametrize("registers", [EL2, EL20], ids=["el2", "el20"])
@pytest.mark.parametrize("va", [1 << 39, 1 << 55, (1 << 64) - 1])
def test_virtual_addresses_beyond_the_lower_half(registers, va):
    assert four_k(S1 | 3).look(registers, va) == Fault(FaultKind.TRANSLATION, 0, 1)


@pytest.mark.parametrize("va_bits", [15, 49, 53])
def test_sizes_of_virtual_address_that_no_table_has(va_bits):
    registers = Stage1Registers(tcr(12, va_bits), ROOT, MAIR, e2h=False)
    assert translate(registers, lambda _: S1 | 3, 0, READ) == Fault(FaultKind.TRANSLATION, 0, 1)


def test_top_byte_ignored():
    for registers, tbi in ((EL2, 1 << 20), (EL20, 1 << 37)):
        ignoring = Stage1Registers(registers.tcr | tbi, ROOT, MAIR, registers.e2h)
        assert found(four_k(0x8000_0000 | S1 | 3), ignoring, 0xAB << 56 | IPA).pa == 0x8000_0000


@pytest.mark.parametrize(
    ("index", "memory"), [(0, 0xFF), (1, 0xFF), (2, 0x44), (3, 0x00), (4, 0x04), (5, 0x00), (7, 0x00)]
)
def test_stage_1_memory_types_are_mair(index, memory):
    translation = found(four_k(S1 | index << 2 | 3), EL2, IPA)
    assert (translation.memory, translation.shareability) == (memory, 3 if memory == 0xFF else 2)


@pytest.mark.parametrize(
    ("registers", "leaf", "allowed"),
    [
        (EL2, 0, "rwx"),
        (EL2, AP_EL0, "rwx"),
        (EL2, AP_EL0 | XN, "rw"),
        (EL2, AP_EL0 | PXN, "rwx"),
        (EL2, AP_EL0 | READ_ONLY, "rx"),
        (EL2, READ_ONLY | XN, "r"),
        (EL20, 0, "rwx"),
        (EL20, XN, "rwx"),
        (EL20, PXN, "rw"),
        (EL20, READ_ONLY, "rx"),
        (EL20, AP_EL0, "rw"),
        (EL20, AP_EL0 | READ_ONLY, "rx"),
        (EL20, AP_EL0 | READ_ONLY | PXN, "r"),
    ],
)
def test_stage_1_permissions(registers, leaf, allowed):
    memory = four_k(AF | leaf | 3)
    for access, letter in ((READ, "r"), (WRITE, "w"), (EXEC, "x")):
        result = memory.look(registers, IPA, access)
        assert isinstance(result, Translation) if letter in allowed else result == Fault(FaultKind.PERMISSION, 3, 1)


@pytest.mark.parametrize(
    ("registers", "table", "leaf", "allowed"),
    [
        (EL2, 1 << 60, AP_EL0, "rw"),  # XNTable
        (EL2, 1 << 62, AP_EL0, "rx"),  # APTable[1]
        (EL2, 1 << 59 | 1 << 61, AP_EL0, "rwx"),
        (EL20, 1 << 59, 0, "rw"),  # PXNTable
        (EL20, 1 << 60, 0, "rwx"),  # UXNTable
        (EL20, 1 << 61, AP_EL0, "rwx"),  # APTable[0]: EL0 may not, so that EL2 may execute
    ],
)
def test_tables_forbid_for_all_below(registers, table, leaf, allowed):
    memory = four_k(AF | leaf | 3)
    memory[ROOT + 8] |= table
    translation = found(memory, registers, IPA)
    rwx = (translation.readable, translation.writable, translation.executable)
    assert "".join(letter for letter, granted in zip("rwx", rwx, strict=True) if granted) == allowed
    hpd = 1 << (41 if registers.e2h else 24)
    ignoring = Stage1Registers(registers.tcr | hpd, ROOT, MAIR, registers.e2h)
    plain = four_k(AF | leaf | 3)
    assert found(memory, ignoring, IPA) == found(plain, registers, IPA)


def test_stage_1_sets_access_flags_with_ha():
    registers = Stage1Registers(tcr(12, 39, ha=1), ROOT, MAIR, e2h=False)
    assert found(four_k(AP_EL0 | 3), registers, IPA).access_flag == AccessFlag(TABLE_B + 8, AP_EL0 | AF | 3)
    assert four_k(AP_EL0 | 3).look(EL2, IPA) == Fault(FaultKind.ACCESS_FLAG, 3, 1)


# Anything at all


def test_no_entry_can_lead_it_astray():
    """Five levels are the most, whatever the entries are and wherever they lead."""
    chance = random.Random(1)
    seen = set()
    for _ in range(4000):
        shift, ds = chance.choice((12, 14, 16)), chance.getrandbits(1)
        bits = chance.randint(32, 52)
        registers = chance.choice(
            (
                stage2(shift, bits, chance.randrange(4), ps=chance.choice(list(PS)), ds=ds, ha=chance.getrandbits(1)),
                Stage1Registers(tcr(shift, bits, ps=chance.choice(list(PS)), ds=ds), ROOT, MAIR, e2h=False),
            )
        )
        reads = 0

        def read(pa):
            nonlocal reads
            reads += 1
            assert pa % 8 == 0
            assert pa < 1 << 52
            return chance.getrandbits(64) | 3 if chance.randrange(20) else None

        address = chance.getrandbits(chance.choice((bits, 64)))
        result = translate(registers, read, address, chance.choice(list(Access)))
        assert reads <= 5
        if isinstance(result, Translation):
            assert result.pa % result.size == address % result.size
            seen.add("translation")
        else:
            assert 0 <= result.status < 64
            seen.add(result.kind)
    assert seen == {"translation", *FaultKind}


# What this package writes


@pytest.mark.parametrize("geometry", [GRANULE_4K, GRANULE_16K, GRANULE_64K], ids=["4k", "16k", "64k"])
@pytest.mark.parametrize("lpa2", [False, True], ids=["", "lpa2"])
@pytest.mark.parametrize("ia_bits", [32, 40, 43, 44, 48])
@pytest.mark.parametrize("fwb", [False, True], ids=["", "fwb"])
def test_what_stage_2_maps_is_what_translates(geometry, lpa2, ia_bits, fwb):
    features = Features(lpa2=lpa2 and geometry is not GRANULE_64K, fwb=fwb)
    value = get_vtcr(ia_bits, features, geometry)
    pool, cache = PagePool(ROOT, 64, page_size=geometry.page_size), Memcache()
    table = Stage2(value, pool, features=features, geometry=geometry)
    page, block = geometry.page_size, geometry.level_size(2)
    high = (1 << ia_bits) - 4 * block
    assert [table.init(), cache.topup(pool, 12)] == [0, 0]
    assert table.map(high, block, 0x4000_0000 * 16, Prot.R | Prot.W, cache) == 0
    assert table.map(page, page, 0x8000_0000, Prot.R | Prot.X, cache) == 0
    registers = Stage2Registers(value, table.root, fwb)

    def read(pa):
        return pool.table(pa)[pa // 8 % geometry.entries]

    def look(ipa, access):
        return translate(registers, read, ipa, access)

    block_found, page_found = look(high + 8, WRITE), look(page + 8, EXEC)
    assert block_found[:4] == (0x4_0000_0008, 2, block, 0xFF)
    assert page_found[:4] == (0x8000_0008, 3, page, 0xFF)
    assert page_found.shareability == 3
    assert look(high, EXEC) == Fault(FaultKind.PERMISSION, 2, 2)
    assert look(page, WRITE) == Fault(FaultKind.PERMISSION, 3, 2)
    assert look(2 * page, READ) == Fault(FaultKind.TRANSLATION, 3, 2)
