"""Accounting: references of every table, pages allocated, freed, leaked and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.observation.descriptors import TABLE, address_field
from harness.observation.layout import CACHES, HOLDERS, UNDER_TEST, Observation, Page
from harness.observation.tables import leaked, paired_tables
from harness.verdict.compare.difference import Difference, last_op
from harness.verdict.tiers import Tier


def accounting(left: Observation, right: Observation) -> Iterator[Difference]:
    """In what is known at the end."""
    op = last_op(left)
    for what, a, b in (
        ("pages allocated", left.allocs, right.allocs),
        ("pages freed", left.frees, right.frees),
        *(
            (f"{CACHES[one.kind]} level", len(one.pages), len(other.pages))
            for one, other in zip(left.caches, right.caches, strict=True)
        ),
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
            yield Difference(
                Tier.ACCOUNTING,
                None,
                op,
                "refcount",
                f"table at {ipa:#x}: {page.refcount}",
                f"table at {ipa:#x}: {other.refcount}",
                level,
            )
        if page.table != other.table:
            mine, theirs = (f"table at {ipa:#x}: for table {one.table}" for one in (page, other))
            yield Difference(Tier.ACCOUNTING, None, op, "whose page", mine, theirs, level)
    lost = [sorted(_held(side, page) for page in leaked(side)) for side in (left, right)]
    if lost[0] != lost[1]:
        yield Difference(Tier.ACCOUNTING, None, op, "leaked pages", _describe(lost[0]), _describe(lost[1]))
    for cache, its_other in zip(left.caches, right.caches, strict=True):
        kept = [_kept(left, cache.pages), _kept(right, its_other.pages)]
        if len(cache.pages) == len(its_other.pages) and kept[0] != kept[1]:
            what = f"{CACHES[cache.kind]} contents"
            yield Difference(Tier.ACCOUNTING, None, op, what, _describe(kept[0]), _describe(kept[1]))


def _kept(side: Observation, cache: Sequence[int]) -> list[tuple[int, tuple[int, ...]]]:
    return [_held(side, side.pages[pa]) for pa in cache if pa in side.pages]


def _held(side: Observation, page: Page) -> tuple[int, tuple[int, ...]]:
    """References and entries of a page outside the tree. Which level it had is not known, so whatever may point to a
    table counts without its address."""
    kept = ~address_field(side.machine).bits
    return page.refcount, tuple(e & kept if e & TABLE == TABLE else e for e in page.entries)


def _describe(pages: Sequence[tuple[int, tuple[int, ...]]]) -> str:
    """References and used entries of each page."""
    return ", ".join(f"{refcount} refs with {sum(map(bool, held))} used" for refcount, held in pages) or "none"
