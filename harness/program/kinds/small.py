"""Small numbers, most of which are few: caches, owners, levels, counts, switches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from harness.program.kinds.kind import ONE_BYTE, Kind, Searched, Unreadable, parse_choice, parse_number
from harness.program.kunit import CForm
from harness.program.source import CHOICES, LITERAL, Source
from harness.program.space import Space

CACHE_CAPACITY: Final = 40
"""Pages a memcache holds at most (linux: KVM_ARCH_NR_OBJS_PER_MEMORY_CACHE on arm64)."""
SPLIT_CACHE_CAPACITY: Final = 1 + 512
"""Pages the split cache holds at most: the tables of a whole 1G block of 4K pages. Linux's is as large as the chunk
needs that user space chose (KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE)."""
_SWITCH: Final = ("off", "on")


VMID_OWNERS: Final = 8
"""How many structures a program has that a VMID is kept in, each of an MMU's."""


class Few(Kind):
    """Decimal numbers, all of which fit behind the common choices."""

    def __init__(self, name: str, limit: int, common: Sequence[int]) -> None:
        super().__init__(name, limit)
        self._common = tuple(common)

    def format(self, value: int) -> str:
        return str(value)

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        return self._common[first % len(self._common)] if first < CHOICES else (first - CHOICES) % (self.limit + 1)

    def encode(self, value: int, space: Space, address: int) -> bytes:
        return bytes((CHOICES + value,))

    def cost(self, value: int, page: int) -> int:
        return value + 1


class Number(Searched):
    """Decimal numbers: common ones, small ones, and others that are spelt out."""

    forms: Sequence[bytes] = ONE_BYTE

    def __init__(self, name: str, limit: int, common: Sequence[int]) -> None:
        super().__init__(name, limit)
        self._common = tuple(common)

    def format(self, value: int) -> str:
        return str(value)

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        if first == LITERAL:
            return source.literal() % (self.limit + 1)
        return self._common[first % len(self._common)] if first < CHOICES else first - CHOICES

    def cost(self, value: int, page: int) -> int:
        return value + 1


class Memcache(Few):
    """Pages that the memcache is topped up to first, plus one; 0 is no memcache at all."""

    def __init__(self, name: str, limit: int, common: Sequence[int]) -> None:
        super().__init__(name, limit, common)
        self.words = ("none",)

    def format(self, value: int) -> str:
        return str(value - 1) if value else "none"

    def parse(self, text: str, name: str) -> int:
        return 0 if text == "none" else parse_number(text) + 1

    def c_form(self, value: int) -> CForm:
        cache = "&s2_cache" if value else "NULL"
        topup = f"s2_topup(&s2_cache, {value - 1}) ?: " if value else ""
        return CForm(cache, {"pages": str(max(0, value - 1)), "topup": topup}, CACHE_CAPACITY)


class SplitCache(Number):
    """Pages that the split cache is topped up to first."""

    def parse(self, text: str, name: str) -> int:
        if text == "none":
            raise Unreadable("expected pages: without a cache, Linux would read NULL")
        return parse_number(text)

    def c_form(self, value: int) -> CForm:
        return CForm(str(value), pages=value)


class Owner(Few):
    """An owner's id: any byte."""

    def decode(self, source: Source, space: Space, address: int) -> int:
        first = source.byte()
        return self._common[first % len(self._common)] if first < CHOICES else source.byte()

    def encode(self, value: int, space: Space, address: int) -> bytes:
        return bytes((CHOICES, value))


class Switch(Kind):
    """On or off."""

    def __init__(self, name: str) -> None:
        super().__init__(name, 1)
        self.words = _SWITCH

    def format(self, value: int) -> str:
        return _SWITCH[value]

    def parse(self, text: str, name: str) -> int:
        return parse_choice(text, name, _SWITCH)

    def decode(self, source: Source, space: Space, address: int) -> int:
        return source.byte() & 1

    def c_form(self, value: int) -> CForm:
        return CForm(("false", "true")[value])


class Named(Kind):
    """One of a few things that have names; the first is 0."""

    def __init__(self, name: str, names: Sequence[str]) -> None:
        super().__init__(name, len(names) - 1)
        self.words = tuple(names)

    def format(self, value: int) -> str:
        return self.words[value]

    def parse(self, text: str, name: str) -> int:
        return parse_choice(text, name, self.words)

    def decode(self, source: Source, space: Space, address: int) -> int:
        return source.byte() % (self.limit + 1)

    def encode(self, value: int, space: Space, address: int) -> bytes:
        return bytes((value,))


MEMCACHE: Final = Memcache("memcache", CACHE_CAPACITY + 1, (4, 4, 3, 3, 5, 2, 2, 1, 5, 0))
SPLIT_CACHE: Final = SplitCache("split cache", SPLIT_CACHE_CAPACITY, (1, 2, 1, 2, 3, 0, 4, 1))
"""A split fills a table for every page it takes, which is dear."""
OWNER: Final = Owner("owner", 0xFF, (1, 1, 1, 0, 0, 2, 255))
LEVEL: Final = Few("level", 3, (2, 2, 2, 1, 1, 2, 0, 3))
NTH: Final = Number("which one, counted from 1", 0xFFF, (1, 1, 1, 1, 2, 2, 3, 4))
SWITCH: Final = Switch("on or off")
ACCESS: Final = Named("access", ("read", "write", "exec"))
BACKING: Final = Named("backing memory", ("page", "cont_page", "block", "cont_block", "gigabyte"))
FEW_PAGES: Final = Few("pages", 63, (0, 0, 0, 1, 2, 16))
DATA: Final = Kind("data", 0xFFFF_FFFF)
"""What a guest writes."""
CPU: Final = Few("CPU", 7, (0, 0, 1, 1, 2, 0, 1, 3))
VCPU: Final = Few("vCPU", 7, (0, 1, 0, 1, 0, 1, 2, 3))
OWNER_OF_VMID: Final = Few("number of a struct kvm_vmid", VMID_OWNERS - 1, (0, 1, 2, 3, 4, 5, 6, 7))
VMID: Final = Number("VMID", 0xFFFF, (2, 3, 4, 5, 2, 3, 6, 0, 1, 255, 258, 7))
IA_BITS: Final = Number("bits of IPA", 63, (0, 0, 0, 0, 0, 32, 40, 39, 36, 33, 48))
"""0 stands for those of the machine."""
MOST_STEPS: Final = 1 << 19
"""By which all of another MMU's table is gone through where a memslot changes."""
MOST_SLOTS: Final = 4
"""Memslots that a VM may have."""
MOST_SLOT_PAGES: Final = (1 << 31) - 1
"""Of one (linux: KVM_MEM_MAX_NR_PAGES)."""
MOST_LOGGED: Final = 1 << 13
"""Pages of a memslot that can be logged: there is no memory for a longer log."""
SLOT: Final = Few("memslot", MOST_SLOTS - 1, (0, 0, 0, 1, 1, 2))
SLOT_PAGES: Final = Number("pages of a memslot", 0xFFFF, (0, 0, 0, 64, 64, 128, 1, 512))
LOGGING: Final = Named("logging", ("at_once", "manual", "initially_set"))
