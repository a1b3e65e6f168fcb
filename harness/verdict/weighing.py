"""What a program comes to on any number of sides: what is mapped and owned in the end, and what that took.

`compare` asks whether two sides do the same. Here they are meant to differ: in how they get there, or in what they
make of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from harness.amounts import number
from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.events import DCACHE, ICACHE, STORES, TLBI_KINDS, events_of
from harness.observation.executor import Executor
from harness.observation.layout import Observation, describe_return
from harness.observation.tables import paired_entries, paired_tables
from harness.program.program import Program

_VALID: Final = 1
_TYPE: Final = 1 << 1
_LOCKED: Final = 1 << 10
_UNITS: Final = ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K"))


@dataclass(frozen=True, slots=True)
class Part:
    """Memory that follows on each other and is in the same state, [start, end) in IPA: mapped, with an offset to its
    physical address and attributes, or recorded as somebody else's."""

    start: int
    end: int
    owned: bool
    offset: int = 0
    attributes: int = 0

    def continues(self, other: Part) -> bool:
        """Whether it goes on where `other` ends."""
        mine, theirs = ((one.owned, one.offset, one.attributes) for one in (self, other))
        return self.start == other.end and mine == theirs


@dataclass(frozen=True, slots=True)
class Weight:
    """What one program came to on one side. `tables` are pages of the tree, its root included; stores, TLBIs and cache
    maintenance are events. `failed` are the results that are not 0, by their op's number."""

    parts: tuple[Part, ...]
    tables: int
    stores: int
    tlbis: int
    cache_maintenance: int
    complaints: int
    failed: tuple[tuple[int, str], ...]

    def size(self, *, owned: bool) -> int:
        """Bytes recorded as somebody else's, or else mapped."""
        return sum(part.end - part.start for part in self.parts if part.owned is owned)


def weigh(executor: Executor, program: Program) -> Weight:
    """Run a program. Raises TargetDied."""
    seen = executor.observe(program)
    counts = Counter(event.kind for record in seen.records for event in events_of(record.events))
    return Weight(
        parts=tuple(_parts(seen)),
        tables=sum(1 for _ in paired_tables(seen, seen)),
        stores=sum(counts[kind] for kind in STORES.values()),
        tlbis=sum(counts[kind] for kind in TLBI_KINDS),
        cache_maintenance=counts[DCACHE] + counts[ICACHE],
        complaints=sum(len(record.complaints) for record in seen.records),
        failed=tuple((at, describe_return(record.ret)) for at, record in enumerate(seen.records) if record.ret != 0),
    )


def _parts(seen: Observation) -> Iterator[Part]:
    last: Part | None = None
    for part in sorted(_leaves(seen), key=lambda one: one.start):
        if last and part.continues(last):
            last = Part(last.start, part.end, last.owned, last.offset, last.attributes)
            continue
        if last:
            yield last
        last = part
    if last:
        yield last


def _leaves(seen: Observation) -> Iterator[Part]:
    level_shift, addresses = seen.machine.granule.level_shift, address_field(seen.machine)
    for ipa, level, entry, _ in paired_entries(seen, seen):
        end = ipa + (1 << level_shift(level))
        if not entry & _VALID:
            if entry != _LOCKED:
                yield Part(ipa, end, owned=True)
        elif not is_table_entry(entry, level):
            offset = addresses.address(entry) - ipa
            yield Part(ipa, end, owned=False, offset=offset, attributes=entry & ~(addresses.bits | _TYPE))


def weight_table(names: Sequence[str], weights: Sequence[Weight]) -> list[str]:
    """A line per side; `as first` says whether memory is in the same state in the end as on the first one."""
    rows: list[tuple[str, ...]] = [
        ("side", "as first", "mapped", "owned", "tables", "stores", "TLBIs", "CMOs", "WARNs", "failed ops")
    ]
    for name, one in zip(names, weights, strict=True):
        failed = ", ".join(f"{at} {ret}" for at, ret in one.failed) or "-"
        counts = (one.tables, one.stores, one.tlbis, one.cache_maintenance, one.complaints)
        same = "yes" if one.parts == weights[0].parts else "no"
        sizes = (_bytes(one.size(owned=False)), _bytes(one.size(owned=True)))
        rows.append((name, same, *sizes, *map(number, counts), failed))
    return aligned(rows, left=(0, 1, len(rows[0]) - 1))


def aligned(rows: Sequence[Sequence[str]], left: Container[int]) -> list[str]:
    """A table's lines, its columns to the right, but for those at the places in `left`."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column in left else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _bytes(size: int) -> str:
    """As sizes are written in programs."""
    for unit, name in _UNITS:
        if size and size % unit == 0:
            return f"{size // unit}{name}"
    return str(size)
