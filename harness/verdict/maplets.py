"""What a table says, without saying how: ranges of address, each mapped somewhere with its attributes, or recorded as
somebody else's, or nothing. How many tables and blocks that takes is not part of it.

Entries are decoded from the Arm ARM (DDI 0487, D8.3 "Translation table descriptor formats", D8.4 "Memory access
control", D8.6 "Memory region attributes"); an invalid entry that is not zero is an annotation (seed 000: the hardware
ignores all of it but bit 0).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final, NamedTuple

from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.layout import Observation, Root
from harness.observation.tables import sane_level
from harness.program.granule import FIRST_LEVEL, LAST_LEVEL
from harness.program.machine import Machine

Entries = Mapping[int, int]
"""A table page's entries that are not 0, by index."""

_VALID: Final = 1
_TYPE: Final = 0b11
_AF: Final = 1 << 10
_SH: Final = 0b11 << 8
_SOFTWARE_SHIFT: Final = 55
_SOFTWARE: Final = 0xF << _SOFTWARE_SHIFT
_DBM: Final = 1 << 51
_LOCKED: Final = 1 << 10
"""Of an invalid entry: somebody is changing it (6.12's comment on KVM_INVALID_PTE_LOCKED)."""

_S2_MEMATTR: Final = 0xF << 2
_S2_READ, _S2_WRITE = 1 << 6, 1 << 7
_S2_XN: Final = 0b11 << 53
_S2_EXECUTES: Final = {0b00: "x", 0b01: "u", 0b10: "", 0b11: "p"}
"""By XN[1:0] with FEAT_XNX: at EL1 and EL0, at EL0 alone, never, at EL1 alone."""

_S1_ATTRINDX: Final = 0b111 << 2
_S1_READ_ONLY: Final = 1 << 7
_S1_XN: Final = 1 << 54
_S1_PXN: Final = 1 << 53

_DEVICES: Final = ("nGnRnE", "nGnRE", "nGRE", "GRE")
_CACHING: Final = {0b01: "non-cacheable", 0b10: "write-through", 0b11: "write-back"}
_FWB: Final = {0b0101: "normal non-cacheable", 0b0110: "normal write-back", 0b0111: "normal as stage 1"}


@dataclass(frozen=True, slots=True)
class Memory:
    """What mapped addresses have besides the memory itself.

    `allows` is what may be done, some of `rw` and of `x` (u: at EL0 alone, p: at EL1 alone). `kind` is the memory type
    in words, `software` the bits that the hardware leaves to software, `other` all bits that this does not know.
    """

    allows: str
    kind: str
    shareability: int
    is_young: bool
    software: int
    other: int

    def __str__(self) -> str:
        words = [self.allows or "no-access", self.kind, "" if self.is_young else "old"]
        words += [
            f"software {self.software:#x}" if self.software else "",
            f"other {self.other:#x}" if self.other else "",
        ]
        return " ".join(word for word in words if word)


@dataclass(frozen=True, slots=True)
class Maplet:
    """Addresses [start, end) that are in the same state: mapped, `offset` bytes to their physical ones, with `memory`;
    or, without that, annotated: `annotation` is the invalid entry."""

    start: int
    end: int
    offset: int = 0
    memory: Memory | None = None
    annotation: int = 0

    @property
    def is_mapped(self) -> bool:
        return self.memory is not None

    @property
    def is_locked(self) -> bool:
        """Whether somebody is at work there."""
        return self.memory is None and self.annotation == _LOCKED

    def clipped(self, start: int, end: int) -> Maplet:
        """The part of it that lies in [start, end), which must be some."""
        return Maplet(max(self.start, start), min(self.end, end), self.offset, self.memory, self.annotation)

    def until(self, end: int) -> Maplet:
        """The same state from its start to another end."""
        return Maplet(self.start, end, self.offset, self.memory, self.annotation)

    def says(self, other: Maplet) -> bool:
        """Whether both say the same of each address."""
        return (self.offset, self.memory, self.annotation) == (other.offset, other.memory, other.annotation)

    @property
    def words(self) -> str:
        """What it says, without of which addresses."""
        if self.memory is not None:
            return f"-> {self.start + self.offset:#x} {self.memory}"
        return "locked" if self.is_locked else f"annotated {self.annotation:#x}"

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x} {self.words}"


class Tree(NamedTuple):
    """A tree of tables: its root's address, pages, level and bits of input address; `tables` by address.

    `told` keeps what tables of the last level say, so that trees which share tables need not ask twice: by the table
    itself and the address of its first entry. Nobody writes to a table that is in a tree."""

    root: int
    pages: int
    level: int
    ia_bits: int
    tables: Mapping[int, Entries]
    told: dict[tuple[int, int], tuple[Entries, list[Maplet]]]


def tree_of(root: Root, observation: Observation) -> Tree:
    """The tree of one of an observation's roots, as it was at the end."""
    level = sane_level(root)
    tables = {
        pa: {at: entry for at, entry in enumerate(page.entries) if entry} for pa, page in observation.pages.items()
    }
    bits = root.ia_bits or observation.machine.granule.level_shift(level - 1)
    return Tree(root.pa, root.pages, level, bits, tables, {})


class Leaf(NamedTuple):
    """An entry that ends a walk and is not 0."""

    start: int
    level: int
    entry: int


def leaves(tree: Tree, machine: Machine, start: int = 0, end: int | None = None) -> Iterator[Leaf]:
    """The leaves and annotations of a tree that reach into [start, end), in order. A table that is none of its pages
    ends the walk."""
    limit = 1 << tree.ia_bits
    end = limit if end is None else min(end, limit)
    if start >= end or not FIRST_LEVEL <= tree.level <= LAST_LEVEL:
        return
    size, visits = machine.granule.entries << machine.granule.level_shift(tree.level), _visits(tree)
    for page in range(tree.pages):
        table = tree.root + page * machine.granule.page
        yield from _below(tree, machine, table, page * size, tree.level, start, end, visits)


def _visits(tree: Tree) -> Iterator[int]:
    """As many as a walk may make: in a kernel with a bug, many entries may lead to one table."""
    return iter(range(_VISITS_PER_TABLE * (len(tree.tables) + 1)))


_VISITS_PER_TABLE: Final = 4


def _below(
    tree: Tree, machine: Machine, table: int, base: int, level: int, start: int, end: int, visits: Iterator[int]
) -> Iterator[Leaf]:
    entries = tree.tables.get(table)
    if not entries or next(visits, None) is None:
        return
    shift = machine.granule.level_shift(level)
    address = address_field(machine).address
    for index in sorted(entries):
        at = base + (index << shift)
        if at >= end:
            break
        if at + (1 << shift) <= start:
            continue
        entry = entries[index]
        if is_table_entry(entry, level):
            yield from _below(tree, machine, address(entry), at, level + 1, start, end, visits)
        else:
            yield Leaf(at, level, entry)


@cache
def _memory(bits: int, stage: int, level: int, is_forced: bool, e2h: bool, lpa2: bool) -> Memory:
    """Of a valid leaf's bits without its output address."""
    shareability = 0 if lpa2 else (bits & _SH) >> 8
    known = _VALID | (0b10 if level == LAST_LEVEL else 0) | _AF | _SOFTWARE | (0 if lpa2 else _SH)
    if stage == 2:
        known |= _S2_MEMATTR | _S2_READ | _S2_WRITE | _S2_XN
        allows = f"{'r' * bool(bits & _S2_READ)}{'w' * bool(bits & _S2_WRITE)}{_S2_EXECUTES[bits >> 53 & 0b11]}"
        kind = _stage_2_kind(bits >> 2 & 0xF, is_forced)
    else:
        known |= _S1_ATTRINDX | _S1_READ_ONLY | _S1_XN | (_S1_PXN if e2h else 0)
        never = bool(bits & (_S1_PXN if e2h else _S1_XN))
        allows = f"r{'' if bits & _S1_READ_ONLY else 'w'}{'' if never else 'x'}"
        kind = f"attribute {bits >> 2 & 0b111}"
    return Memory(allows, kind, shareability, bool(bits & _AF), (bits & _SOFTWARE) >> _SOFTWARE_SHIFT, bits & ~known)


def _stage_2_kind(attribute: int, is_forced: bool) -> str:
    """MemAttr of a stage 2 entry, without and with FEAT_S2FWB (Arm ARM, D8.6)."""
    if attribute >> 2 == 0:
        return f"device {_DEVICES[attribute & 0b11]}"
    if is_forced:
        return _FWB.get(attribute, f"reserved {attribute:#x}")
    outer, inner = attribute >> 2, attribute & 0b11
    if inner not in _CACHING:
        return f"reserved {attribute:#x}"
    return f"normal {_CACHING[outer]}" if outer == inner else f"normal {_CACHING[outer]}, inner {_CACHING[inner]}"


def maplet_of(leaf: Leaf, machine: Machine) -> Maplet:
    """What a leaf or annotation says. A block's output address has no bits below its size, whatever the entry has
    there (Arm ARM, D8.3)."""
    size = 1 << machine.granule.level_shift(leaf.level)
    end = leaf.start + size
    if not leaf.entry & _VALID:
        return Maplet(leaf.start, end, annotation=leaf.entry)
    field = address_field(machine)
    memory = _memory(
        leaf.entry & ~field.bits,
        machine["stage"],
        leaf.level,
        machine.forces_write_back,
        bool(machine["hvhe"]),
        bool(machine["lpa2"]),
    )
    return Maplet(leaf.start, end, (field.address(leaf.entry) & -size) - leaf.start, memory)


def maplets(tree: Tree | None, machine: Machine) -> list[Maplet]:
    """What a tree says, in order and as few as possible; what is neither mapped nor annotated is left out. Nothing of
    no tree."""
    if tree is None or not FIRST_LEVEL <= tree.level <= LAST_LEVEL:
        return []
    granule, found, visits = machine.granule, list[Maplet](), _visits(tree)
    address = address_field(machine).address

    def look(table: int, base: int, level: int) -> None:
        entries = tree.tables.get(table)
        if not entries or next(visits, None) is None:
            return
        if level == LAST_LEVEL:
            found.extend(_said_by(tree, machine, entries, base))
            return
        shift = granule.level_shift(level)
        for index in sorted(entries):
            entry, at = entries[index], base + (index << shift)
            if is_table_entry(entry, level):
                look(address(entry), at, level + 1)
            else:
                found.append(maplet_of(Leaf(at, level, entry), machine))

    size = granule.entries << granule.level_shift(tree.level)
    for page in range(tree.pages):
        look(tree.root + page * granule.page, page * size, tree.level)
    return within(coalesced(found), 0, 1 << tree.ia_bits)


def within(several: Sequence[Maplet], start: int, end: int) -> list[Maplet]:
    """What maplets, in order, say of [start, end)."""
    first = bisect_right(several, start, key=lambda one: one.end)
    last = bisect_left(several, end, lo=first, key=lambda one: one.start) if start < end else first
    found = list(several[first:last])
    if found and found[0].start < start:
        found[0] = found[0].clipped(start, end)
    if found and found[-1].end > end:
        found[-1] = found[-1].clipped(start, end)
    return found


def _said_by(tree: Tree, machine: Machine, entries: Entries, base: int) -> list[Maplet]:
    """What a table of the last level says."""
    kept = tree.told.get((id(entries), base))
    if kept is None:
        kept = tree.told[id(entries), base] = entries, coalesced(_runs(machine, entries, base))
    return kept[1]


def _runs(machine: Machine, entries: Entries, base: int) -> Iterator[Maplet]:
    """The same, with pages that follow on each other as one."""
    page = machine.granule.page
    first: Maplet | None = None
    last_index, last_entry = -1, 0
    for index in sorted(entries):
        entry = entries[index]
        follows = entry - last_entry == (page if entry & _VALID else 0)
        if first is not None and index == last_index + 1 and follows:
            last_index, last_entry = index, entry
            continue
        if first is not None:
            yield first.until(base + (last_index + 1) * page)
        first = maplet_of(Leaf(base + index * page, LAST_LEVEL, entry), machine)
        last_index, last_entry = index, entry
    if first is not None:
        yield first.until(base + (last_index + 1) * page)


def coalesced(several: Iterable[Maplet]) -> list[Maplet]:
    """As few maplets as say the same; `several` are in order and do not overlap."""
    found: list[Maplet] = []
    for one in several:
        if found and found[-1].end == one.start and found[-1].says(one):
            found[-1] = found[-1].until(one.end)
        else:
            found.append(one)
    return found


class Change(NamedTuple):
    """Addresses of which two trees do not say the same; None: nothing."""

    start: int
    end: int
    before: Maplet | None
    after: Maplet | None

    def __str__(self) -> str:
        return f"{self.start:#x}-{self.end:#x}: {self._said(self.before)}, then {self._said(self.after)}"

    def _said(self, one: Maplet | None) -> str:
        return "nothing" if one is None else one.words


def changes(before: Sequence[Maplet], after: Sequence[Maplet]) -> Iterator[Change]:
    """Where two lists of maplets, each in order, do not say the same; in order."""
    edges = sorted({edge for one in (*before, *after) for edge in (one.start, one.end)})
    for start, end in pairwise(edges):
        was, now = at(before, start), at(after, start)
        if was is None and now is None:
            continue
        if was is None or now is None or not was.says(now):
            yield Change(
                start,
                end,
                None if was is None else was.clipped(start, end),
                None if now is None else now.clipped(start, end),
            )


def at(several: Sequence[Maplet], address: int) -> Maplet | None:
    """The maplet of an address; they are in order."""
    place = bisect_right(several, address, key=lambda one: one.start) - 1
    return several[place] if place >= 0 and address < several[place].end else None


def maplet_lines(several: Iterable[Maplet]) -> list[str]:
    """Maplets as people read them, one a line."""
    return [str(one) for one in several]
