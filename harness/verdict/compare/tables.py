"""Tables: the whole tree, exact bits, table pages up to renaming. Where a page lies does not matter, only what it holds
and who points to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.amounts import counted
from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.layout import UNDER_TEST, Observation, Root
from harness.observation.tables import names_tables, paired_entries, paired_roots
from harness.verdict.compare.difference import Difference, last_op
from harness.verdict.tiers import Tier


def tables(left: Observation, right: Observation) -> Iterator[Difference]:
    """In roots, and in entries where these agree."""
    op, found = last_op(left), list(_roots(left, right))
    for what, mine, theirs in found:
        yield Difference(Tier.TABLES, None, op, what, mine, theirs)
    if found:
        return
    addresses = address_field(left.machine).bits
    for where, level, a, b in paired_entries(left, right):
        if a != b and not (is_table_entry(a, level) and is_table_entry(b, level) and not (a ^ b) & ~addresses):
            yield Difference(Tier.TABLES, None, op, "entry", f"{where:#x}: {a:#x}", f"{where:#x}: {b:#x}", level)


def _roots(left: Observation, right: Observation) -> Iterator[tuple[str, str, str]]:
    """What differs in roots of tables under test, and in who shares a root. Which table it is, is said where there are
    several."""
    names = names_tables(left, right)
    mine, theirs = left.held(UNDER_TEST), right.held(UNDER_TEST)
    for number in sorted({*mine, *theirs}):
        shapes = _shape(mine.get(number)), _shape(theirs.get(number))
        if shapes[0] != shapes[1]:
            ours, others = next((one, other) for one, other in zip(*shapes, strict=True) if one != other)
            of = f"of table {number}: " if names else ""
            yield "root", of + ours, of + others
    for _, one, other in paired_roots(left, right):
        if set(one.holders) != set(other.holders):
            yield "shared root", _holders(one), _holders(other)


def _shape(root: Root | None) -> tuple[str, str, str]:
    """What of the root must agree, in words."""
    if root is None:
        return "0 pages", "no level", "no bits of address"
    return counted(root.pages, "page"), f"level {root.level}", f"{root.ia_bits} bits of address"


def _holders(root: Root) -> str:
    return ", ".join(map(str, root.holders))


def dangling(left: Observation, right: Observation) -> Iterator[Difference]:
    """Table entries that point to a page in use on one side only."""
    address = address_field(left.machine).address
    for where, level, a, b in paired_entries(left, right):
        if is_table_entry(a, level) and is_table_entry(b, level):
            in_use = address(a) in left.pages, address(b) in right.pages
            if in_use[0] != in_use[1]:
                mine, theirs = (f"{where:#x}: table {'in use' if used else 'freed'}" for used in in_use)
                yield Difference(Tier.TABLES, None, last_op(left), "dangling table", mine, theirs, level)
