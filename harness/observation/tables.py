"""The tables of one observation, or of two at once: those that correspond, from the root down."""

from __future__ import annotations

from collections.abc import Iterator

from harness.observation.descriptors import address_field, is_table_entry, level_of
from harness.observation.layout import Observation, Page
from harness.program.granule import LAST_LEVEL


def start_level(observation: Observation) -> int:
    """The level of the root. 0 where init ran over budget before it told (the root is empty then), or told nonsense."""
    return level_of(observation.records[0].outs) or 0


def paired_entries(left: Observation, right: Observation) -> Iterator[tuple[int, int, int, int]]:
    """(ipa, level, left entry, right entry) of the tables that correspond, from the root down, where not both are 0."""
    level_shift = left.machine.granule.level_shift
    for ipa, level, mine, theirs in paired_tables(left, right):
        size = 1 << level_shift(level)
        for index, (a, b) in enumerate(zip(mine.entries, theirs.entries, strict=True)):
            if a or b:
                yield ipa + index * size, level, a, b


def paired_tables(left: Observation, right: Observation) -> Iterator[tuple[int, int, Page, Page]]:
    """(ipa, level, left page, right page) of the tables that correspond: both roots, and unlinked tables of the same
    number, as if for ipa 0; then what both sides' entries at the same place point to. A table is shown once, even if
    several entries point to it."""
    granule, address = left.machine.granule, address_field(left.machine).address
    todo = []
    if left.root is not None and right.root is not None:
        level = start_level(left)
        size = granule.entries << granule.level_shift(level)
        todo = [
            (page * size, level, left.root + page * granule.page, right.root + page * granule.page)
            for page in range(left.root_pages)
        ]
    theirs = {table.number: table for table in right.unlinked}
    todo += [
        (0, table.level + 1, table.pa, theirs[table.number].pa) for table in left.unlinked if table.number in theirs
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
    held.update(observation.cache, observation.split_cache)
    return [page for pa, page in observation.pages.items() if pa not in held]
