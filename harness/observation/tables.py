"""The tables of one observation, or of two at once: those that correspond, from the root down."""

from __future__ import annotations

from collections.abc import Iterator

from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.layout import Observation, Page, Root
from harness.program.granule import FIRST_LEVEL, LAST_LEVEL


def sane_level(root: Root) -> int:
    """The level of a root's tables; 0 where a kernel with a bug tells nonsense."""
    return root.level if FIRST_LEVEL <= root.level <= LAST_LEVEL else 0


def paired_entries(left: Observation, right: Observation) -> Iterator[tuple[int, int, int, int]]:
    """(ipa, level, left entry, right entry) of the tables that correspond, from the root down, where not both are 0."""
    level_shift = left.machine.granule.level_shift
    for ipa, level, mine, theirs in paired_tables(left, right):
        size = 1 << level_shift(level)
        for index, (a, b) in enumerate(zip(mine.entries, theirs.entries, strict=True)):
            if a or b:
                yield ipa + index * size, level, a, b


def paired_tables(left: Observation, right: Observation) -> Iterator[tuple[int, int, Page, Page]]:
    """(ipa, level, left page, right page) of the tables that correspond: roots of the same holder, as if for ipa 0;
    then what both sides' entries at the same place point to. A table is shown once, even if several entries point to
    it."""
    granule, address = left.machine.granule, address_field(left.machine).address
    todo = []
    theirs = {holder: root for root in right.roots for holder in root.holders}
    for root in left.roots:
        other_root = next((theirs[holder] for holder in root.holders if holder in theirs), None)
        if other_root is None:
            continue
        level = sane_level(root)
        size = granule.entries << granule.level_shift(level)
        todo += [
            (page * size, level, root.pa + page * granule.page, other_root.pa + page * granule.page)
            for page in range(root.pages)
        ]
    seen = set()
    while todo:
        ipa, level, a, b = todo.pop(0)
        one, other = left.pages.get(a), right.pages.get(b)
        if one is None or other is None or (a, b) in seen:
            continue
        seen.add((a, b))
        yield ipa, level, one, other
        if level == LAST_LEVEL:
            continue
        shift = granule.level_shift(level)
        for index, (x, y) in enumerate(zip(one.entries, other.entries, strict=True)):
            if is_table_entry(x, level) and is_table_entry(y, level):
                todo.append((ipa + (index << shift), level + 1, address(x), address(y)))


def leaked(observation: Observation) -> list[Page]:
    """Pages in use that no tree, linked or not, and no cache holds, in ascending order of address."""
    held = {page.pa for _, _, page, _ in paired_tables(observation, observation)}
    held.update(*(cache.pages for cache in observation.caches))
    return [page for pa, page in observation.pages.items() if pa not in held]
