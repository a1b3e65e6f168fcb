"""The emulated MMU against `pgtable.translate`: entries of any bits on every kind of machine, then every access.

Left out is what QEMU 7.2 is known to get wrong: blocks at levels that have none, and address bits beyond PS where they
stand apart from the others, or come from the input (`docs/hardware.md`).
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from random import Random
from typing import Final

import pytest

from harness.findings.report import describe_record
from harness.model.executor import Model
from harness.observation.layout import Record
from harness.program.definition import Op
from harness.program.granule import GRANULES
from harness.program.guest import STUB, WINDOW
from harness.program.machine import POOL_BASE, Machine
from harness.program.ops import OPS_BY_NAME, op_of
from harness.program.program import Program
from reference.link.executor import ByGranule

MODEL: Final = Model()
_SIZES: Final = (32, 36, 40, 42, 44, 48, 52)
_ADDRESS: Final = (1 << 50) - (1 << 12)
PROBE: Final = OPS_BY_NAME["probe"]
_READ, _WRITE, _EXEC = 4, 2, 1
_FIRST_BLOCK: Final = (1, 2, 1)
"""By granule, without LPA2."""


def some_machine(choice: Random, granule: int, stage: int) -> Machine:
    """With that granule: everything else that a walk depends on is left to chance."""
    lpa2 = granule != 2 and choice.random() < 0.4
    wide = lpa2 or granule == 2
    parange = choice.choice((2, 3, 4, 5, 6))
    ia_bits = choice.randint(32, min(_SIZES[parange], 51 if wide else 48))
    fewest = 17 if granule == 2 else 16
    knobs = {name: choice.randrange(2) for name in ("fwb", "nofwb", "ha", "ac03_cpu_38", "hvhe")}
    return Machine.of(
        **knobs,
        granule=granule,
        lpa2=int(lpa2),
        pa_bits_52=1,
        parange=parange,
        ia_bits=min(ia_bits, _SIZES[parange]),
        va_bits=choice.randint(fewest, 52 if wide else 48),
        stage=stage,
        guest=stage - 1,
        pool_pages=64,
    )


def some_entry(choice: Random, machine: Machine, level: int) -> int:
    """Of any bits, but that it mostly is a leaf of the window's."""
    attributes = choice.getrandbits(64) & ~_ADDRESS
    low = choice.choice((0b01, 0b01, 0b01, 0b10, 0b00)) if level < 3 else choice.choice((0b11, 0b11, 0b11, 0b01, 0b10))
    first = _FIRST_BLOCK[machine["granule"]] - machine["lpa2"]
    if low == 0b01 and (level < first or machine.granule.level_shift(level) > _SIZES[machine["parange"]]):
        low = 0b10
    entry = attributes & ~0b11 | low
    if choice.random() < 0.8:
        entry |= 1 << 10
    if choice.random() < 0.5:
        entry &= ~(0xF << 2) | choice.choice((0, 1, 5, 6, 7, 0xF)) << 2
    if choice.random() < 0.7:
        entry |= WINDOW & -(1 << machine.granule.level_shift(level)) | choice.choice((0, 1 << machine.granule.shift))
    else:
        entry |= choice.getrandbits(50) & _ADDRESS
    if machine["lpa2"] and machine["parange"] < 6:
        entry &= ~(3 << 8)
    if machine["granule"] == 2:
        entry &= ~0xF000
    return entry


def some_program(choice: Random, granule: int, stage: int) -> Program:
    """A page of the window's, whose entries are then replaced again and again, and looked at."""
    machine = some_machine(choice, granule, stage)
    limit = 1 << machine["va_bits" if stage == 1 else "ia_bits"]
    page, block = machine.granule.page, machine.granule.block
    at = (choice.choice((0, 0x4000_0000, limit - block)) + choice.choice((0, page, 3 * page))) % limit
    ops: list[Op] = []
    if stage == 1:
        ops.append(op_of("hyp_map", va=at, size=page, phys=WINDOW, prot=_READ | choice.choice((0, _WRITE, _EXEC))))
    else:
        ops.append(op_of("map", ipa=at, size=page, phys=WINDOW, prot=choice.randrange(1, 8), mc=5, flags=0))
    for _ in range(6):
        level = choice.choice((0, 1, 2, 3, 3, 3))
        ops.append(op_of("plant", ipa=at, level=level, pte=some_entry(choice, machine, level)))
        near = (at + choice.choice((0, 0, 8, page, -page, block))) % (1 << 64)
        ops.append(op_of("probe", ipa=near))
        if stage == 2:
            ops += [
                op_of("read", ipa=near),
                op_of("write", ipa=near, value=choice.getrandbits(32)),
                op_of("exec", ipa=near),
            ]
    return Program(tuple(ops), machine)


def seen_by(record: Record, stage: int) -> tuple[int | None, list[int], Sequence[int]]:
    """What a walker did. In stage 1 QEMU 7.2 tells the entry's shareability of memory that is not cached."""
    outs = list(record.outs)
    if stage == 1 and record.definition is PROBE:
        outs = [one & ~_SH if not one & 1 and (one >> 56 < 0x10 or one >> 56 == 0x44) else one for one in outs]
    return record.ret, outs, record.events


_SH: Final = 3 << 7


@pytest.mark.parametrize("stage", [1, 2])
@pytest.mark.parametrize("granule", range(len(GRANULES)), ids=[one.name for one in GRANULES])
def test_both_walkers_find_the_same(kernels: ByGranule, granule: int, stage: int) -> None:
    choice = Random(f"{granule} {stage}")
    seen = set()
    for _ in range(50):
        program = some_program(choice, granule, stage)
        left, right = MODEL.observe(program), kernels.observe(program)
        for number, (mine, theirs) in enumerate(zip(left.records, right.records, strict=True)):
            assert seen_by(mine, stage) == seen_by(theirs, stage), (
                f"{program.machine.changed()}, {program.ops[number - 1].args}: {describe_record(mine)}"
                f" and {describe_record(theirs)}"
            )
            seen |= {word for word in describe_record(mine).replace(")", " ").split() if word in _SEEN}
    assert seen == _SEEN if stage == 2 else seen > {"translation", "permission", "access", "normal-wb"}


_SEEN: Final = {"0", "-EFAULT", "-ENXIO", "translation", "permission", "access", "address", "normal-wb", "normal-nc"}


def any_machine(choice: Random) -> Machine:
    """Whatever the architecture, KVM or QEMU make of its registers."""
    knobs = {name: choice.randrange(2) for name in ("lpa2", "pa_bits_52", "hvhe", "guest", "ha", "fwb")}
    return Machine.of(
        **knobs,
        granule=choice.randrange(3),
        parange=choice.randrange(7),
        ia_bits=choice.randint(32, 52),
        va_bits=choice.randint(14, 55),
        stage=choice.choice((1, 2, 2, 2)),
        pool_base=choice.choice((POOL_BASE, POOL_BASE, POOL_BASE, 0x1_0000_0000)),
    )


def test_both_sides_know_which_tables_can_be_walked(kernels: ByGranule) -> None:
    choice = Random(15)
    asked = [op_of("probe", ipa=0), op_of("destroy"), op_of("probe", ipa=0)]
    returned = set()
    for _ in range(150):
        machine = any_machine(choice)
        program = Program((*asked, *([] if machine["stage"] == 1 else _ACCESSES)), machine)
        left, right = MODEL.observe(program), kernels.observe(program)
        for mine, theirs in zip(left.records, right.records, strict=True):
            assert seen_by(mine, 1) == seen_by(theirs, 1), f"{machine.changed()}: {describe_record(mine)}"
        returned.add(left.records[1].ret)
    assert returned == {0, -errno.ENODEV}


_ACCESSES: Final = [op_of("init"), *(op_of(name, ipa=STUB) for name in ("probe", "read", "exec"))]
