"""The tables of one observation, or of two at once: those that correspond, from the root down."""

from __future__ import annotations

from collections.abc import Iterator

from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.layout import UNDER_TEST, Holder, Observation, Page, Root
from harness.program.granule import FIRST_LEVEL, LAST_LEVEL


def sane_level(root: Root) -> int:
    """The level of a root's tables; 0 where a kernel with a bug tells nonsense."""
    return root.level if FIRST_LEVEL <= root.level <= LAST_LEVEL else 0


def names_tables(*observations: Observation) -> bool:
    """Whether there is more than one table under test in any of them, so that it must be said which one is meant."""
    numbers = {0}
    for one in observations:
        numbers.update(one.held(UNDER_TEST), (page.table for page in one.pages.values()))
    return len(numbers) > 1


def paired_roots(left: Observation, right: Observation) -> Iterator[tuple[Holder, Root, Root]]:
    """(holder, left root, right root) of the roots that have a holder in common, each of the left side's once."""
    theirs = {holder: root for root in right.roots for holder in root.holders}
    for root in left.roots:
        holder = next((one for one in root.holders if one in theirs), None)
        if holder is not None:
            yield holder, root, theirs[holder]


def paired_entries(left: Observation, right: Observation) -> Iterator[tuple[int, int, int, int]]:
    """(ipa, level, left entry, right entry) of the tables that correspond, from the root down, where not both are 0."""
    level_shift = left.machine.granule.level_shift
    for ipa, level, mine, theirs in paired_tables(left, right):
        size = 1 << level_shift(level)
        for index, (a, b) in enumerate(zip(mine.entries, theirs.entries, strict=True)):
            if a or b:
                yield ipa + index * size, level, a, b


def paired_tables(left: Observation, right: Observation) -> Iterator[tuple[int, int, Page, Page]]:
    """(ipa, level, left page, right page) of the tables that correspond: roots of the same holder, those that are not
    under test as if for ipa 0; then what both sides' entries at the same place point to. A table is shown once, even if
    several entries point to it."""
    granule, address = left.machine.granule, address_field(left.machine).address
    todo = []
    for _, mine, theirs in paired_roots(left, right):
        level = sane_level(mine)
        size = granule.entries << granule.level_shift(level)
        todo += [
            (page * size, level, mine.pa + page * granule.page, theirs.pa + page * granule.page)
            for page in range(mine.pages)
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
