"""The walker: the kernel-doc of kvm_pgtable_walk() in asm/kvm_pgtable.h of Linux 6.12, and seed 001."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from harness.observation.descriptors import is_table_entry
from harness.observation.events import PLANTED, each_event
from harness.program.granule import LAST_LEVEL, Granule
from harness.program.kinds.entries import VISITOR_BITS, VISITORS
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


@contract(
    "walk", source="kvm_pgtable_walk(): leaf entries are reloaded after the callback; seed 001: a newly installed table"
)
def a_walk_descends_into_a_table_that_a_visit_installs(op: Transition) -> Iterator[str] | None:
    """A leaf that its visitor has replaced by a table is reloaded: the walk goes on in that table, from its first entry
    on that the range names."""
    acted = _acted(op, "table")
    if acted is None or op.record.ret != 0:
        return None
    visits = _visits(op.record.outs)
    tried = [place for place in acted if visits[place].level < LAST_LEVEL]
    installed = [place for place in tried if visits[place].kind == _LEAF]
    if not installed or len(tried) != sum(event.kind == PLANTED for event in each_event(op.record.events)):
        return None  # there was no memory for one of them
    return _astray(visits, installed)


def _astray(visits: Sequence[_Visit], installed: Sequence[int]) -> Iterator[str]:
    for place in installed:
        one, following = visits[place], visits[place + 1] if place + 1 < len(visits) else None
        if following is None or following[:3] != (_LEAF, one.level + 1, one.ipa) or following.entry:
            came = "nothing" if following is None else f"{following.ipa:#x}, level {following.level}"
            yield f"after a table was installed at {one.ipa:#x}, level {one.level}, came {came}"


@contract(
    "walk",
    source="KVM: arm64: Reload PTE after invoking walker callback on preorder traversal, 2023-05-22",
)
def a_walk_leaves_a_table_that_a_visit_removes(op: Transition) -> Iterator[str] | None:
    """A table that its visitor has removed, before its children, is not walked any more."""
    acted = _acted(op, "clear")
    if acted is None or op.record.ret != 0:
        return None
    visits = _visits(op.record.outs)
    removed = [place for place in acted if visits[place].kind == _PRE]
    return _below(visits, removed, op.machine.granule) if removed else None


def _below(visits: Sequence[_Visit], removed: Sequence[int], granule: Granule) -> Iterator[str]:
    for place in removed:
        one, shift = visits[place], granule.level_shift(visits[place].level)
        following = visits[place + 1 : place + 2]
        if any(below.level > one.level and below.ipa >> shift == one.ipa >> shift for below in following):
            yield f"after the table at {one.ipa:#x}, level {one.level}, was removed came {following[0].ipa:#x} below it"


@contract(
    "walk",
    source="kvm_pgtable_walk(): an error from the callback will terminate the walk immediately with the same error",
)
def a_walk_ends_with_its_visitor_s_error(op: Transition) -> Iterator[str] | None:
    """An error of the visitor ends the walk at that visit, and is its result; but -EAGAIN, outside of a fault handler,
    is for the walk to pass over."""
    for name, error in _ERRORS.items():
        acted = _acted(op, name)
        if acted:
            last = len(_visits(op.record.outs)) - 1
            ended = op.record.ret == -error and acted[0] == last
            return iter(() if ended else (f"it returned {op.record.ret} behind visit {last + 1}, not {acted[0] + 1}",))
    return None


_ERRORS: Final = {"enomem": errno.ENOMEM, "einval": errno.EINVAL, "e2big": errno.E2BIG}
"""Of visitors, by name."""


def _acted(op: Transition, name: str) -> list[int] | None:
    """The visits at which the visitor did something else than to look, if that is what the program has it do there;
    None where it is not, or nobody was visited."""
    visitor = op.value("visitor")
    if VISITORS[visitor & (1 << VISITOR_BITS) - 1] != name or op.record.ret is None:
        return None
    nth, count = visitor >> VISITOR_BITS, len(_visits(op.record.outs))
    return [place for place in range(count) if not nth or place == nth - 1] or None
