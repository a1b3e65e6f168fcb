"""Tables: the whole tree, exact bits, table pages up to renaming. Where a page lies does not matter, only what it holds
and who points to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.layout import Observation, Root
from harness.observation.tables import paired_entries
from harness.verdict.compare.difference import Difference, last_op
from harness.verdict.tiers import Tier


def tables(left: Observation, right: Observation) -> Iterator[Difference]:
    """In the root, and in entries."""
    mine, theirs = _shape(left.root), _shape(right.root)
    if mine != theirs:
        differing = next((one, other) for one, other in zip(mine, theirs, strict=True) if one != other)
        yield Difference(Tier.TABLES, None, last_op(left), "root", *differing)
        return
    addresses = address_field(left.machine).bits
    for where, level, a, b in paired_entries(left, right):
        if a != b and not (is_table_entry(a, level) and is_table_entry(b, level) and not (a ^ b) & ~addresses):
            yield Difference(
                Tier.TABLES, None, last_op(left), "entry", f"{where:#x}: {a:#x}", f"{where:#x}: {b:#x}", level
            )


def _shape(root: Root | None) -> tuple[str, str, str]:
    """What of the root must agree, in words."""
    if root is None:
        return "0 pages", "no level", "no bits of address"
    return f"{root.pages} pages", f"level {root.level}", f"{root.ia_bits} bits of address"


def dangling(left: Observation, right: Observation) -> Iterator[Difference]:
    """Table entries that point to a page in use on one side only."""
    address = address_field(left.machine).address
    for where, level, a, b in paired_entries(left, right):
        if is_table_entry(a, level) and is_table_entry(b, level):
            in_use = address(a) in left.pages, address(b) in right.pages
            if in_use[0] != in_use[1]:
                mine, theirs = (f"{where:#x}: table {'in use' if used else 'freed'}" for used in in_use)
                yield Difference(Tier.TABLES, None, last_op(left), "dangling table", mine, theirs, level)
