"""Calls of TLB functions, each with the instructions that follow it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from harness.observation.events import (
    FOR_MMU,
    TLB_CALLS,
    TLBI_TTL_UNKNOWN,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
    WARNED,
    Event,
    each_event,
)
from harness.observation.layout import Observation, Record
from harness.observation.mmus import Mmus, vmid_loaded_by
from harness.observation.tlbi import BY_NAME, Invalidation
from harness.program.granule import LAST_LEVEL, Granule


class Whose(NamedTuple):
    """In a VM with several MMUs or vCPUs: the VMID of the MMU that a TLB function is called for, and of the one whose
    vCPU runs, where one of this stage 2 does. Whether one does is None where the machine's knob `vcpu` says it."""

    vmid: int
    running: int
    runs: bool | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a TLB function, with its instructions. `record` is the op's, 0 for the implicit init. `whose` is None
    in a VM with one MMU, whose VMID is the machine's; `mmu` is the number of another MMU than the one in use."""

    record: int
    event: Event
    instructions: tuple[Event, ...]
    whose: Whose | None = None
    mmu: int | None = None


def calls_of(observation: Observation) -> Iterator[Call]:
    """Every call that ran to its end. The last one of an op that was cut by its budget may not have."""
    mmus = Mmus(observation.machine)
    for index, record in enumerate(observation.records):
        calls = list(calls_in(index, record, mmus))
        yield from calls if record.ret is not None else calls[:-1]
        mmus.follow(record)


def calls_in(index: int, record: Record, mmus: Mmus) -> Iterator[Call]:
    """The calls of one op, the `index`-th record's, where there are such MMUs before it."""
    calls = group(index, each_event(record.events))
    loaded = mmus.loaded_by(record)
    if loaded is not None:
        return _calls_of_load(calls, loaded, vmid_loaded_by(record), mmus)
    if mmus.are_the_machines:
        return calls
    running = mmus.vmid(mmus.running)
    return (replace(one, whose=Whose(mmus.vmid(one.mmu), running, mmus.runs)) for one in calls)


def _calls_of_load(calls: Iterator[Call], loaded: int, vmid: int, mmus: Mmus) -> Iterator[Call]:
    """Those of an op that loads a vCPU: its MMU has its VMID by then, and nothing runs yet."""
    for one in calls:
        called = mmus.in_use if one.mmu is None else one.mmu
        of_called = vmid if called == loaded else mmus.vmid(called)
        yield replace(one, whose=Whose(of_called, of_called, False))


def group(record: int, events: Iterable[Event], whose: Whose | None = None) -> Iterator[Call]:
    """The calls among an op's events."""
    call: Event | None = None
    inside: list[Event] = []
    mmu = named = None
    for event in events:
        if event.is_in_call:
            inside.append(event)
        elif event.kind != WARNED:
            if call is not None:
                yield Call(record, call, tuple(inside), whose, mmu)
            mmu, named = named, event.a if event.kind == FOR_MMU else None
            call, inside = (event, []) if event.kind in TLB_CALLS else (None, [])
    if call is not None:
        yield Call(record, call, tuple(inside), whose, mmu)


_FOR: Final[Mapping[int, str]] = {
    TLBI_VMID: "vmalls12e1is",
    TLBI_VMID_IPA: "ipas2e1is",
    TLBI_VMID_IPA_NSH: "ipas2e1",
    TLBI_VMID_RANGE: "ripas2e1is",
}
"""The operation that each TLB function is there for."""


def asked_for(event: Event, granule: Granule) -> Invalidation | None:
    """What the call of a TLB function is to invalidate, where its instructions are not told; None for those that no
    change of a table calls."""
    name = _FOR.get(event.kind)
    if name is None:
        return None
    start = size = level = None
    if event.kind != TLBI_VMID:
        start = event.a & -granule.page
    if event.kind == TLBI_VMID_RANGE:
        size = event.b * granule.page
    elif event.kind != TLBI_VMID and event.b != TLBI_TTL_UNKNOWN:
        level = event.level
    # Level 0 has no leaves; it is what 6.1 says of a level that it does not know.
    return Invalidation(BY_NAME[name], start, size, level if level in range(1, LAST_LEVEL + 1) else None)
