"""Which vCPU a CPU gets to run, and what may be left in that CPU's TLB of others that ran under the same MMU: followed
from what ops of the family `vcpu` ask for, and from the TLBIs that anything issues.

A guest's own translations (stage 1) stand in a TLB under VMID and ASID. Two vCPUs of one VM may mean different things
by an ASID, and CPUs do not share what they cache unless the guest says so (Arm ARM, D8.14, on TTBR_ELx.CnP). On one
CPU, under one VMID, nothing tells the two apart: what a vCPU leaves there, another one would use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.observation.calls import Call, calls_in
from harness.observation.events import (
    DOMAIN_NAMES,
    DSB,
    FLUSH_CPU_CONTEXT,
    FLUSH_VM_CONTEXT,
    ISB,
    MSR,
    SYSREGS,
    TLB_CALLS,
    TLBI,
    Event,
)
from harness.observation.layout import EVENT_WORDS, Observation, Record
from harness.observation.mmus import VCPU_LOADS, VCPU_OPS, Mmus, vmid_loaded_by
from harness.observation.tlbi import Target, invalidation_of
from harness.program.definition import Op
from harness.program.machine import Machine
from harness.program.program import Program
from harness.verdict.caller import HCR_TGE, Caller


class Flush(NamedTuple):
    """Stage 1 of a VMID (None: of each) was invalidated, and that was waited for: on every CPU, or on this one."""

    vmid: int | None
    everywhere: bool


class Load(NamedTuple):
    """A CPU gets to run a vCPU under an MMU, by their numbers."""

    cpu: int
    vcpu: int
    mmu: int
    vmid: int
    last: int | None
    """The vCPU that ran there last under that MMU; None if none did."""
    flushes: Flushes
    """What the load itself invalidated."""
    left_by: tuple[int, ...]
    """Other vCPUs of which the CPU may have stage-1 entries under this VMID when it is about to run."""


class Runs(NamedTuple):
    """A vCPU that runs on a CPU, and `others` of which that may still have stage-1 entries under its MMU's VMID."""

    vcpu: int
    others: tuple[int, ...]


def loads(program: Program, observation: Observation) -> Mapping[int, Load]:
    """By record."""
    found: dict[int, Load] = {}
    if not any(record.definition in VCPU_LOADS for record in observation.records):
        return found
    follower = _Follower(observation.machine)
    for number, op, record in _records(program, observation):
        load = follower.follow(number, op, record)
        if load is not None:
            found[number] = load
    return found


def runs_at(program: Program, observation: Observation, record: int) -> Runs | None:
    """Who runs when an op begins, by its record; None if nobody does."""
    follower = _Follower(observation.machine)
    for number, op, one in _records(program, observation):
        if number == record:
            break
        follower.follow(number, op, one)
    return follower.runs


def _records(program: Program, observation: Observation) -> Iterator[tuple[int, Op | None, Record]]:
    for number, record in enumerate(observation.records):
        yield number, program.ops[number - 1] if number else None, record


class Flushes(NamedTuple):
    """What of stage 1 was invalidated: all that was issued, and what of it was waited for."""

    issued: tuple[Flush, ...]
    done: tuple[Flush, ...]


def flushes_of(call: Call, machine: Machine) -> Flushes:
    """Those of a call."""
    caller = Caller.on(machine, call.whose)
    if call.instructions:
        return _Reading(caller, bool(machine["lpa2"])).flushes(call.instructions)
    if not caller.may_call(call.event.kind):
        return Flushes((), ())
    # Instructions are not told: the function does what it is for.
    is_all = call.event.kind == FLUSH_VM_CONTEXT
    one = Flush(None if is_all else caller.vmid, call.event.kind != FLUSH_CPU_CONTEXT)
    return Flushes((one,), (one,))


class _Reading:
    """One call, read from its first instruction to its last."""

    def __init__(self, caller: Caller, lpa2: bool) -> None:
        self._lpa2 = lpa2
        self._vmid = caller.at_home
        """In VTTBR_EL2; None where that is not known."""
        self._is_host_regime = caller.mode == "vhe"
        self._is_synchronised = True
        self._issued: list[Flush] = []
        self._waiting: list[Flush] = []
        self._done: list[Flush] = []

    def flushes(self, instructions: Sequence[Event]) -> Flushes:
        for event in instructions:
            kind = event.instruction
            if kind == MSR:
                self._write(event)
            elif kind == ISB:
                self._is_synchronised = True
            elif kind == TLBI:
                self._invalidate(event)
            elif kind == DSB:
                self._barrier(DOMAIN_NAMES.get(event.a, "ld"))
        return Flushes(tuple(self._issued), tuple(self._done))

    def _write(self, event: Event) -> None:
        self._is_synchronised = False
        if event.a == SYSREGS["vttbr_el2"]:
            self._vmid = event.b >> 48
        elif event.a == SYSREGS["hcr_el2"]:
            self._is_host_regime = bool(event.b & HCR_TGE)

    def _invalidate(self, event: Event) -> None:
        what = invalidation_of(event.a, event.b, self._lpa2)
        if what is None or what.operation.regime != 1:
            return
        target, everywhere = what.operation.target, what.operation.shareability != "non-shareable"
        if target is Target.ALL:
            self._issue(Flush(None, everywhere))
        elif not self._is_synchronised or self._vmid is None:
            return
        elif target is Target.STAGES_1_AND_2_OF_VMID or (target is Target.STAGE_1_OF_VMID and not self._is_host_regime):
            self._issue(Flush(self._vmid, everywhere))

    def _issue(self, one: Flush) -> None:
        self._issued.append(one)
        self._waiting.append(one)

    def _barrier(self, domain: str) -> None:
        """A DSB waits, unless for stores or for loads alone."""
        if domain.endswith(("ld", "st")):
            return
        still = [one for one in self._waiting if one.everywhere and domain == "nsh"]
        self._done += [one for one in self._waiting if one not in still]
        self._waiting = still


class _Follower:
    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._mmus = Mmus(machine)
        self._cpu = 0
        self._ran: dict[tuple[int, int], int] = {}
        """By MMU and CPU, the vCPU that was the last to run."""
        self._left: dict[tuple[int, int], set[int]] = {}
        """By MMU and CPU, the vCPUs of which the TLB may have stage-1 entries under the MMU's VMID."""
        self._loaded: dict[int, tuple[int, int]] = {}
        """By CPU, the MMU and the vCPU that it has."""

    @property
    def runs(self) -> Runs | None:
        """Who does, on the CPU that runs."""
        if self._cpu not in self._loaded:
            return None
        mmu, vcpu = self._loaded[self._cpu]
        return Runs(vcpu, tuple(sorted(self._left.get((mmu, self._cpu), set()) - {vcpu})))

    def follow(self, number: int, op: Op | None, record: Record) -> Load | None:
        """Take in a record; a load, if it is one that was done."""
        loaded = None if op is None else self._mmus.loaded_by(record)
        if loaded is not None and vmid_loaded_by(record) != self._mmus.vmid(loaded):
            for cpu in range(self._machine["cpus"]):
                self._left.pop((loaded, cpu), None)
        if op is not None and record.ret == 0 and record.definition in VCPU_OPS:
            self._cpu = op.value("cpu")
        flushes = self._flushes(number, record)
        load = None
        if op is not None and loaded is not None:
            load = self._load(op, loaded, vmid_loaded_by(record), flushes)
        for flush in flushes.done if load is None else ():
            self._take(flush)
        if record.ret == 0 and op is not None and op.name == "vcpu_put":
            self._loaded.pop(self._cpu, None)
        self._mmus.follow(record)
        return load

    def _flushes(self, number: int, record: Record) -> Flushes:
        if record.ret is None or TLB_CALLS.isdisjoint(record.events[::EVENT_WORDS]):
            return Flushes((), ())
        found = [flushes_of(call, self._machine) for call in calls_in(number, record, self._mmus)]
        return Flushes(
            tuple(flush for one in found for flush in one.issued), tuple(flush for one in found for flush in one.done)
        )

    def _load(self, op: Op, mmu: int, vmid: int, flushes: Flushes) -> Load:
        cpu, vcpu = self._cpu, op.value("vcpu")
        for flush in flushes.done:
            self._take(flush, {mmu: vmid})
        left = self._left.setdefault((mmu, cpu), set())
        load = Load(*(cpu, vcpu, mmu, vmid), self._ran.get((mmu, cpu)), flushes, tuple(sorted(left - {vcpu})))
        self._ran[mmu, cpu] = vcpu
        self._loaded[cpu] = mmu, vcpu
        left.add(vcpu)
        return load

    def _take(self, flush: Flush, vmids: Mapping[int, int] | None = None) -> None:
        """What is invalidated is gone, but for what the CPUs' vCPUs bring back as they run on."""
        vmids = vmids or {}
        for (mmu, cpu), left in self._left.items():
            vmid = vmids.get(mmu, self._mmus.vmid(mmu))
            if flush.vmid in (None, vmid) and (flush.everywhere or cpu == self._cpu):
                left.clear()
                if self._loaded.get(cpu, (-1, 0))[0] == mmu:
                    left.add(self._loaded[cpu][1])
