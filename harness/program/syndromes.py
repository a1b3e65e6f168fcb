"""PAR_EL1, ESR_ELx and HPFAR_EL2: what the hardware says of a translation or an abort, in bits and in words.

Only the fields that a translation or an access determines are kept, the others are 0 (Arm ARM, each register's page).
"""

from __future__ import annotations

from typing import Final

PAR_FAULT: Final = 1
_PAR_STATUS_SHIFT: Final = 1
_PAR_S1PTW: Final = 1 << 8
_PAR_STAGE2: Final = 1 << 9
_PAR_SH_SHIFT: Final = 7
PAR_ADDRESS: Final = (1 << 52) - (1 << 12)
_PAR_MEMORY_SHIFT: Final = 56

_CLASS_SHIFT: Final = 26
INSTRUCTION_ABORT: Final = 0x20
DATA_ABORT: Final = 0x24
"""Exception classes, from a lower level; `SAME_LEVEL` is added where the level is the same."""
SAME_LEVEL: Final = 1
_WNR: Final = 1 << 6
_S1PTW: Final = 1 << 7
_STATUS: Final = 0x3F

_FIPA_SHIFT: Final = 4
_FIPA_PAGE: Final = 12


def par(pa: int, memory: int, shareability: int) -> int:
    """PAR_EL1 of a translation; the memory type as MAIR_ELx encodes it, the shareability as SH."""
    return pa & PAR_ADDRESS | memory << _PAR_MEMORY_SHIFT | shareability << _PAR_SH_SHIFT


def par_of_fault(status: int, stage: int) -> int:
    """PAR_EL1 of a fault with this status code, of stage 1 or 2."""
    return PAR_FAULT | status << _PAR_STATUS_SHIFT | (_PAR_STAGE2 if stage == 2 else 0)


def esr(exception_class: int, status: int, write: bool, on_walk: bool = False) -> int:
    """ESR_ELx of an abort, perhaps `on_walk` of stage 1, which stage 2 translates."""
    return exception_class << _CLASS_SHIFT | (_WNR if write else 0) | (_S1PTW if on_walk else 0) | status


def esr_fields(value: int) -> tuple[int, bool, int]:
    """Exception class, whether it was a write, and status code of an abort's ESR_ELx."""
    return value >> _CLASS_SHIFT, bool(value & _WNR), value & _STATUS


def hpfar(ipa: int) -> int:
    """HPFAR_EL2 of an abort at this IPA."""
    return ipa >> _FIPA_PAGE << _FIPA_SHIFT


def describe_par(value: int) -> str:
    """PAR_EL1 in words: `pa=0x80001000 normal-wb inner-shareable`, `stage 2 translation fault, level 2`."""
    if value & PAR_FAULT:
        stage = 2 if value & _PAR_STAGE2 else 1
        walk = ", on the walk of stage 1" if value & _PAR_S1PTW else ""
        return f"stage {stage} {describe_status(value >> _PAR_STATUS_SHIFT & _STATUS)}{walk}"
    memory = describe_memory(value >> _PAR_MEMORY_SHIFT)
    return f"pa={value & PAR_ADDRESS:#x} {memory} {_SHAREABILITIES[value >> _PAR_SH_SHIFT & 3]}"


def describe_esr(value: int) -> str:
    """ESR_ELx in words: `data abort, write, translation fault, level 3`; `none` for 0."""
    if not value:
        return "none"
    exception_class = value >> _CLASS_SHIFT
    words = [_CLASSES.get(exception_class, f"exception class {exception_class:#x}")]
    if exception_class & ~SAME_LEVEL == DATA_ABORT:
        words.append("write" if value & _WNR else "read")
    words.append(describe_status(value & _STATUS))
    if value & _S1PTW:
        words.append("on the walk of stage 1")
    return ", ".join(words)


def describe_status(status: int) -> str:
    """A fault status code in words: `permission fault, level 3`."""
    if status in _STATUSES_ABOVE:
        return f"{_STATUSES_ABOVE[status]}, level -1"
    kind = _STATUSES.get(status & ~3)
    return f"status {status:#x}" if kind is None else f"{kind}, level {status & 3}"


def describe_memory(memory: int) -> str:
    """A memory type in MAIR_ELx's encoding, in words: `normal-wb`, `device-nGnRE`."""
    outer, inner = memory >> 4, memory & 0xF
    if not outer:
        return f"device-{_DEVICES[inner >> 2]}"
    halves = [_CACHING.get(half >> 2, "nc" if half == _NON_CACHEABLE else "wb-transient") for half in (outer, inner)]
    return f"normal-{halves[0]}" if halves[0] == halves[1] else f"normal-outer-{halves[0]}-inner-{halves[1]}"


_SHAREABILITIES: Final = ("non-shareable", "reserved shareability", "outer-shareable", "inner-shareable")
_DEVICES: Final = ("nGnRnE", "nGnRE", "nGRE", "GRE")
_CACHING: Final = {0b00: "wt-transient", 0b10: "wt", 0b11: "wb"}
_NON_CACHEABLE: Final = 0b0100
_CLASSES: Final = {
    INSTRUCTION_ABORT: "instruction abort",
    INSTRUCTION_ABORT + SAME_LEVEL: "instruction abort at EL1",
    DATA_ABORT: "data abort",
    DATA_ABORT + SAME_LEVEL: "data abort at EL1",
}
_STATUSES: Final = {
    0b000000: "address size fault",
    0b000100: "translation fault",
    0b001000: "access flag fault",
    0b001100: "permission fault",
    0b010100: "external abort on the walk",
}
_STATUSES_ABOVE: Final = {
    0b101001: "address size fault",
    0b101011: "translation fault",
    0b010011: "external abort on the walk",
}
