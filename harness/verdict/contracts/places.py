"""Where a known violation lies: what is so of an op, besides its name, wherever Linux breaks a contract in one way.

An entry of corpora/violations names a place. What breaks the same contract elsewhere is something else, and is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from harness.program.granule import LAST_LEVEL
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import KNOBS_BY_NAME
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import (
    allowed_by,
    is_only,
    leaf_span,
    memory_of,
    prot_of,
    range_of,
    slots_in_range,
    trees_of,
    unlike_prot,
)
from harness.verdict.maplets import Change, leaves

Place = Callable[[Transition], bool]

_RULES: Final = KNOBS_BY_NAME["topup_rule"].names
_TYPES: Final = PROT_BITS["device"] | PROT_BITS["nc"]


def anywhere(_: Transition) -> bool:
    """The contract and the op say it all."""
    return True


def over_a_block(op: Transition) -> bool:
    """A block lies in the range or has changed, and what was mapped and changed, software bits apart, were blocks."""
    tree, definition = op.before.tree, op.op.definition
    if tree is None:
        return False
    replaced = [change for change in op.changes if change.before is not None and not _of_software(change)]
    levels = {leaf.level for one in replaced for leaf in leaves(tree, op.machine, one.start, one.end)}
    if definition.address is None or definition.size is None:
        return bool(levels) and LAST_LEVEL not in levels
    start = op.op.args[definition.address]
    named = {leaf.level for leaf in leaves(tree, op.machine, start, start + op.op.args[definition.size])}
    return any(level < LAST_LEVEL for level in named) and LAST_LEVEL not in levels


def _of_software(change: Change) -> bool:
    return is_only(change, software=lambda _was, _now: True)


def of_the_same_memory(op: Transition) -> bool:
    """What was mapped already is mapped to the same memory again; the kernel does not warn."""
    span = range_of(op)
    if span is None:
        return False
    offset = (op.value("phys") & -op.machine.granule.page) - span[0]
    return all(one.offset == offset for one in op.before.maplets(*span))


def from_inside_a_block(op: Transition) -> bool:
    """The range begins inside a leaf, not where that begins."""
    span = range_of(op)
    leaf = None if span is None else leaf_span(op.before, span[0])
    return span is not None and leaf is not None and leaf[0] < span[0]


def onto_a_hole(op: Transition) -> bool:
    """Something of the range was not mapped."""
    span = range_of(op)
    return span is not None and sum(one.end - one.start for one in op.before.maplets(*span)) < span[1] - span[0]


def beyond_memory(op: Transition) -> bool:
    """All of the memory asked for lies beyond the machine's physical addresses."""
    return op.value("phys") >= 1 << op.machine.phys_bits


def makes_young_normal_memory(op: Transition) -> bool:
    """All that changed is that memory has become normal, or young."""
    return all(
        is_only(change, kind=lambda _was, now: now == "normal write-back", is_young=lambda _was, now: bool(now))
        for change in op.changes
    )


def forgets_the_memory_type(op: Transition) -> bool:
    """All is told but the memory type."""
    memory = memory_of(op.value("pte"), op.machine)
    wanted = None if memory is None else prot_of(memory)
    return wanted is not None and op.record.outs[0] == wanted & ~_TYPES


def where_el2_has_two_levels(op: Transition) -> bool:
    """HCR_EL2.E2H is set, and nothing but the permission to execute is not as it should be."""
    if not op.machine["hvhe"]:
        return False
    if op.op.name == "hyp_pte_prot":
        memory = memory_of(op.value("pte"), op.machine)
        return memory is not None and set(allowed_by(op.record.outs[0])) ^ set(memory.allows) == {"x"}
    span, prot = range_of(op), op.value("prot")
    if span is None:
        return False
    offset = (op.value("phys") & -op.machine.granule.page) - span[0]
    return not [*unlike_prot(op.after.maplets(*span), *span, offset, prot | PROT_BITS["x"])]


def without_hardware_s_flags(op: Transition) -> bool:
    """The kernel was built, or works around an erratum, so that it leaves access flags to software."""
    return bool(op.machine["ac03_cpu_38"]) or not op.machine["hw_af"]


def told_nothing(op: Transition) -> bool:
    """The op says that nothing was there."""
    return not any(op.record.outs)


def in_part_of_a_page(op: Transition) -> bool:
    """The size is not of whole pages."""
    return bool(op.value("size") % op.machine.granule.page)


def as_posted(op: Transition) -> bool:
    """The memcache is topped up by the patch as it was posted."""
    return _RULES[op.machine["topup_rule"]] == "posted"


def where_pages_are_forced(op: Transition) -> bool:
    """The memcache is topped up by the fault's granule, and the table's callback asks for pages."""
    return bool(op.machine["force_pte"]) and _RULES[op.machine["topup_rule"]] != "fault_status"


def changed_since_the_access(op: Transition) -> bool:
    """Between the access that aborted and its handling, the table was changed."""
    return op.handling is not None and op.handling.stale


def beyond_the_first_leaf(op: Transition) -> bool:
    """What the range has of a slot is more than the first leaf there, in the first MMU's table."""
    first, _ = trees_of(op, op.before)
    return first is not None and any(
        leaf.start > share.ipa
        for share in slots_in_range(op)
        for leaf in leaves(first, op.machine, share.ipa, share.end)
    )


PLACES: Final[Mapping[str, Place]] = {
    place.__name__.replace("_", "-"): place
    for place in (
        anywhere,
        over_a_block,
        of_the_same_memory,
        from_inside_a_block,
        onto_a_hole,
        beyond_memory,
        makes_young_normal_memory,
        forgets_the_memory_type,
        where_el2_has_two_levels,
        without_hardware_s_flags,
        told_nothing,
        in_part_of_a_page,
        as_posted,
        where_pages_are_forced,
        changed_since_the_access,
        beyond_the_first_leaf,
    )
}
"""By the names that entries give them."""
