"""The shape of a stage 2, as VTCR_EL2 says it: the Arm ARM, and seed 001's two remarks."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final

from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import range_of

_T0SZ = 0x3F
_HA = 1 << 21
_MAX_CONCATENATED = 16


@contract(
    "init", source="Arm ARM, D8.2: at most 16 concatenated tables at the start level; seed 001, on 40 bits and 64K"
)
def the_root_covers_every_address(op: Transition) -> Iterator[str] | None:
    """The root has as many tables as its level takes for the input addresses, and no more than the architecture
    concatenates. With 64K pages and 40 bits it is one table of level 2, whose entries translate 29 bits each."""
    tree = op.after.tree
    if op.record.ret != 0 or tree is None:
        return None
    covered = op.machine.granule.entries << op.machine.granule.level_shift(tree.level)
    needed = max(1, -(-(1 << tree.ia_bits) // covered))
    limit = _MAX_CONCATENATED if op.machine["stage"] == 2 else 1
    if tree.pages == needed <= limit:
        return iter(())
    return iter(
        (f"the root has {tree.pages} tables of level {tree.level} for {tree.ia_bits} bits, which take {needed}",)
    )


@contract("init", source="Arm ARM, VTCR_EL2.T0SZ: the size of the region is 2^(64-T0SZ) bytes")
def the_register_says_the_bits_of_address(op: Transition) -> Iterator[str] | None:
    """VTCR_EL2.T0SZ is 64 less the bits of input address that the table has."""
    if op.record.ret != 0 or op.machine["stage"] != 2 or not op.record.outs:
        return None
    bits = 64 - (op.record.outs[0] & _T0SZ)
    told = op.record.outs[1]
    return iter(()) if bits == told else iter((f"T0SZ says {bits} bits, and the table has {told}",))


@contract(
    "pgd_size", source="kvm_pgtable_stage2_pgd_size(): the size (in bytes) of the stage-2 PGD; Arm ARM, VTCR_EL2.SL0"
)
def a_root_s_size_holds_every_address(op: Transition) -> Iterator[str] | None:
    """The size that is told for a VTCR_EL2 of the machine's granule is that of the tables which its start level takes
    for its input addresses, where the architecture concatenates so many."""
    vtcr, granule = op.value("vtcr"), op.machine.granule
    if op.record.ret != 0 or vtcr >> 14 & 0b11 != _TG0[granule.shift]:
        return None
    level = _LEVELS[granule.has_large_blocks][vtcr >> 6 & 0b11]
    bits = 64 - (vtcr & _T0SZ)
    if level is None or bits > _MAX_BITS:
        return None
    pages = max(1, -(-(1 << bits) // (granule.entries << granule.level_shift(level))))
    if pages > _MAX_CONCATENATED:
        return None
    told = op.record.outs[0]
    return iter(() if told == pages * granule.page else (f"{told:#x} bytes, and {pages} pages are needed",))


_TG0: Final = {12: 0b00, 14: 0b10, 16: 0b01}
"""VTCR_EL2.TG0, by the granule's bits."""
_LEVELS: Final = {True: (2, 1, 0, None), False: (3, 2, 1, None)}
"""Start levels by VTCR_EL2.SL0: with 4K pages, and with larger ones."""
_MAX_BITS: Final = 48


@contract("init", "get_vtcr", source="kvm_get_vtcr(): the HA flag is set unconditionally, on all CPUs")
def the_register_lets_hardware_set_access_flags(op: Transition) -> Iterator[str] | None:
    """VTCR_EL2.HA is set."""
    if op.record.ret != 0 or op.machine["stage"] != 2 or not op.record.outs:
        return None
    return iter(() if op.record.outs[0] & _HA else ("HA is not set",))


@contract(
    *("map", "unmap", "set_owner", "walk", "wrprotect", "get_leaf"),
    source="seed 001, review: the limit itself is no address (`>=`, not `>`)",
)
def what_begins_at_the_limit_is_refused(op: Transition) -> Iterator[str] | None:
    """An operation on a range that is not empty and begins at the end of the input addresses, or beyond, fails."""
    tree = op.before.tree
    if tree is None or op.record.ret is None or op.tampered:
        return None
    size = op.value("size") if op.op.name != "get_leaf" else 1
    if op.value("ipa") < 1 << tree.ia_bits or not size or op.value("ipa") + size > 1 << 64:
        return None
    return iter(("it returned 0",) if op.record.ret == 0 else ())


@contract(
    *("walk", "wrprotect", "flush", "unmap"),
    source="seed 001, review, and kvm_pgtable_walk(): size is the range's; its end is beyond it, so there `>` is right",
)
def what_ends_at_the_limit_is_served(op: Transition) -> Iterator[str] | None:
    """The last page of the input addresses is one: an operation on a range that ends where they end is not refused with
    -ERANGE, as it would be with `>=` for both ends."""
    tree, span = op.before.tree, range_of(op)
    if tree is None or span is None or span[0] == span[1] or span[1] != 1 << tree.ia_bits:
        return None
    return iter(("it returned -ERANGE",) if op.record.ret == -errno.ERANGE else ())


@contract(
    "get_vtcr",
    "pgd_size",
    "tlb_flush_vmid_range",
    "tlb_flush_vmid",
    "flush_cpu_context",
    "flush_vm_context",
    source="asm/kvm_pgtable.h, asm/kvm_asm.h: they compute, or maintain the TLB",
)
def what_knows_no_table_changes_none(op: Transition) -> Iterator[str] | None:
    """What computes a register, or maintains the TLB, changes nothing of the table."""
    return (f"{change}" for change in op.changes)
