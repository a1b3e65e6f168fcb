"""TLBI instructions, decoded: what one invalidates, from its operation and the register it takes.

Written from the Arm ARM (DDI 0487): each operation's own page in C5.5, "A64 system instructions for TLB maintenance",
for encodings and operands; D8.14, "TLB maintenance", for what they reach. It shares nothing with the model, which
builds these operands, nor with the kernel's macros: it is what both are judged by.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final


class Target(enum.Enum):
    """What an operation applies to."""

    STAGE_2 = "stage 2"
    """Entries of stage 2 alone, by IPA; combined entries and those of stage 1 stay."""
    STAGE_1 = "stage 1"
    """Of the regime's stage 1 by VA, and what was combined from it."""
    STAGE_1_OF_VMID = "stage 1 of the VMID"
    STAGES_1_AND_2_OF_VMID = "stages 1 and 2 of the VMID"
    ALL = "everything of the regime"


@dataclass(frozen=True, slots=True)
class Operation:
    """One TLBI operation. `number` is op1:CRn:CRm:op2 of its encoding as a SYS instruction, 14 bits."""

    name: str
    number: int
    target: Target
    takes_address: bool
    is_range: bool
    last_level_only: bool
    """Entries that translate; not those that point to tables (walk caches)."""
    regime: int
    """The highest exception level of the translation regime: 1 (EL1&0) or 2."""
    shareability: str
    """`non-shareable`: this CPU alone; `inner` or `outer shareable`: all in that domain."""

    @property
    def takes_operand(self) -> bool:
        """Whether it names a register: for an address, or for an ASID."""
        return self.takes_address or self.name.startswith("aside")


_SHAREABILITY: Final = {"": "non-shareable", "is": "inner shareable", "os": "outer shareable"}
_NAME: Final = re.compile(r"(r?)(ipas2|va|vaa|aside|vmalls12|vmall|all)(l?)(e[12]|1)(is|os)?(nxs)?$")
_TARGETS: Final = {
    "ipas2": Target.STAGE_2,
    "vmalls12": Target.STAGES_1_AND_2_OF_VMID,
    "vmall": Target.STAGE_1_OF_VMID,
    "all": Target.ALL,
}

# CRm and op2, by op1: C5.5's pages. The rows are shareability domains and forms; the columns operations.
_EL1_OP2: Final = {"vmalle1": 0, "vae1": 1, "aside1": 2, "vaae1": 3, "vale1": 5, "vaale1": 7}
_EL1_CRM: Final = {"": 7, "is": 3, "os": 1}
_EL1_RANGE_CRM: Final = {"": 6, "is": 2, "os": 5}
_EL2_OP2: Final = {"alle2": 0, "vae2": 1, "alle1": 4, "vale2": 5, "vmalls12e1": 6}
_IPA: Final = {
    **{"ipas2e1is": (0, 1), "ripas2e1is": (0, 2), "ipas2le1is": (0, 5), "ripas2le1is": (0, 6)},
    **{"ipas2e1os": (4, 0), "ipas2e1": (4, 1), "ripas2e1": (4, 2), "ripas2e1os": (4, 3)},
    **{"ipas2le1os": (4, 4), "ipas2le1": (4, 5), "ripas2le1": (4, 6), "ripas2le1os": (4, 7)},
}


def _encodings() -> Iterator[tuple[str, int, int, int]]:
    """(name, op1, CRm, op2) of every operation without the nXS qualifier."""
    for domain, crm in _EL1_CRM.items():
        for name, op2 in _EL1_OP2.items():
            yield name + domain, 0, crm, op2
            if name.startswith("va"):
                yield f"r{name}{domain}", 0, _EL1_RANGE_CRM[domain], op2
        for name, op2 in _EL2_OP2.items():
            yield name + domain, 4, crm, op2
            if name.startswith("va"):
                yield f"r{name}{domain}", 4, _EL1_RANGE_CRM[domain], op2
    for name, (crm, op2) in _IPA.items():
        yield name, 4, crm, op2


def _operation(name: str, number: int) -> Operation:
    match = _NAME.match(name)
    assert match is not None, name
    is_range, what, last_level, regime, domain, _ = match.groups(default="")
    return Operation(
        name,
        number,
        _TARGETS.get(what, Target.STAGE_1),
        takes_address=what in ("ipas2", "va", "vaa"),
        is_range=bool(is_range),
        last_level_only=bool(last_level),
        regime=int((regime or "1")[-1]),
        shareability=_SHAREABILITY[domain],
    )


_CRN: Final = 8
_CRN_NXS: Final = 9
OPERATIONS: Final = tuple(
    _operation(name + suffix, op1 << 11 | crn << 7 | crm << 3 | op2)
    for suffix, crn in (("", _CRN), ("nxs", _CRN_NXS))
    for name, op1, crm, op2 in _encodings()
)
"""Of the EL1&0 and EL2 regimes; EL3's are not Linux's."""
BY_NUMBER: Final[Mapping[int, Operation]] = {one.number: one for one in OPERATIONS}
BY_NAME: Final[Mapping[str, Operation]] = {one.name: one for one in OPERATIONS}

_PAGE_SHIFTS: Final = {0b01: 12, 0b10: 14, 0b11: 16}
"""Of TG, and of TTL[3:2]."""
_GRANULES: Final = {12: "4K", 14: "16K", 16: "64K"}
FINEST_ADDRESS: Final = 12
"""Bits of an address that no operand has."""


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What one TLBI instruction invalidates.

    `start` and `size` bound its addresses, in bytes; both are None where it takes none. A single address has size None,
    for the entry that translates it may be of any size. `level` and `page_shift` are the hints: only entries of that
    level, and of that granule, need go; None: whichever. `flaw` says why the instruction need not invalidate anything.
    """

    operation: Operation
    start: int | None = None
    size: int | None = None
    level: int | None = None
    page_shift: int | None = None
    asid: int = 0
    flaw: str | None = None

    def __str__(self) -> str:
        """`stage 2, 0x200000 at level 2 of 4K, inner shareable`."""
        where = ""
        if self.start is not None:
            where = f", {self.start:#x}" + ("" if self.size is None else f" to {self.start + self.size - 1:#x}")
            if self.level is not None:
                where += f" at level {self.level}"
            if self.page_shift is not None:
                where += f" of {_GRANULES[self.page_shift]}"
        scope = "last level only, " if self.operation.last_level_only else ""
        regime = " of EL2" if self.operation.regime == 2 else ""
        asid = f", ASID {self.asid:#x}" if self.asid else ""
        flaw = f" ({self.flaw})" if self.flaw else ""
        return f"{self.operation.target.value}{regime}{where}{asid}, {scope}{self.operation.shareability}{flaw}"


def invalidation_of(number: int, operand: int, lpa2: bool = False) -> Invalidation | None:
    """What the operation `number` with this register does; None for a number that is no operation of ours.

    lpa2: 52-bit addresses with 4K or 16K pages are in use (VTCR_EL2.DS, TCR_ELx.DS).
    """
    operation = BY_NUMBER.get(number)
    if operation is None:
        return None
    if operation.is_range:
        return _decode_range(operation, operand, lpa2)
    if operation.takes_address:
        return _decode_address(operation, operand, lpa2)
    return Invalidation(operation, asid=operand >> 48 if operation.takes_operand else 0)


def _decode_address(operation: Operation, operand: int, lpa2: bool) -> Invalidation:
    """C5.5 "TLBI IPAS2E1", "TLBI VAE1" and their like: ASID 63:48 (by VA), TTL 47:44, the address from bit 12 on in
    43:0 (VA), or 39:0 (IPA, of 52 bits)."""
    is_ipa = operation.target is Target.STAGE_2
    address = (operand & ((1 << 40 if is_ipa else 1 << 44) - 1)) << FINEST_ADDRESS
    page_shift, level = _hint(operand >> 44 & 0xF, lpa2)
    flaw = None
    if is_ipa and operand >> 40 & 0xF:
        flaw = "bits 43:40 are reserved"
    return Invalidation(operation, address, None, level, page_shift, 0 if is_ipa else operand >> 48, flaw)


def _hint(ttl: int, lpa2: bool) -> tuple[int | None, int | None]:
    """TTL: the granule in 3:2, the level in 1:0. Combinations that no leaf can have, and 0b00xx, hint nothing."""
    page_shift, level = _PAGE_SHIFTS.get(ttl >> 2), ttl & 3
    first = {12: 0 if lpa2 else 1, 14: 1 if lpa2 else 2, 16: 1}
    return (None, None) if page_shift is None or level < first[page_shift] else (page_shift, level)


def _decode_range(operation: Operation, operand: int, lpa2: bool) -> Invalidation:
    """C5.5 "TLBI RIPAS2E1", "TLBI RVAE1" and their like: ASID 63:48, TG 47:46, SCALE 45:44, NUM 43:39, TTL 38:37,
    BaseADDR 36:0. The range has (NUM + 1) * 2^(5 * SCALE + 1) pages. BaseADDR counts pages, or 64K where addresses have
    52 bits."""
    page_shift = _PAGE_SHIFTS.get(operand >> 46 & 3)
    if page_shift is None:
        return Invalidation(operation, operand & ((1 << 37) - 1), 0, flaw="TG 0b00 is reserved")
    scale, num, ttl = operand >> 44 & 3, operand >> 39 & 0x1F, operand >> 37 & 3
    start = (operand & ((1 << 37) - 1)) << (16 if lpa2 else page_shift)
    size = num + 1 << 5 * scale + 1 + page_shift
    asid = 0 if operation.target is Target.STAGE_2 else operand >> 48
    level = ttl or None
    if level is not None:
        _, level = _hint(operand >> 46 << 2 & 0xC | ttl, lpa2)
    return Invalidation(operation, start, size, level, page_shift, asid)
