"""What operations yield besides their return codes: typed, so that whoever compares or prints them needs no names."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from harness.program.kinds.handles import Handle
from harness.program.syndromes import describe_esr, describe_par


def signed(word: int) -> int:
    """A word as two's complement: results, and levels."""
    return word - (1 << 64) if word >> 63 else word


class ResultType(enum.Enum):
    """What a result's word is."""

    NUMBER = "a number, in hexadecimal"
    SIGNED = "a number in two's complement, in hexadecimal"
    LEVEL = "a level of the table, in two's complement: start levels may be negative"
    ENTRY = "an entry of the table, of the level that the LEVEL beside it says; without one, bits alone"
    VISIT = "which visit of an entry: one of enum kvm_pgtable_walk_flags"
    HANDLE = "the number of what the op made"
    TRANSLATION = "PAR_EL1, but for its bits that no translation or fault defines"
    SYNDROME = "ESR_EL2 or, of what EL1 takes itself, ESR_EL1, but for its bits that an access does not determine"


OF_HARDWARE: Final = frozenset({ResultType.TRANSLATION, ResultType.SYNDROME})
"""What only the hardware, or who knows what it does, can tell."""


@dataclass(frozen=True, slots=True)
class Result:
    """One result."""

    name: str
    type: ResultType = ResultType.NUMBER
    handle: Handle | None = None
    """Of a HANDLE, its kind."""

    def describe(self, value: int) -> str:
        """The result with its name: `level=0x3`, `level=-0x1`, `pte=0x7d3`, `table=t1`,
        `esr=(data abort, read, translation fault, level 3)`."""
        if self.type in (ResultType.SIGNED, ResultType.LEVEL):
            return f"{self.name}={signed(value):#x}"
        if self.type is ResultType.VISIT:
            return VISITS.get(value, str(value))
        if self.type is ResultType.TRANSLATION:
            return f"{self.name}=({describe_par(value)})"
        if self.type is ResultType.SYNDROME:
            return f"{self.name}=({describe_esr(value)})"
        if self.handle is not None:
            return f"{self.name}={self.handle.format(value)}"
        return f"{self.name}={value:#x}"


VISITS = {1: "leaf", 2: "table_pre", 4: "table_post"}
"""enum kvm_pgtable_walk_flags (asm/kvm_pgtable.h), those that are visits."""
