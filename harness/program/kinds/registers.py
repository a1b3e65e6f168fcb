"""Values of system registers, and what goes into them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.program.kinds.kind import ONE_BYTE, Searched
from harness.program.source import CHOICES, LITERAL, Source
from harness.program.space import Space


class IdRegister(Searched):
    """Its two lowest fields: PARange of MMFR0 and VMIDBits of MMFR1 are the ones that are looked at."""

    forms: Sequence[bytes] = ONE_BYTE

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        return source.literal() if first == LITERAL else first


class PhysShift(Searched):
    """What a VM may have, 32 to 52; sometimes fewer or more than any."""

    forms: Sequence[bytes] = ONE_BYTE

    def format(self, value: int) -> str:
        return str(value)

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal() % (self.limit + 1)
        return 32 + first % 21 if first < CHOICES else first - CHOICES + 4


class Vtcr(Searched):
    """T0SZ and SL0, in any combination."""

    forms: Sequence[bytes] = ONE_BYTE

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        return source.literal() if first == LITERAL else 12 + (first & 31) | (first >> 5 & 3) << 6


ID_REGISTER: Final = IdRegister("ID register of the CPU")
PHYS_SHIFT: Final = PhysShift("bits of address", 0xFFFF_FFFF)
VTCR: Final = Vtcr("VTCR_EL2")
