"""What tables say, as text, beside the trees of `trees.py` which say how: of one observation, and where two differ."""

from __future__ import annotations

from collections.abc import Iterator

from harness.observation.descriptors import is_table_entry
from harness.observation.layout import UNDER_TEST, Holder, Observation, Root
from harness.observation.tables import names_tables, paired_entries, paired_roots
from harness.verdict.maplets import Change, changes, maplet_lines, maplets, tree_of


def said(observation: Observation) -> list[str]:
    """What the tables say at the end, a line per range of addresses that is mapped or annotated. Each table but the one
    under test is said which it is."""
    lines = []
    for root in observation.roots:
        of_it = maplet_lines(maplets(tree_of(root, observation), observation.machine)) or ["nothing"]
        if root.holders == (Holder(UNDER_TEST, 0),) and not names_tables(observation):
            lines += of_it
        else:
            lines += [f"{', '.join(map(str, root.holders))}:", *(f"  {line}" for line in of_it)]
    return lines or ["no table"]


def said_otherwise(left: Observation, right: Observation, names: tuple[str, str]) -> list[str]:
    """Of which addresses two sides' tables do not say the same, and what, where that says more than their entries side
    by side: where an entry of one is a table of the other's, or few ranges are many entries. Empty where the tables
    agree, or differ in single entries only."""
    differing = [(level, a, b) for _, level, a, b in paired_entries(left, right) if not _alike(a, b, level)]
    if not differing:
        return []
    found = [
        (holder, change)
        for holder, mine, theirs in paired_roots(left, right)
        for change in _changes(left, mine, right, theirs)
    ]
    if not found:
        return ["  the same of every address"]
    is_plain = all(is_table_entry(a, level) == is_table_entry(b, level) for level, a, b in differing)
    if is_plain and len(found) >= len(differing):
        return []
    width, tells = max(map(len, names)), len({holder for holder, _ in found}) > 1
    lines = []
    for holder, change in found:
        of = f" of {holder}" if tells or holder != Holder(UNDER_TEST, 0) else ""
        lines.append(f"  {change.start:#x}-{change.end:#x}{of}")
        for name, one in zip(names, (change.before, change.after), strict=True):
            lines.append(f"    {name:<{width}}  {'nothing' if one is None else one.words}")
    return lines


def _changes(left: Observation, mine: Root, right: Observation, theirs: Root) -> Iterator[Change]:
    return changes(
        maplets(tree_of(mine, left), left.machine),
        maplets(tree_of(theirs, right), right.machine),
    )


def _alike(a: int, b: int, level: int) -> bool:
    return a == b or (is_table_entry(a, level) and is_table_entry(b, level))
