"""Page tables as text: the tree of one observation, and two trees side by side."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.compare import (
    LAST_LEVEL,
    LEVEL_SHIFTS,
    entry_address,
    is_table_entry,
    leaked,
    paired_entries,
    paired_tables,
    start_level,
)
from harness.machine import Machine
from harness.observation import ENTRIES, Observation, Page
from pgtable.pte import describe, describe_hyp

_LEFT_WIDTH = 46


@dataclass(frozen=True, slots=True)
class _Run:
    """Entries that follow each other and say the same about adjacent memory; shown as one line."""

    ipa: int
    level: int
    entry: int
    count: int


def describe_entry(entry: int, level: int, machine: Machine) -> str:
    """An entry in words, as in a tree."""
    if machine["stage"] == 1:
        return describe_hyp(entry, level, bool(machine["hvhe"]))
    return describe(entry, level, machine.forces_write_back)


def tree(observation: Observation, machine: Machine) -> list[str]:
    """The final tree, a line per table and per run of alike entries, decoded; then what lies outside it."""
    lines = []
    if observation.root is None:
        lines.append("no table")
    else:
        level = start_level(observation)
        for number in range(observation.root_pages):
            ipa = number * (ENTRIES << LEVEL_SHIFTS[level])
            pa = observation.root + number * 4096
            if pa in observation.pages:
                lines += _table(observation, observation.pages[pa], ipa, level, 0, machine)
            else:
                lines.append(f"level {level} table {pa:#x} from ipa {ipa:#x} is a free page")
    for table in observation.unlinked:
        lines.append(f"unlinked table {table.number}, for an entry of level {table.level}:")
        if table.pa in observation.pages:
            lines += _table(observation, observation.pages[table.pa], 0, table.level + 1, 1, machine)
    for page in leaked(observation):
        used = sum(1 for entry in page.entries if entry)
        lines.append(f"leaked page {page.pa:#x}: {page.refcount} references, {used} entries in use")
    for name, cache in (("memcache", observation.cache), ("split cache", observation.split_cache)):
        if cache:
            lines.append(f"{name} holds {len(cache)}: {', '.join(f'{pa:#x}' for pa in cache)}")
    lines.append(f"{observation.allocs} pages allocated, {observation.frees} freed, {len(observation.pages)} in use")
    return lines


def _table(observation: Observation, page: Page, ipa: int, level: int, depth: int, machine: Machine) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}level {level} table {page.pa:#x} from ipa {ipa:#x}, {page.refcount} references"
    for run in _runs(page, ipa, level):
        times = f"  x{run.count}" if run.count > 1 else ""
        yield f"{indent}  {run.ipa:#014x} {describe_entry(run.entry, level, machine)}{times}"
        child = observation.pages.get(entry_address(run.entry)) if is_table_entry(run.entry, level) else None
        if child is not None:
            yield from _table(observation, child, run.ipa, level + 1, depth + 2, machine)


def _runs(page: Page, ipa: int, level: int) -> Iterator[_Run]:
    size = 1 << LEVEL_SHIFTS[level]
    run: _Run | None = None
    for index, entry in enumerate(page.entries):
        if run and entry and not is_table_entry(entry, level) and entry == _continued(run, size):
            run = _Run(run.ipa, level, run.entry, run.count + 1)
            continue
        if run:
            yield run
        run = _Run(ipa + index * size, level, entry, 1) if entry else None
    if run:
        yield run


def _continued(run: _Run, size: int) -> int:
    """What the entry after a run must be to belong to it: the adjacent address, or for an invalid entry the same."""
    return run.entry + run.count * size if run.entry & 1 else run.entry


def side_by_side(left: Observation, right: Observation, machine: Machine, names: tuple[str, str]) -> list[str]:
    """Both trees, only the rows that differ; rows that agree are counted. Empty when the trees agree."""
    rows: list[str] = []
    differing = equal = 0

    def flush() -> None:
        nonlocal equal
        if equal:
            rows.append(f"  … {equal} equal {'entry' if equal == 1 else 'entries'}")
        equal = 0

    for ipa, level, a, b in paired_entries(left, right):
        if _alike(a, b, level):
            equal += 1
            continue
        flush()
        differing += 1
        rows.append(
            _row("!", str(level), f"{ipa:#x}", describe_entry(a, level, machine), describe_entry(b, level, machine))
        )
        if describe_entry(a, level, machine) == describe_entry(b, level, machine):
            rows.append(_row(" ", "", "", f"{a:#018x}", f"{b:#018x}"))
    flush()
    for ipa, level, mine, theirs in paired_tables(left, right):
        if mine.refcount != theirs.refcount:
            differing += 1
            texts = [f"table with {page.refcount} references" for page in (mine, theirs)]
            rows.append(_row("!", str(level), f"{ipa:#x}", *texts))
    if not differing:
        return []
    return [_row(" ", "level", "ipa", *names), *rows]


def _alike(a: int, b: int, level: int) -> bool:
    return a == b or (is_table_entry(a, level) and is_table_entry(b, level) and level < LAST_LEVEL)


def _row(mark: str, level: str, ipa: str, left: str, right: str) -> str:
    return f"{mark} {level:>5} {ipa:<14} {left:<{_LEFT_WIDTH}} {right}".rstrip()
