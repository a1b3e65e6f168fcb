"""The walker: the kernel-doc of kvm_pgtable_walk() in asm/kvm_pgtable.h of Linux 6.12, and seed 001."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from harness.observation.descriptors import is_table_entry
from harness.program.kinds.flags import VISIT_FLAG_BITS
from harness.program.results import signed
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import entry_of, range_of

_LEAF, _PRE, _POST = (VISIT_FLAG_BITS[name] for name in ("leaf", "table_pre", "table_post"))
_WIDTH: Final = 4


class _Visit(NamedTuple):
    kind: int
    level: int
    ipa: int
    entry: int


def _visits(outs: Sequence[int]) -> list[_Visit]:
    return [
        _Visit(outs[at], signed(outs[at + 1]), outs[at + 2], outs[at + 3]) for at in range(0, len(outs) - 3, _WIDTH)
    ]


def _only_looks(op: Transition) -> bool:
    return not op.value("visitor") and op.before.tree is not None


@contract("walk", source="kvm_pgtable_walk()")
def a_walk_that_looks_changes_nothing(op: Transition) -> Iterator[str] | None:
    """A walk whose visitor only looks changes nothing of the table."""
    if not _only_looks(op):
        return None
    return (f"{change}" for change in op.changes)


@contract("walk", source="kvm_pgtable_walk(): it visits entries according to the walker flags")
def a_walk_visits_as_its_flags_say(op: Transition) -> Iterator[str] | None:
    """Leaves, invalid entries included, are visited where the flags say leaf; tables before or after what is below them
    where they say so. Nothing else is visited."""
    if not _only_looks(op):
        return None
    flags = op.value("flags")
    return (
        f"a visit of kind {one.kind} at {one.ipa:#x}, level {one.level}, of {one.entry:#x}"
        for one in _visits(op.record.outs)
        if not one.kind & flags or (one.kind == _LEAF) is is_table_entry(one.entry, one.level)
    )


@contract("walk", source="kvm_pgtable_walk(): the entries corresponding to the input address range")
def a_walk_visits_every_entry_of_its_range_in_order(op: Transition) -> Iterator[str] | None:
    """Where a walk returns 0, the leaves that it visits are those that translate the addresses of its range, each once,
    in the order of addresses, with no gap."""
    span = range_of(op)
    if op.record.ret != 0 or span is None or not _only_looks(op) or not op.value("flags") & _LEAF:
        return None
    return _gaps(op, *span)


def _gaps(op: Transition, start: int, end: int) -> Iterator[str]:
    reached, shift = start, op.machine.granule.level_shift
    for one in _visits(op.record.outs):
        if one.kind != _LEAF:
            continue
        first = one.ipa >> shift(one.level) << shift(one.level)
        if not first <= reached < first + (1 << shift(one.level)):
            yield f"after {reached:#x} came {one.ipa:#x}, level {one.level}"
        if entry_of(op.before, one.ipa) != (one.entry, one.level):
            yield f"the entry at {one.ipa:#x}, level {one.level}, is not {one.entry:#x}"
        reached = first + (1 << shift(one.level))
    if reached < end:
        yield f"nothing was visited from {reached:#x} on"


@contract("walk", source="kvm_pgtable_walk(): table entries before, and after, their children")
def a_walk_enters_and_leaves_tables_in_turn(op: Transition) -> Iterator[str] | None:
    """A table that is visited both before and after what is below it is left once for each time that it was entered,
    innermost first."""
    flags = op.value("flags")
    if op.record.ret != 0 or not _only_looks(op) or not (flags & _PRE and flags & _POST):
        return None
    return _unbalanced(_visits(op.record.outs))


def _unbalanced(visits: Sequence[_Visit]) -> Iterator[str]:
    entered: list[int] = []
    for one in visits:
        if one.kind == _PRE:
            entered.append(one.level)
        elif one.kind == _POST and (not entered or entered.pop() != one.level):
            yield f"the table at {one.ipa:#x}, level {one.level}, was left out of turn"
    if entered:
        yield f"{len(entered)} tables were entered and not left"
