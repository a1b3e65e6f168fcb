"""Stage 2 as a whole, its mappings, and the entries that end its walks.

Where nothing else is said, a promise is that of the kernel-doc of the function in asm/kvm_pgtable.h of Linux 6.12. An
op of which the kernel warns is its caller's mistake, and nothing is promised of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Final

from harness.observation.descriptors import address_field
from harness.program.granule import LAST_LEVEL
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import Machine
from harness.program.results import signed
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import (
    Asked,
    asked_in,
    beyond_blocks,
    changes_in,
    entry_at,
    is_only,
    leaf_span,
    left_empty,
    memory_of,
    prot_of,
    range_of,
    unlike,
)
from harness.verdict.maplets import Change, leaves

_MAP: Final = "kvm_pgtable_stage2_map()"
_TYPE: Final = 0b11
_RANGES: Final = ("map", "set_owner", "unmap")


def _went(change: Change) -> bool:
    return change.after is None


@contract(source="Arm ARM, D8.3.1 (VMSAv8-64 descriptor formats)")
def no_reserved_entry_is_made(op: Transition) -> Iterator[str] | None:
    """A valid entry is a table, a page, or a block of a level that has blocks: what else there is, is reserved."""
    if op.record.ret is None or not op.effects.made:
        return None
    levels = _block_levels(op.machine)
    return (
        f"the entry {one.entry:#x} of level {one.place[2]}, at {one.place[1]:#x}, is reserved"
        for one in op.effects.made
        if one.entry & _TYPE != _TYPE and one.place[2] not in levels
    )


def _block_levels(machine: Machine) -> tuple[int, ...]:
    """Of the levels, those that have blocks: one more where addresses have 52 bits."""
    if machine.granule.has_large_blocks:
        return (0, 1, 2) if machine["lpa2"] else (1, 2)
    is_wide = machine["lpa2"] or (machine.granule.shift == _SHIFT_64K and machine["pa_bits_52"])
    return (1, 2) if is_wide else (2,)


_SHIFT_64K: Final = 16


@contract("map", source=_MAP)
def map_shows_what_was_asked(op: Transition) -> Iterator[str] | None:
    """Where map returns 0, and nothing was mapped or annotated in the range before, all of it translates to the memory
    asked for, with the permissions, memory type and software bits asked for, and nothing else."""
    asked = asked_in(op)
    if op.record.ret != 0 or asked is None or asked.is_empty or op.before.maplets(asked.start, asked.end):
        return None
    return unlike(op.after.maplets(asked.start, asked.end), asked) if asked.is_there(op) else None


@contract("map", source=f"{_MAP}: 0 on success")
def map_of_no_memory_fails(op: Transition) -> Iterator[str] | None:
    """Where the memory asked for lies beyond the machine's physical addresses, so that it cannot be mapped, map does
    not return 0."""
    asked = asked_in(op)
    if asked is None or asked.is_empty or asked.is_there(op):
        return None
    return iter(("it returned 0",) if op.record.ret == 0 else ())


@contract("map", source=f"{_MAP}: 0 on success")
def map_leads_to_the_memory_asked_for(op: Transition) -> Iterator[str] | None:
    """Where map returns 0, all of its range leads to the memory asked for, with that memory type, whatever was there
    before."""
    asked = asked_in(op)
    if op.record.ret != 0 or asked is None or asked.is_empty or not asked.is_there(op):
        return None
    return _elsewhere(op, asked)


def _elsewhere(op: Transition, asked: Asked) -> Iterator[str]:
    reached = asked.start
    for one in op.after.maplets(asked.start, asked.end):
        if one.start > reached:
            yield f"{reached:#x}-{one.start:#x} is not mapped"
        if not asked.is_like(one):
            yield f"{one} is not what was asked for"
        reached = one.end
    if reached < asked.end:
        yield f"{reached:#x}-{asked.end:#x} is not mapped"


@contract(*_RANGES, source=f"{_MAP}, _set_owner(), _unmap(): 0 on success, a negative error code on failure")
def a_range_that_wraps_is_refused(op: Transition) -> Iterator[str] | None:
    """An operation on a range that ends beyond the last address of 64 bits does not return 0: nothing can be mapped,
    owned or unmapped there."""
    page, size = op.machine.granule.page, op.value("size")
    if op.before.tree is None or op.record.ret is None or (op.value("ipa") & -page) + size <= 1 << 64:
        return None
    return iter(("it returned 0",) if op.record.ret == 0 else ())


@contract("map", "set_owner", source=f"{_MAP}: it splits blocks, relying on page-faults to fault back areas outside")
def outside_its_range_memory_only_goes(op: Transition) -> Iterator[str] | None:
    """Outside its range, map only ever takes translations away, and only those of blocks that reach into the range; the
    guest faults them back. Annotations stay."""
    asked = asked_in(op)
    if asked is None:
        return None
    return beyond_blocks(op, asked, _went)


@contract("map", source=f"{_MAP}: an update that only changes the access permissions is aborted")
def map_changes_no_permissions_alone(op: Transition) -> Iterator[str] | None:
    """Mapping what is mapped already, with other permissions or none, changes nothing: relax_perms is there for
    that."""
    asked = asked_in(op)
    if asked is None or asked.is_empty or not asked.is_one_leaf(op):
        return None
    before = op.before.maplets(asked.start, asked.end)
    memory = before[0].memory
    if memory is None or not memory.is_young or memory.software != asked.software or not asked.is_like(before[0]):
        return None
    return (f"{change}" for change in changes_in(op, asked.start, asked.end))


@contract("unmap", source="kvm_pgtable_stage2_unmap()")
def unmap_removes_all_of_its_range(op: Transition) -> Iterator[str] | None:
    """Where unmap returns 0, nothing of its range is mapped any more."""
    asked = asked_in(op)
    if op.record.ret != 0 or asked is None or asked.is_empty:
        return None
    return (f"{one} is still there" for one in op.after.maplets(asked.start, asked.end))


@contract(
    "unmap", source="kvm_pgtable_stage2_unmap(): removes a mapping; a block goes as a whole, as where map splits it"
)
def unmap_removes_nothing_else(op: Transition) -> Iterator[str] | None:
    """Outside its range, unmap takes away the rest of blocks that reach into it, and nothing more."""
    asked = asked_in(op)
    if asked is None:
        return None
    return beyond_blocks(op, asked, _went)


@contract("unmap", source="kvm_pgtable_stage2_unmap(): unreferenced pages are freed")
def unmap_frees_tables_that_it_empties(op: Transition) -> Iterator[str] | None:
    """A table page that unmap has emptied is freed, the root's apart."""
    return left_empty(op)


@contract("set_owner", source="kvm_pgtable_stage2_set_owner(): unmap and annotate pages")
def an_owned_range_translates_nothing(op: Transition) -> Iterator[str] | None:
    """Where set_owner returns 0, its range translates nothing, and says whose it is: the same annotation everywhere, or
    for owner 0 none."""
    asked = asked_in(op)
    if op.record.ret != 0 or asked is None or asked.is_empty:
        return None
    after = op.after.maplets(asked.start, asked.end)
    if not op.value("owner"):
        return (f"{one} is still there" for one in after)
    # An address may stay in it, and the type of the leaf that it was (seed 000: PROT_NONE).
    without = ~(address_field(op.machine).bits | _TYPE)
    owners = {None if one.is_mapped else one.annotation & without for one in after}
    covered = sum(one.end - one.start for one in after)
    if len(owners) == 1 and None not in owners and covered == asked.end - asked.start:
        return iter(())
    return iter(
        (f"{asked.start:#x}-{asked.end:#x} is not all of one owner's: {', '.join(map(str, after)) or 'nothing'}",)
    )


@contract(*_RANGES, "wrprotect", source="Arm ARM, D8.16 (break-before-make): between two translations there is none")
def a_failure_leaves_old_new_or_nothing(op: Transition) -> Iterator[str] | None:
    """An operation that fails half-way leaves each address of its range as it was, as it was to be, or unmapped: never
    another translation, never more permission."""
    asked = asked_in(op)
    if not op.record.ret or op.record.ret > 0 or asked is None:
        return None
    return (
        f"{change}"
        for change in changes_in(op, asked.start, asked.end)
        if change.after is not None and not change.after.is_locked and not _is_as_asked(op, asked, change)
    )


def _is_as_asked(op: Transition, asked: Asked, change: Change) -> bool:
    """Whether a change leaves what the op was to leave."""
    if op.op.name == "wrprotect":
        return _only_writes(change)
    return op.op.name != "unmap" and change.after is not None and asked.is_like(change.after)


@contract("get_leaf", source="kvm_pgtable_get_leaf(): its result is the entry that ends the walk, and its level")
def get_leaf_tells_the_leaf(op: Transition) -> Iterator[str] | None:
    """What get_leaf tells is the entry that ends the walk of the address."""
    tree = op.after.tree
    if op.record.ret != 0 or tree is None or op.tampered or op.value("ipa") >> tree.ia_bits:
        return None
    entry, level = entry_at(op.after, op.value("ipa"))
    told = tuple(op.record.outs[:2])
    if told == (entry, level):
        return iter(())
    return iter((f"it told {told[0]:#x} of level {told[1]}, and the entry is {entry:#x} of level {level}",))


@contract("destroy", source="kvm_pgtable_stage2_destroy(), kvm_pgtable_hyp_destroy()")
def destroy_frees_every_table(op: Transition) -> Iterator[str] | None:
    """After destroy none of the tree's tables is in use, but for those that had a reference too many already."""
    if op.before.tree is None or op.record.ret is None or op.tampered:
        return None
    left = [page for page in op.before.reachable if page in op.after.tables and not op.before.excess(page)]
    return (f"the table {page:#x} is still in use" for page in sorted(left))


@contract("wrprotect", source="kvm_pgtable_stage2_wrprotect()")
def wrprotect_takes_write_permission_alone(op: Transition) -> Iterator[str] | None:
    """Where wrprotect returns 0, nothing in its range can be written; nothing else changes but that write permission,
    and outside its range that of blocks which reach into it."""
    asked = asked_in(op)
    if op.record.ret != 0 or asked is None:
        return None
    kept = (
        f"{one} can still be written"
        for one in op.after.maplets(asked.start, asked.end)
        if one.memory is not None and "w" in one.memory.allows
    )
    return chain(kept, beyond_blocks(op, asked, _only_writes), _others(op, asked.start, asked.end, _only_writes))


def _only_writes(change: Change) -> bool:
    return is_only(change, allows=lambda was, now: now == was.replace("w", ""))


def _others(op: Transition, start: int, end: int, is_meant: Callable[[Change], bool]) -> Iterator[str]:
    return (f"{change}" for change in changes_in(op, start, end) if not is_meant(change))


@contract("mkyoung", source="kvm_pgtable_stage2_mkyoung()")
def mkyoung_sets_the_access_flag_alone(op: Transition) -> Iterator[str] | None:
    """Where a valid leaf translates the address, mkyoung sets its access flag, and changes nothing else anywhere."""
    span = leaf_span(op.before, op.value("ipa"))
    if span is None or op.tampered or op.record.ret is None:
        return None
    old = (
        f"{one} has no access flag"
        for one in op.after.maplets(*span)
        if one.memory is not None and not one.memory.is_young
    )
    return chain(old, (f"{change}" for change in op.changes if not _is_ageing(change, young=True)))


@contract("mkyoung", source="kvm_pgtable_stage2_mkyoung(): returns the old entry, 0 on failure")
def mkyoung_tells_the_old_entry(op: Transition) -> Iterator[str] | None:
    """What mkyoung returns is the entry as it was; 0 is a failure."""
    if not op.record.outs or not op.record.outs[0] or op.before.tree is None or op.tampered:
        return None
    entry, _ = entry_at(op.before, op.value("ipa"))
    told = op.record.outs[0]
    return iter(()) if told == entry else iter((f"it told {told:#x}, and the entry was {entry:#x}",))


@contract("test_clear_young", "mkold", "is_young", source="kvm_pgtable_stage2_test_clear_young()")
def ageing_clears_access_flags_alone(op: Transition) -> Iterator[str] | None:
    """Ageing changes nothing but access flags: it clears those of leaves in its range where it is asked to."""
    asked = asked_in(op)
    if asked is None or op.record.ret is None:
        return None
    clears = op.op.name == "mkold" or (op.op.name == "test_clear_young" and op.value("mkold"))
    kept = (
        f"{one} still has its access flag"
        for one in op.after.maplets(asked.start, asked.end)
        if clears and one.memory is not None and one.memory.is_young
    )
    return chain(kept, (f"{change}" for change in op.changes if not clears or not _is_ageing(change, young=False)))


def _is_ageing(change: Change, young: bool) -> bool:
    return is_only(change, is_young=lambda _was, now: now is young)


@contract("test_clear_young", "is_young", source="kvm_pgtable_stage2_test_clear_young(): true if any had the flag")
def ageing_tells_whether_any_was_young(op: Transition) -> Iterator[str] | None:
    """It tells whether any leaf that translates the range had the access flag."""
    asked = asked_in(op)
    if asked is None or not op.record.outs:
        return None
    any_young = any(one.memory is not None and one.memory.is_young for one in op.before.maplets(asked.start, asked.end))
    told = bool(op.record.outs[0])
    return iter(()) if told == any_young else iter((f"it told {told}, and {any_young} is so",))


@contract("relax_perms", source="kvm_pgtable_stage2_relax_perms(): no permissions are removed; software bits stay")
def relax_perms_only_adds_permissions(op: Transition) -> Iterator[str] | None:
    """relax_perms adds permissions to the leaf that translates the address, and changes nothing else but its access
    flag: no permission goes, no software bit changes, and no other address."""
    if op.record.ret is None or op.tampered:
        return None
    return (f"{change}" for change in op.changes if not _is_relaxed(change))


@contract(
    *("map", "relax_perms"),
    source="Arm ARM, B2.7.2, Device memory: what is not execute-never for all Exception levels is a programming error",
)
def device_memory_cannot_be_executed(op: Transition) -> Iterator[str] | None:
    """No operation lets device memory be executed: only execute-never keeps the hardware from fetching from it
    speculatively, which a device may take for a read."""
    if op.before.tree is None or op.record.ret is None or op.tampered:
        return None
    return (
        f"{one}"
        for change in op.changes
        if (one := change.after) is not None and one.memory is not None and one.memory.kind.startswith("device")
        if set(one.memory.allows) & set("xup")
    )


def _grows(was: str, now: str) -> bool:
    """Whether no permission goes; to execute at any level is more than at one."""
    return set(was) <= set(now) or set(was) - set("up") <= set(now) >= {"x"}


def _is_relaxed(change: Change) -> bool:
    return is_only(
        change,
        allows=_grows,
        is_young=lambda _was, _now: True,
    )


@contract("relax_perms", source="kvm_pgtable_stage2_relax_perms(): relax according to the permissions specified")
def relax_perms_grants_what_was_asked(op: Transition) -> Iterator[str] | None:
    """Where relax_perms returns 0 and a valid leaf translates the address, that has the permissions asked for."""
    span = leaf_span(op.before, op.value("ipa"))
    if op.record.ret != 0 or span is None:
        return None
    wanted = {name for name in "rwx" if op.value("prot") & PROT_BITS[name]}
    return (
        f"{one} lacks some of {''.join(sorted(wanted))}"
        for one in op.after.maplets(*span)
        if one.memory is None or not wanted <= set(one.memory.allows)
    )


@contract("pte_prot", source="kvm_pgtable_stage2_pte_prot(): the protection attributes, in the enum's format")
def pte_prot_tells_the_protection(op: Transition) -> Iterator[str] | None:
    """What pte_prot tells of a valid leaf is the protection that it would be mapped with: permissions, software bits,
    and whether it is device or non-cacheable memory."""
    memory = memory_of(op.value("pte"), op.machine)
    wanted = None if memory is None else prot_of(memory)
    if wanted is None or not op.record.outs:
        return None
    told = op.record.outs[0]
    return iter(()) if told == wanted else iter((f"of {memory} it told {told:#x}, which is not {wanted:#x}",))


@contract("flush", "pte_prot", source="kvm_pgtable_stage2_flush(), kvm_pgtable_stage2_pte_prot(): they read")
def what_only_reads_changes_nothing(op: Transition) -> Iterator[str] | None:
    """An operation that only reads the table changes nothing of it."""
    return (f"{change}" for change in op.changes)


@contract("split", source="kvm_pgtable_stage2_split(): huge pages become leaves that point to the guest's pages")
def split_changes_no_translation(op: Transition) -> Iterator[str] | None:
    """Splitting changes no translation, permission, memory type, software bit or age of any address."""
    if op.record.ret is None or op.tampered:
        return None
    return (f"{change}" for change in op.changes)


@contract("split", source="kvm_pgtable_stage2_split(): any entry of level 1 or 2 that overlaps with the range")
def split_leaves_no_block(op: Transition) -> Iterator[str] | None:
    """Where split returns 0, no block is left that reaches into its range."""
    span, tree = range_of(op), op.after.tree
    if op.record.ret != 0 or span is None or tree is None:
        return None
    return (
        f"the block at {one.start:#x}, level {signed(one.level)}, is still there"
        for one in leaves(tree, op.machine, *span)
        if one.entry & 1 and one.level < LAST_LEVEL
    )
