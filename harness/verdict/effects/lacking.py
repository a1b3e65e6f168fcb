"""What the events of an op come to, in whatever order they come: for sides that are meant to differ in the order.

The stores of either side are replayed, so that each is known to concern the entry of a level for an IPA, wherever its
table lies. Of each op it is then asked, entry by entry,

- what a valid entry that goes or changes is given: a store that makes it invalid, or takes the way to it, then a DSB,
  a TLBI that hits it, and a DSB, before it is valid again, before the page of the table that it pointed to is free, and
  before the op ends (Arm ARM, "TLB maintenance requirements");
- what memory is given before an entry makes it reachable, or once it no longer is: data cache and instruction cache;
- whether a table's contents are visible before the entry that points to it, and what was made before the op ends;
- which pages and references each table has been given, and which WARNs and UBSan reports there were.

Two sides are compared in that. What holds on the left and not on the right is lacking. The reverse is, too, where the
architecture asks for it; else it is more than was asked for, and a note. Nothing is demanded of both: what both leave
out they leave to their caller. What a program itself does to an entry is only taken note of.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.amounts import counted
from harness.observation.layout import POOL_MISUSE, UBSAN, UBSAN_REPORTS, WARN, Observation, Record
from harness.program.definition import OpDef
from harness.program.ops.tlb import OPS as TLB_MAINTENANCE
from harness.program.ops.vm import OPS as MMUS
from harness.program.ops.vmid import OPS as VMIDS
from harness.verdict.effects.done import Effects, Region
from harness.verdict.effects.relations import NOTHING_DUE, OF_BREAKS, RANKS, Key, Marks, relations
from harness.verdict.effects.replay import Side
from harness.verdict.trees import Place

_FLUSHES: Final = (*TLB_MAINTENANCE, *VMIDS, *MMUS)
_RELAXES: Final = "kvm_pgtable_stage2_relax_perms"
"""A function that invalidates whether or not an entry changes: a CPU may have faulted on what it held."""
_WRONG_CALLER: Final = (WARN, zlib.crc32(b"enter_vmid_context"))
"""The WARN of a TLB function that is called while another stage 2's vCPU runs: where that is so, each call has one."""


@dataclass(frozen=True, slots=True)
class Lack:
    """What one side is without. `what` is short and stable, for a bucket; `left` and `right` say what either did, with
    the numbers of its events in the op, those within TLB functions not counted. `is_note`: it is the left side that
    does less, and the architecture does not ask for more."""

    record: int
    what: str
    level: int | None
    left: str
    right: str
    is_note: bool = False


def lacks(left: Observation, right: Observation) -> list[Lack]:
    """In what the effects differ, within the first op in which they do, what weighs most first; no notes. An op that
    either side did not finish is not compared, nor is what follows it."""
    for found in _by_op(left, right):
        lacking = [one for one in found if not one.is_note]
        if lacking:
            return lacking
    return []


def compared(left: Observation, right: Observation, record: int) -> list[Lack] | None:
    """What is lacking in one op, and notes on what the right side does beyond the left; None where either side did not
    finish it."""
    return next((found for at, found in enumerate(_by_op(left, right)) if at == record), None)


def _by_op(left: Observation, right: Observation) -> Iterator[list[Lack]]:
    sides = Side(left.machine), Side(right.machine)
    same = True
    for index, (mine, theirs) in enumerate(zip(left.records, right.records, strict=False)):
        if mine.ret is None or theirs.ret is None:
            return
        same = same and mine.events == theirs.events
        effects = [side.run(record) for side, record in zip(sides, (mine, theirs), strict=True)]
        found = list(_complaints(index, mine, theirs))
        if not same:
            found += _compared(index, relations(effects[0]), relations(effects[1]))
            found += _flushed(index, mine, *effects)
            found += _held(index, *sides)
            found += _more(index, *effects)
        yield found


def _compared(index: int, mine: Marks, theirs: Marks) -> Iterator[Lack]:
    """Of each relation, entry by entry."""
    keys = [key for key in {**mine, **theirs} if mine.get(key, NOTHING_DUE)[0] != theirs.get(key, NOTHING_DUE)[0]]
    told: set[tuple[bool, Place | None]] = set()
    for key in sorted(keys, key=_order):
        # Of an entry that is not invalidated, what weighs most says it.
        group = (key[0] in OF_BREAKS, key[1])
        if group[0] and group in told:
            continue
        told.add(group)
        a, b = mine.get(key, NOTHING_DUE), theirs.get(key, NOTHING_DUE)
        lacking = a if b.holds else b
        place = key[1]
        where = "" if place is None else f"{place[1]:#x}: "
        left, right = (where + ", ".join(map(str, one.told)) for one in (a, b))
        is_note = b.holds and not lacking.asked_for
        yield Lack(index, lacking.what, None if place is None else place[2], left, right, is_note)


def _order(key: Key) -> tuple[int, Place]:
    relation, place = key
    return RANKS[relation], place or (0, 0, 0)


def _complaints(index: int, mine: Record, theirs: Record) -> Iterator[Lack]:
    """Those of one side alone. A WARN is the same one wherever it stands, whenever it comes and however often. Misuse
    of the pool is accounting."""
    a, b = _complained(mine), _complained(theirs)
    if a != b:
        left, right = (", ".join(sorted(side)) or "none" for side in (a, b))
        yield Lack(index, min(a ^ b), None, left, right)


def _complained(record: Record) -> set[str]:
    return {
        UBSAN_REPORTS.get(one.code, "ubsan") if one.kind == UBSAN else "WARN"
        for one in record.complaints
        if one.kind != POOL_MISUSE and (one.kind, one.code) != _WRONG_CALLER
    }


def invalidates(definition: OpDef) -> bool:
    """Whether the op is there to invalidate, whether or not an entry changes: TLB maintenance, `_RELAXES`, what makes
    VMIDs go round, and what gives an MMU another table."""
    return definition in _FLUSHES or _RELAXES in definition.functions


def _flushed(index: int, record: Record, mine: Effects, theirs: Effects) -> Iterator[Lack]:
    """Of ops that are there for maintenance alone: what they reach."""
    if invalidates(record.definition):
        ours = theirs.regions()
        missing = next((one for one in mine.regions() if one not in ours and not _reached(one, ours)), None)
        if missing is not None:
            texts = [f"{len(one.tlbis)} invalidations" for one in (mine, theirs)]
            left = f"{missing.start:#x} to {missing.end - 1:#x}, {texts[0]}"
            yield Lack(index, "less invalidated", None, left, texts[1])
        if mine.ics - theirs.ics:
            yield Lack(index, "instruction cache not invalidated", None, "invalidated", "not invalidated")
    elif not mine.stores and not theirs.stores:
        for what, a, b in (
            ("less cleaned", mine.dcache, theirs.dcache),
            ("less of the instruction cache invalidated", mine.icache, theirs.icache),
        ):
            less = next(((start, size) for start, size in a.pieces() if b.when(start, size) is None), None)
            if less is not None:
                yield Lack(index, what, None, f"{less[0]:#x}, {less[1]:#x} bytes", "not all of it")


def _reached(wanted: Region, regions: set[Region]) -> bool:
    """Whether some regions together do what one does."""
    at = wanted.start
    for one in sorted(regions, key=lambda one: one.start):
        fits = one.stage_1 >= wanted.stage_1 and one.stage_2 >= wanted.stage_2 and one.everywhere >= wanted.everywhere
        if fits and one.level in (None, wanted.level) and one.start <= at:
            at = max(at, one.end)
    return at >= wanted.end


def _held(index: int, mine: Side, theirs: Side) -> Iterator[Lack]:
    """Pages and references once the op is over."""
    a, b = mine.loose(), theirs.loose()
    if a != b:
        left, right = (
            f"{counted(pages, 'page')} in no tree, {counted(references, 'reference')}" for pages, references in (a, b)
        )
        yield Lack(index, "pages" if a[0] != b[0] else "references", None, left, right)
    ours, others = mine.held(), theirs.held()
    for place in sorted({**ours, **others}):
        if ours.get(place) != others.get(place):
            what = "references" if place in ours and place in others else "pages"
            left, right = (
                f"table at {place[1]:#x}: " + (f"{side[place]} references" if place in side else "none")
                for side in (ours, others)
            )
            yield Lack(index, what, place[2], left, right)
            return


def _more(index: int, mine: Effects, theirs: Effects) -> Iterator[Lack]:
    for what, a, b in (
        ("more invalidations", len(mine.tlbis), len(theirs.tlbis)),
        ("more bytes cleaned", mine.dcache.bytes, theirs.dcache.bytes),
        ("more bytes of the instruction cache invalidated", mine.icache.bytes, theirs.icache.bytes),
    ):
        if b > a:
            yield Lack(index, what, None, f"{a:,}", f"{b:,}", is_note=True)
