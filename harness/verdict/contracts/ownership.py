"""Ownership as a protocol (seed 000): who owns memory that is not mapped is kept in invalid entries, and whoever does
not name an address leaves its annotation alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import is_warned, range_of

_ENDS: Final = frozenset(("map", "unmap", "set_owner", "annotate", "link", "destroy", "init", "plant", "handle"))
"""Ops that may end an annotation of an address that they name, or of all. `handle` maps where the last fault was."""
_OF_SLOTS: Final = (
    *("memslot_add", "memslot_remove", "memslot_move", "memslot_flush", "memslot_unmap", "memslot_handle"),
)
"""Those that unmap, or map, what is a slot's, whatever address they name."""
_OF_ALL: Final = frozenset(("destroy", "init", "plant", "link", "mmu_free", *_OF_SLOTS))


@contract(source="kvm_pgtable_stage2_set_owner(): annotations track ownership; seed 000, on counted entries")
def annotations_outlive_what_does_not_name_them(op: Transition) -> Iterator[str] | None:
    """An annotation ends only by map, unmap or set_owner of its address: every other operation, and these beside it,
    leave it as it is."""
    name = op.op.name
    if op.tampered or op.record.ret is None or name in _OF_ALL or is_warned(op):
        return None
    if not any(not one.is_mapped for one in op.before.all_maplets):
        return None
    start, end = (range_of(op) or (0, 1 << 64)) if name in _ENDS else (0, 0)
    return (
        f"{change}"
        for change in op.changes
        if change.before is not None
        and not change.before.is_mapped
        and not change.before.is_locked
        and not (start <= change.start and change.end <= end)
    )


@contract("get_leaf", source="asm/kvm_pgtable.h, Arm ARM D8.3: an invalid entry translates nothing")
def annotated_addresses_translate_nothing(op: Transition) -> Iterator[str] | None:
    """What get_leaf tells of an annotated address is an entry that is not valid."""
    if op.record.ret != 0 or op.tampered:
        return None
    address = op.value("ipa")
    owned = [one for one in op.before.maplets(address, address + 1) if not one.is_mapped]
    if not owned:
        return None
    return (f"{one}: told {op.record.outs[0]:#x}" for one in owned if op.record.outs[0] & 1)
