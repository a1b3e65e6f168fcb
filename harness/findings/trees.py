"""Page tables as text: the tree of one observation, and two trees side by side."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness.amounts import counted
from harness.observation.descriptors import is_table_entry
from harness.observation.layout import CACHES, UNDER_TEST, Holder, Observation, Root
from harness.observation.tables import leaked, paired_entries, paired_tables, sane_level
from harness.program.granule import LAST_LEVEL
from harness.program.machine import Machine
from pgtable import Geometry
from pgtable.pte import AddressFormat, address_format, describe, describe_hyp
from pgtable.tree import ReadTable, TablePage, table_lines


def describe_entry(entry: int, level: int, machine: Machine) -> str:
    """An entry in words, as in a tree."""
    if machine["stage"] == 1:
        return describe_hyp(entry, level, bool(machine["hvhe"]), _format(machine))
    return describe(entry, level, machine.forces_write_back, _format(machine))


def _format(machine: Machine) -> AddressFormat:
    return address_format(machine.granule.shift, bool(machine["lpa2"]))


def tree(observation: Observation, machine: Machine) -> list[str]:
    """The final trees, a line per table and per run of alike entries, decoded; then what lies outside them. Each but
    that of the one table under test is said whose it is."""
    lines = ["no table"] if observation.root is None else []
    is_only = len(observation.held(UNDER_TEST)) == 1
    for root in observation.roots:
        if is_only and root.holders == (Holder(UNDER_TEST, 0),):
            lines += _root_lines(root, observation, machine)
        else:
            lines += [_whose(root), *(f"  {line}" for line in _root_lines(root, observation, machine))]
    for page in leaked(observation):
        used = sum(1 for entry in page.entries if entry)
        lines.append(
            f"leaked page {page.pa:#x}{_of(page.table)}: {counted(page.refcount, 'reference')}, "
            f"{counted(used, 'entry', 'entries')} in use"
        )
    for cache in observation.caches:
        if cache.pages:
            pages = ", ".join(f"{pa:#x}" for pa in cache.pages)
            lines.append(f"{CACHES[cache.kind]}{_of(cache.number)} holds {len(cache.pages)}: {pages}")
    lines.append(f"{observation.allocs} pages allocated, {observation.frees} freed, {len(observation.pages)} in use")
    return lines


def _whose(root: Root) -> str:
    names = map(str, root.holders)
    shape = f"{root.ia_bits} bits of address" if root.ia_bits else f"for an entry of level {root.level - 1}"
    return f"{', '.join(names)}, {shape}:"


def _of(table: int) -> str:
    """Which table under test something belongs to, unless it is the first."""
    return f" of table {table}" if table else ""


def _root_lines(root: Root, observation: Observation, machine: Machine) -> Iterator[str]:
    read, granule = _reader(observation), machine.granule
    geometry, address = Geometry(granule.shift), _format(machine)
    entry_text = partial(describe_entry, machine=machine)
    level = sane_level(root)
    for number in range(root.pages):
        ipa = number * (granule.entries << granule.level_shift(level))
        pa = root.pa + number * granule.page
        if pa in observation.pages:
            yield from table_lines(pa, level, ipa, read, geometry, address, entry_text)
        else:
            yield f"level {level} table {pa:#x} from ipa {ipa:#x} is a free page"


def _reader(observation: Observation) -> ReadTable:
    def read(pa: int) -> TablePage | None:
        page = observation.pages.get(pa)
        return None if page is None else TablePage(page.entries, f", {counted(page.refcount, 'reference')}")

    return read


def side_by_side(left: Observation, right: Observation, machine: Machine, names: tuple[str, str]) -> list[str]:
    """Both trees, only the rows that differ; rows that agree are counted. Empty when the trees agree."""
    rows: list[_Row | int] = []
    """Rows, and how many entries agree between them."""

    def say(entry: int, level: int) -> str:
        return describe_entry(entry, level, machine)

    equal = 0
    for ipa, level, a, b in paired_entries(left, right):
        if _alike(a, b, level):
            equal += 1
            continue
        rows += [equal, ("!", str(level), f"{ipa:#x}", say(a, level), say(b, level))]
        equal = 0
        if say(a, level) == say(b, level):
            rows.append((" ", "", "", f"{a:#018x}", f"{b:#018x}"))
    rows.append(equal)
    for ipa, level, mine, theirs in paired_tables(left, right):
        if mine.refcount != theirs.refcount:
            texts = [f"table with {counted(page.refcount, 'reference')}" for page in (mine, theirs)]
            rows.append(("!", str(level), f"{ipa:#x}", texts[0], texts[1]))
    if len(rows) == 1:
        return []
    return _in_columns([(" ", "level", "ipa", *names), *rows])


_Row = tuple[str, str, str, str, str]
"""A mark, the level, the IPA, and what either side has there."""


def _in_columns(rows: list[_Row | int]) -> list[str]:
    """The rows as wide as they have to be; of entries that agree, how many."""
    cells = [row for row in rows if not isinstance(row, int)]
    ipa, left = (max(len(row[column]) for row in cells) for column in (2, 3))
    return [
        f"  … {counted(row, 'equal entry', 'equal entries')}"
        if isinstance(row, int)
        else f"{row[0]} {row[1]:>5} {row[2]:<{ipa}}  {row[3]:<{left}}  {row[4]}".rstrip()
        for row in rows
        if row != 0
    ]


def _alike(a: int, b: int, level: int) -> bool:
    return a == b or (is_table_entry(a, level) and is_table_entry(b, level) and level < LAST_LEVEL)
