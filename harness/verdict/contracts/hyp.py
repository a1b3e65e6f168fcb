"""Hyp's own stage 1: the kernel-doc of kvm_pgtable_hyp_map() and its neighbours in asm/kvm_pgtable.h of Linux 6.12."""

from __future__ import annotations

import errno
from collections.abc import Iterator

from harness.program.kinds.flags import PROT_BITS
from harness.program.space import U64_MAX
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import (
    allowed_by,
    changes_in,
    changes_outside,
    is_only,
    is_warned,
    left_empty,
    memory_of,
    range_of,
    unlike_prot,
)
from harness.verdict.maplets import Change

_AP_1 = 1 << 6


def _of_state(change: Change) -> bool:
    """Whether only software bits changed: a page's state."""
    return is_only(change, software=lambda _was, _now: True)


def _offset(op: Transition, start: int) -> int:
    """From an address of a hyp_map to its memory."""
    return (op.value("phys") & -op.machine.granule.page) - start


def _is_there(op: Transition, end: int) -> bool:
    """Whether the memory of a hyp_map whose range ends there lies within the machine's physical addresses."""
    return end + _offset(op, op.value("va") & -op.machine.granule.page) <= 1 << op.machine.phys_bits


@contract("hyp_map", source="kvm_pgtable_hyp_map()")
def hyp_map_shows_what_was_asked(op: Transition) -> Iterator[str] | None:
    """Where hyp_map returns 0, and nothing was mapped in the range before, all of it translates to the memory asked
    for, with the permissions and software bits asked for."""
    span = range_of(op)
    if op.record.ret != 0 or span is None or span[0] == span[1] or op.before.maplets(*span):
        return None
    start, end = span
    offset = _offset(op, start)
    if not _is_there(op, end):
        return None
    return unlike_prot(op.after.maplets(start, end), start, end, offset, op.value("prot"))


@contract("hyp_map", source="kvm_pgtable_hyp_map(): to map what is mapped already is rejected")
def hyp_map_never_replaces(op: Transition) -> Iterator[str] | None:
    """hyp_map never replaces what is mapped: of an address that was mapped, only the software bits may change."""
    if op.before.tree is None or op.record.ret is None or op.tampered:
        return None
    return (f"{change}" for change in op.changes if change.before is not None and not _of_state(change))


def _has_an_entry(prot: int) -> bool:
    bits = PROT_BITS
    return bool(prot & bits["r"]) and not (prot & bits["x"] and prot & (bits["w"] | bits["device"]))


@contract("hyp_map", source="kvm_pgtable_hyp_map(): rejected with an error and a WARN()")
def hyp_map_of_the_mapped_is_rejected(op: Transition) -> Iterator[str] | None:
    """Where an address of the range is mapped already, hyp_map returns an error, and the kernel warns; it is an error
    alone of a protection that hyp has no entry for, unreadable or executable and writable or a device's, and where
    memory for a table runs out before. No more is said where the memory lies beyond the machine's physical
    addresses."""
    span = range_of(op, may_warn=True)
    if span is None or not op.before.maplets(*span) or not _is_there(op, span[1]):
        return None
    warned = is_warned(op) or not _has_an_entry(op.value("prot")) or op.record.ret == -errno.ENOMEM
    lacking = [what for what, is_there in (("error", op.record.ret), ("WARN", warned)) if not is_there]
    return (f"there was no {what}" for what in lacking)


@contract("hyp_map", source="kvm_pgtable_hyp_map(): a mapping at the virtual address")
def hyp_map_maps_nothing_else(op: Transition) -> Iterator[str] | None:
    """hyp_map maps nothing outside its range."""
    span = range_of(op)
    if span is None:
        return None
    return (f"{change}" for change in changes_outside(op, *span) if change.before is None)


@contract("hyp_unmap", source="kvm_pgtable_hyp_unmap(): returns the number of bytes unmapped")
def hyp_unmap_tells_what_it_unmapped(op: Transition) -> Iterator[str] | None:
    """As many bytes as hyp_unmap returns are unmapped from the address on, and were mapped before; all else is as it
    was."""
    if op.before.tree is None or not op.record.outs or op.tampered:
        return None
    start = op.value("va") & -op.machine.granule.page
    end = start + op.record.outs[0]
    left = [f"{one} is still there" for one in op.after.maplets(start, end)]
    if end > U64_MAX:
        return None
    return iter([*left, *(f"{change}, outside of what was unmapped" for change in changes_outside(op, start, end))])


@contract("hyp_unmap", source="kvm_pgtable_hyp_unmap(): it stops at a block that maps beyond the range")
def hyp_unmap_stays_in_its_range(op: Transition) -> Iterator[str] | None:
    """hyp_unmap unmaps nothing outside its range: it stops early at a block that reaches beyond it."""
    span = range_of(op)
    if span is None or op.machine["page_count"] == 0:
        return None
    return (f"{change}" for change in changes_outside(op, *span))


@contract("hyp_unmap", source="kvm_pgtable_hyp_unmap(): unreferenced pages are freed")
def hyp_unmap_frees_tables_that_it_empties(op: Transition) -> Iterator[str] | None:
    """A table page that hyp_unmap has emptied is freed, the root's apart."""
    return left_empty(op)


@contract("hyp_pte_prot", source="kvm_pgtable_hyp_pte_prot(): the protection attributes, in the enum's format")
def hyp_pte_prot_tells_the_permissions(op: Transition) -> Iterator[str] | None:
    """What hyp_pte_prot tells of a valid leaf has the permissions that EL2 has through it; AP[1] must be as it is in
    hyp's tables: RES1 in a regime without EL0 (Arm ARM, D8.4), else 0, for nothing is EL0's."""
    entry = op.value("pte")
    if not op.record.outs or bool(entry & _AP_1) is bool(op.machine["hvhe"]):
        return None
    memory, told = memory_of(entry, op.machine), allowed_by(op.record.outs[0])
    if memory is None:
        return None
    return iter(()) if told == memory.allows else iter((f"of {memory} it told {told or 'none'}",))


@contract("hyp_pte_prot", source="kvm_pgtable_hyp_pte_prot(): it reads")
def hyp_pte_prot_changes_nothing(op: Transition) -> Iterator[str] | None:
    """To ask what an entry permits changes nothing of the table."""
    return (f"{change}" for change in op.changes)


@contract("hyp_map", source="kvm_pgtable_hyp_map(): an error")
def a_refused_hyp_map_maps_only_what_was_asked(op: Transition) -> Iterator[str] | None:
    """A hyp_map that fails half-way has mapped the beginning of its range as asked, and nothing else of what was not
    mapped. No more is said where the memory asked for lies beyond the machine's physical addresses."""
    span = range_of(op)
    if not op.record.ret or op.record.ret > 0 or span is None:
        return None
    offset = _offset(op, span[0])
    if not _is_there(op, span[1]):
        return None
    return (
        f"{change}"
        for change in changes_in(op, *span)
        if change.before is None and (change.after is None or change.after.offset != offset)
    )
