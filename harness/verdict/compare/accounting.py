"""Accounting: references of every table, pages allocated, freed, leaked and kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.observation.descriptors import TABLE, address_field
from harness.observation.layout import Observation, Page
from harness.observation.tables import leaked, paired_tables
from harness.verdict.compare.difference import Difference, last_op
from harness.verdict.tiers import Tier


def accounting(left: Observation, right: Observation) -> Iterator[Difference]:
    """In what is known at the end."""
    op = last_op(left)
    for what, a, b in (
        ("pages allocated", left.allocs, right.allocs),
        ("pages freed", left.frees, right.frees),
        ("memcache level", len(left.cache), len(right.cache)),
        ("split cache level", len(left.split_cache), len(right.split_cache)),
        ("unlinked tables", len(left.unlinked), len(right.unlinked)),
    ):
        if a != b:
            yield Difference(Tier.ACCOUNTING, None, op, what, str(a), str(b))
    for ipa, level, one, other in paired_tables(left, right):
        if one.refcount != other.refcount:
            yield Difference(
                Tier.ACCOUNTING,
                None,
                op,
                "refcount",
                f"table at {ipa:#x}: {one.refcount}",
                f"table at {ipa:#x}: {other.refcount}",
                level,
            )
    lost = [sorted(_held(side, page) for page in leaked(side)) for side in (left, right)]
    if lost[0] != lost[1]:
        yield Difference(Tier.ACCOUNTING, None, op, "leaked pages", _describe(lost[0]), _describe(lost[1]))
    for what, mine, theirs in (
        ("memcache", left.cache, right.cache),
        ("split cache", left.split_cache, right.split_cache),
    ):
        kept = [_kept(left, mine), _kept(right, theirs)]
        if len(mine) == len(theirs) and kept[0] != kept[1]:
            yield Difference(Tier.ACCOUNTING, None, op, f"{what} contents", _describe(kept[0]), _describe(kept[1]))


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
