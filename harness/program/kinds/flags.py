"""Flags: bits with names. A bit's place in its table is its place in the binary form, so tables only grow at their
end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.program.kinds.kind import Kind, Role, Unreadable, one_of
from harness.program.kunit import CForm
from harness.program.source import CHOICES, Source
from harness.program.space import Space

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

_MOST_BITS: Final = 8 + 6
"""That two bytes have room for: the first holds those from the ninth on, above CHOICES."""
_RWX_LETTERS: Final = "rwx"


class Flags(Kind):
    """Named bits. `common` is what a byte below CHOICES picks from. In C, a bit's name is `c_prefix` and its own in
    capitals, or what `c_names` has for it; trees that lack a bit lack that enumerator."""

    role = Role.FLAGS

    def __init__(
        self,
        name: str,
        bits: Mapping[str, int],
        common: Sequence[int],
        c_prefix: str,
        c_names: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, sum(bits.values()))
        if len(bits) > _MOST_BITS:
            raise ValueError(f"{name} has {len(bits)} flags; two bytes hold {_MOST_BITS}")
        self.bits = bits
        self.words = (*bits, "-")
        self.hint = "some joined by +, - for none"
        self.forbidden = ~self.limit
        self.common = tuple(common)
        own = c_names or {}
        self.enumerators = {one: c_prefix + own.get(one, one.upper()) for one in bits}
        """The bits in C, by name."""
        self.may_lack = True
        """Whether a tree that lacks a bit's enumerator lacks the flag."""
        self._values = tuple(bits.values())

    def format(self, value: int) -> str:
        return "+".join(name for name, bit in self.bits.items() if value & bit) or "-"

    def parse(self, text: str, name: str) -> int:
        value = offset = 0
        for part in [] if text == "-" else text.split("+"):
            value |= self._part(part, offset)
            offset += len(part) + 1
        return value

    def _part(self, part: str, offset: int) -> int:
        if part not in self.bits:
            raise Unreadable(f"expected {one_of([*self.bits, '-'])}, got `{part}`", offset)
        return self.bits[part]

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first < CHOICES:
            return self.common[first % len(self.common)]
        mask = source.byte() | (first - CHOICES) << 8
        return sum([bit for index, bit in enumerate(self._values) if mask >> index & 1])

    def encode(self, value: int, space: Space, address: int) -> bytes:
        mask = sum(1 << index for index, bit in enumerate(self._values) if value & bit)
        return bytes((CHOICES + (mask >> 8), mask & 0xFF))

    def normal(self, part: bytes) -> bytes:
        first = part[0]
        mask = (first - CHOICES) << 8 | part[1] if first >= CHOICES else 0
        if not mask >> len(self._values):
            return part
        mask &= (1 << len(self._values)) - 1
        return bytes((CHOICES + (mask >> 8), mask & 0xFF))

    def cost(self, value: int, page: int) -> int:
        return 1 + value.bit_count()

    def proposed(self, value: int, page: int) -> Iterator[int]:
        yield from (0, 1)
        yield from (value & ~(1 << bit) for bit in range(value.bit_length()) if value >> bit & 1)

    def c_form(self, value: int) -> CForm:
        return CForm(" | ".join(self.enumerators[name] for name, bit in self.bits.items() if value & bit) or "0")


class Prot(Flags):
    """Permissions and memory types: `rwx` are written together, and some of them are simpler than none."""

    def format(self, value: int) -> str:
        names = [name for name, bit in self.bits.items() if value & bit]
        letters = "".join(name for name in names if name in _RWX_LETTERS)
        return "+".join([letters, *(name for name in names if name not in _RWX_LETTERS)] if letters else names) or "-"

    def _part(self, part: str, offset: int) -> int:
        if part and set(part) <= set(_RWX_LETTERS):
            return sum(self.bits[letter] for letter in set(part))
        return super()._part(part, offset)

    def cost(self, value: int, page: int) -> int:
        readable = (value & _RWX).bit_count() + (0 if value & _R else 4)
        return 1 + readable + 8 * (value & ~_RWX).bit_count()

    def proposed(self, value: int, page: int) -> Iterator[int]:
        yield from super().proposed(value, page)
        yield from (_R, _R | _W, _RWX)


_R, _W, _X = PROT_BITS["r"], PROT_BITS["w"], PROT_BITS["x"]
_RWX: Final = _R | _W | _X
_FAULT, _SHARED = MAP_FLAG_BITS["handle_fault"], MAP_FLAG_BITS["shared"]
_C_PROT: Final = "KVM_PGTABLE_PROT_"
_C_PROTS: Final = {"nc": "NORMAL_NC"}
_C_WALK: Final = "KVM_PGTABLE_WALK_"

PROT: Final = Prot(
    "prot",
    PROT_BITS,
    (
        *(_RWX, _R | _W, _RWX, _R, _R | _X),
        *(_R | _W | PROT_BITS["device"], _R | _W | PROT_BITS["nc"], _R | _W | PROT_BITS["sw0"]),
    ),
    _C_PROT,
    _C_PROTS,
)
HYP_PROT: Final = Prot(
    "prot of hyp",
    PROT_BITS,
    (
        *(_R | _W, _R | _X, _R | _W, _R, _R | _W | PROT_BITS["sw0"]),
        *(_R | _X | PROT_BITS["sw1"], _R | _W | PROT_BITS["device"]),
    ),
    _C_PROT,
    _C_PROTS,
)
PROT.words = HYP_PROT.words = (_RWX_LETTERS, *PROT.words)
HYP_PROT.may_lack = False  # hyp takes any bits of its enumeration, and refuses those that it does not know
MAP_FLAGS: Final = Flags("map flags", MAP_FLAG_BITS, (0, 0, 0, 0, _FAULT, _SHARED, _FAULT | _SHARED), _C_WALK)
VISIT_FLAGS: Final = Flags("visit flags", VISIT_FLAG_BITS, (7, 1, 3, 5, 2, 4, 6, 7 | _FAULT | _SHARED), _C_WALK)
