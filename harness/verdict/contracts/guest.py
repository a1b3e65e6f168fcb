"""What a guest sees of its stage 2, and what the handler of its aborts owes it.

That a guest can do what the table says, and nothing else, is the architecture's promise (Arm ARM, D8); what is told of
an access is always what the table says, not what a TLB may still hold. Of the handler: the threads "KVM: arm64:
Distinguish cases of memcache allocations completely" (seed 002), 2021-02 and 03, in the words of
`harness.verdict.aborts`, which judges it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from typing import Final

from harness.program import syndromes
from harness.program.guest import PIECE, STUB
from harness.program.machine import KNOBS_BY_NAME
from harness.verdict.aborts import wrong
from harness.verdict.contracts.contract import contract
from harness.verdict.contracts.states import Transition
from harness.verdict.maplets import Maplet, at
from harness.verdict.tlb.outcomes import access_of
from harness.verdict.tlb.rules import Access

_ACCESSES: Final = ("read", "write", "exec", "fault", "vcpu_read")
_TRANSLATION, _AGE, _PERMISSION = "translation fault", "access flag fault", "permission fault"
_VTCR_HA: Final = 1 << 21
_ALLOWING: Final = {Access.READ: "r", Access.WRITE: "w", Access.EXEC: "xp"}
"""What a maplet has, one of these, of what EL1 may do."""
_PARANGE: Final = KNOBS_BY_NAME["parange"].names
_BY_STATUS: Final = KNOBS_BY_NAME["topup_rule"].names.index("fault_status")
_PA_PAGE: Final = 0xFFF


@contract("probe", source="Arm ARM, D8.2 (translation process), D8.4 (permissions), D8.5 (access flag)")
def a_translation_is_what_the_table_says(op: Transition) -> Iterator[str] | None:
    """AT finds the memory that the address is mapped to where its maplet allows that access, and the fault that this
    makes where it does not: of translation where there is no maplet, of the access flag where it is old, of
    permission."""
    if op.record.ret != 0 or op.tampered:
        return None
    address = op.value("ipa")
    one = at(op.before.all_maplets, address)
    if not _is_reached(op, one, address):
        return None
    return _unlike(op, one, address, op.record.outs)


def _unlike(op: Transition, one: Maplet | None, address: int, pars: Sequence[int]) -> Iterator[str]:
    for access, par in zip((Access.READ, Access.WRITE), pars, strict=True):
        expected, told = _fault(op, one, access), syndromes.describe_par(par)
        if expected is not None:
            if expected not in told:
                yield f"a {access.name.lower()} at {address:#x} came to {told}, and the table says {expected}"
        elif one is not None:
            pa = address + one.offset & ~_PA_PAGE
            if par & syndromes.PAR_FAULT or par & syndromes.PAR_ADDRESS != pa:
                yield f"a {access.name.lower()} at {address:#x} came to {told}, and the table says {pa:#x}"


@contract(*_ACCESSES, source="Arm ARM, D8.4 (memory access control), ESR_EL2: fault status codes")
def an_access_succeeds_where_the_table_allows_it(op: Transition) -> Iterator[str] | None:
    """The guest's access succeeds where the maplets of its code and of the address allow it, and nowhere else; else it
    aborts, with the fault that the first of them makes."""
    if op.record.ret not in (0, -errno.EFAULT) or op.tampered:
        return None
    access = access_of(op.op)
    # Whoever walks a vCPU's stage 1 reads it, and it lies with the code.
    walks = [(STUB, Access.READ)] if op.op.name == "vcpu_read" else []
    steps = [*walks, (STUB, Access.EXEC), (op.value("ipa") & -PIECE, access)]
    for address, kind in steps:
        one = at(op.before.all_maplets, address)
        if not _is_reached(op, one, address):
            return None
        expected = _fault(op, one, kind)
        if expected is not None:
            told = syndromes.describe_esr(op.record.outs[0])
            return iter(
                () if expected in told else (f"it came to {told}, and at {address:#x} the table says {expected}",)
            )
    return iter(() if op.record.ret == 0 else (f"it aborted, and the table allows it: {_told(op)}",))


def _told(op: Transition) -> str:
    return syndromes.describe_esr(op.record.outs[0])


def _is_reached(op: Transition, one: Maplet | None, address: int) -> bool:
    """Whether the CPU has the addresses, of the guest and of the memory, and the registers that it walks with allow for
    them: beyond, it is another fault."""
    limit = 1 << min(int(_PARANGE[op.machine["parange"]]), op.machine.phys_bits)
    return address < limit and (one is None or not one.is_mapped or address + one.offset < limit)


def _fault(op: Transition, one: Maplet | None, access: Access) -> str | None:
    """What keeps an access from happening, by the maplet of its address; None if nothing does."""
    if one is None or one.memory is None:
        return _TRANSLATION
    if not one.memory.is_young and not _sets_flags(op):
        return _AGE
    return None if set(_ALLOWING[access]) & set(one.memory.allows) else _PERMISSION


def _sets_flags(op: Transition) -> bool:
    """Whether the walker sets access flags itself."""
    return bool(op.machine["ha"]) and op.machine["stage"] == 2 and bool(op.judged.vtcr(op.number) & _VTCR_HA)


@contract(*_ACCESSES, source='Arm ARM, D8.13 ("Translation Lookaside Buffers")')
def an_access_sees_the_table_or_what_a_tlb_may_hold(op: Transition) -> Iterator[str] | None:
    """What an access was seen to come to is what the table says, or what a TLB may still hold by the invalidations so
    far."""
    if op.record.ret not in (0, -errno.EFAULT):
        return None
    return (one.text for one in op.stale if one.what.startswith("witness"))


@contract("handle", source="seed 002: the memcache is topped up, without the lock, for whatever the walk may take")
def the_handler_takes_only_what_it_topped_up(op: Transition) -> Iterator[str] | None:
    """The handler of an abort takes pages for tables only from a memcache that it has topped up for that abort."""
    one = op.handling
    return None if one is None or not one.used else _wrong(op, "untopped")


@contract("handle", source="seed 002: by fault granule > mapping size, a table is needed, else none")
def the_granule_rule_tops_up_where_a_table_is_needed(op: Transition) -> Iterator[str] | None:
    """By the granule of the fault, the handler tops its memcache up only where the walk then takes a page for a
    table."""
    one = op.handling
    if one is None or not one.topped_up or one.ret != 0 or one.tampered or op.machine["topup_rule"] == _BY_STATUS:
        return None
    return _wrong(op, "needless")


@contract(
    "handle", source="Linux, CONFIG_DEBUG_ATOMIC_SLEEP: what may sleep is not done under a lock; seed 002, review"
)
def the_handler_sleeps_without_the_lock_and_drops_it(op: Transition) -> Iterator[str] | None:
    """The handler does nothing that may sleep while it holds the MMU's lock, and has dropped it when it returns."""
    return None if op.handling is None else _wrong(op, *op.handling.broken)


@contract(
    "handle", source="user_mem_abort(): 0 lets the guest try again; kvm_pgtable_stage2_map(): the vCPU exits once more"
)
def a_handled_abort_makes_progress(op: Transition) -> Iterator[str] | None:
    """Where the handler returns 0 and the guest tries again, with nothing in between and no locked entry, its access
    succeeds within three rounds."""
    one = op.handling
    return None if one is None or one.ret != 0 or one.tampered or not one.retried else _wrong(op, "stuck")


def _wrong(op: Transition, *kinds: str) -> Iterator[str]:
    assert op.handling is not None
    return (text for what, text in wrong(op.handling, op.machine) if what in kinds)
