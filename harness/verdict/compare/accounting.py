"""Accounting: references of every table, pages allocated, freed, leaked and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.observation.descriptors import TABLE, address_field
from harness.observation.layout import CACHES, HOLDERS, UNDER_TEST, Observation, Page
from harness.observation.tables import leaked, names_tables, paired_tables
from harness.verdict.compare.difference import Difference, last_op
from harness.verdict.tiers import Tier


def accounting(left: Observation, right: Observation) -> Iterator[Difference]:
    """In what is known at the end. Which table a page is of is said where there are several."""
    op, names = last_op(left), names_tables(left, right)
    for what, a, b in (
        ("pages allocated", left.allocs, right.allocs),
        ("pages freed", left.frees, right.frees),
        *((f"{name} level", _level(one), _level(other)) for name, one, other in _paired_caches(left, right)),
        *(
            (f"{name}s", len(left.held(kind)), len(right.held(kind)))
            for kind, name in HOLDERS.items()
            if kind != UNDER_TEST
        ),
    ):
        if a != b:
            yield Difference(Tier.ACCOUNTING, None, op, what, str(a), str(b))
    for ipa, level, page, other in paired_tables(left, right):
        if page.refcount != other.refcount:
            mine, theirs = (f"{_of(one.table, names)}table at {ipa:#x}: {one.refcount}" for one in (page, other))
            yield Difference(Tier.ACCOUNTING, None, op, "refcount", mine, theirs, level)
        if page.table != other.table:
            mine, theirs = (f"table at {ipa:#x}: for table {one.table}" for one in (page, other))
            yield Difference(Tier.ACCOUNTING, None, op, "whose page", mine, theirs, level)
    lost = [sorted(_held(side, page) for page in leaked(side)) for side in (left, right)]
    if lost[0] != lost[1]:
        mine, theirs = (_describe(pages, names) for pages in lost)
        yield Difference(Tier.ACCOUNTING, None, op, "leaked pages", mine, theirs)
    for name, one, its_other in _paired_caches(left, right):
        if one is None or its_other is None or len(one) != len(its_other):
            continue
        kept = [_kept(left, one), _kept(right, its_other)]
        if kept[0] != kept[1]:
            mine, theirs = (_describe(pages, names) for pages in kept)
            yield Difference(Tier.ACCOUNTING, None, op, f"{name} contents", mine, theirs)


def _paired_caches(
    left: Observation, right: Observation
) -> Iterator[tuple[str, Sequence[int] | None, Sequence[int] | None]]:
    """What each cache is called, and its pages on either side: None where that has no such MMU."""
    mine, theirs = ({(one.kind, one.number): one.pages for one in side.caches} for side in (left, right))
    for kind, number in sorted({*mine, *theirs}):
        yield CACHES[kind], mine.get((kind, number)), theirs.get((kind, number))


def _level(pages: Sequence[int] | None) -> str:
    return "no such MMU" if pages is None else str(len(pages))


_Outside = tuple[int, int, tuple[int, ...]]
"""Of a page outside all trees: the table that it was allocated for, references and entries."""


def _kept(side: Observation, cache: Sequence[int]) -> list[_Outside]:
    return [_held(side, side.pages[pa]) for pa in cache if pa in side.pages]


def _held(side: Observation, page: Page) -> _Outside:
    """Which level it had is not known, so whatever may point to a table counts without its address."""
    kept = ~address_field(side.machine).bits
    return page.table, page.refcount, tuple(e & kept if e & TABLE == TABLE else e for e in page.entries)


def _describe(pages: Sequence[_Outside], names: bool) -> str:
    """References and used entries of each page."""
    texts = (f"{_of(table, names)}{refcount} refs with {sum(map(bool, held))} used" for table, refcount, held in pages)
    return ", ".join(texts) or "none"


def _of(table: int, names: bool) -> str:
    return f"of table {table}: " if names else ""
