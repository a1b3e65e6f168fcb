"""Whether a TLB function does what its caller asked for: the call's event against the instructions that follow it.

Both sides may agree and still be wrong here, so this is judged for itself: by what the functions are for (their
comments, and kvm_pgtable.h) and by the Arm ARM's D8.14, "TLB maintenance", and D8.16.5 on break-before-make. More may
be invalidated than was asked for only where all of a VMID is.

A table walk that EL1 began goes on in hyp, reading descriptors and updating them (access flag, dirty state), until a
DSB has waited for both (Arm ARM, "Out-of-context translation regimes", rule LFHQG and what follows). So before hyp
without VHE changes the registers of EL1&0, a DSB of any domain must have waited on this CPU, and one for stores or for
loads alone will not do. A VHE host has left the guest through the DSB of its context switch, and needs none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from harness.observation.calls import Call
from harness.observation.events import (
    DOMAIN_NAMES,
    DSB,
    FLUSH_CPU_CONTEXT,
    FLUSH_VM_CONTEXT,
    IC,
    ISB,
    MSR,
    SYSREGS,
    TLBI,
    TLBI_TTL_UNKNOWN,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
    Event,
)
from harness.observation.tlbi import Invalidation, Target, invalidation_of
from harness.program.machine import Machine
from harness.verdict.caller import HCR_TGE, Caller

_OF_EL1: Final = frozenset(SYSREGS[name] for name in ("sctlr_el1", "tcr_el1", "vtcr_el2", "vttbr_el2"))
"""Registers that the table walks of EL1&0 go by."""
_LEVELS: Final = range(4)
_WIDTHS: Final = {"nsh": 1, "ish": 2, "osh": 3, "": 3}
"""How far a barrier's domain reaches; that of `sy`, `st` and `ld` has no name."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a call. `what` is short and stable, for a bucket."""

    call: Call
    what: str
    text: str


def problems(call: Call, machine: Machine) -> Iterator[Problem]:
    """What is wrong with one call. A call that its caller had no right to make is not judged."""
    caller = Caller.on(machine, call.whose)
    if caller.may_call(call.event.kind):
        for what, text in _Reading(call, machine, caller).problems():
            yield Problem(call, what, text)


class _Reading:
    """One call, read from its first instruction to its last."""

    def __init__(self, call: Call, machine: Machine, caller: Caller) -> None:
        self.call = call
        self.caller = caller
        self.kind = call.event.kind
        self.machine = machine
        self.is_local = self.kind in (TLBI_VMID_IPA_NSH, FLUSH_CPU_CONTEXT)
        self.width = _WIDTHS["nsh"] if self.is_local else _WIDTHS["ish"]
        self.page = machine.granule.page
        self.lpa2 = bool(machine["lpa2"])
        self.limit = 1 << machine.phys_bits
        self.loaded = caller.at_home
        """The VMID in VTTBR_EL2; None where it does not matter."""
        self.host_regime = caller.mode == "vhe"
        self.synchronised = True
        self.stores_seen = self.kind == FLUSH_CPU_CONTEXT
        self.walks_over = caller.mode == "vhe"
        """Whether no table walk of EL1&0, begun before the call, can be under way."""
        self.covered: list[Invalidation] = []
        self.both_stages = self.stage_1 = self.everything = self.instruction_cache = False
        self.pending = self.incomplete = False
        """Stage-2 invalidations, and any, that no barrier has waited for."""
        self.told: int = 0
        """Completed invalidations since the last of the guest's regime, that one included."""

    def problems(self) -> Iterator[tuple[str, str]]:
        """(what, text) of each thing that is wrong, in order."""
        for event in self.call.instructions:
            kind = event.instruction
            if kind == DSB:
                self._barrier(DOMAIN_NAMES.get(event.a, ""))
            elif kind == ISB:
                self.synchronised = True
            elif kind == MSR:
                yield from self._write(event)
            elif kind == TLBI:
                yield from self._invalidate(event)
            elif kind == IC:
                self.instruction_cache = True
        yield from self._end()

    def _barrier(self, domain: str) -> None:
        reach = _WIDTHS.get(domain.removesuffix("st").removesuffix("ld"), _WIDTHS[""])
        if not domain.endswith(("st", "ld")):
            self.walks_over = True  # those of this CPU: any domain has it
        if reach < self.width or domain.endswith("ld"):
            return
        self.stores_seen = True
        if not domain.endswith("st"):
            self.told += self.incomplete
            self.pending = self.incomplete = False

    def _write(self, event: Event) -> Iterator[tuple[str, str]]:
        if event.a in _OF_EL1 and not self.walks_over:
            self.walks_over = True  # said once
            name = next(name for name, number in SYSREGS.items() if number == event.a)
            yield "walks-under-way", f"no barrier waits for the table walks of EL1 before `msr {name}`"
        if event.a == SYSREGS["vttbr_el2"]:
            self.loaded = event.b >> 48
        elif event.a == SYSREGS["hcr_el2"]:
            self.host_regime = bool(event.b & HCR_TGE)
        self.synchronised = False

    def _invalidate(self, event: Event) -> Iterator[tuple[str, str]]:
        one = invalidation_of(event.a, event.b, self.lpa2)
        if one is None:
            yield "unknown-operation", f"{event.a:#x} is no TLBI"
            return
        self.incomplete = True
        if one.operation.regime != 1:  # another regime's, to repeat one
            return
        self.told = 0
        target = one.operation.target
        if not self.stores_seen:
            yield "stores-not-seen", f"no barrier waits for the stores before `{one.operation.name}`"
        if not self.synchronised:
            yield "context", f"no ISB between the new context and `{one.operation.name}`"
        if self.host_regime and target in (Target.STAGE_1, Target.STAGE_1_OF_VMID):
            # Those by IPA, of both stages and of everything are for EL1&0 whatever HCR_EL2 says.
            yield "regime", f"`{one.operation.name}` is for the host's own regime, for HCR_EL2.TGE is set"
        if target is not Target.ALL and self.loaded != self.caller.vmid:
            yield "vmid", f"`{one.operation.name}` is for VMID {self.loaded}, not {self.caller.vmid}"
        if not self.is_local and one.operation.shareability == "non-shareable":
            yield "shareability", f"`{one.operation.name}` is for this CPU alone"
        yield from self._note(one)

    def _note(self, one: Invalidation) -> Iterator[tuple[str, str]]:
        target = one.operation.target
        self.everything |= target is Target.ALL
        if target in (Target.STAGES_1_AND_2_OF_VMID, Target.ALL):
            self.both_stages = True
        elif target is Target.STAGE_1_OF_VMID:
            if self.pending:
                yield "order", "stage 1 is invalidated while stage 2 may still be"
            self.stage_1 = True
        elif target is Target.STAGE_2:
            self.pending, self.stage_1 = True, False
            if one.flaw is None:
                self.covered.append(one)

    def _end(self) -> Iterator[tuple[str, str]]:
        """What must hold when the function returns."""
        if self.kind == FLUSH_VM_CONTEXT and not self.everything:
            yield "not-covered", "other VMIDs are left"
        if self.kind == TLBI_VMID and not self.both_stages:
            yield "not-covered", "not all of both stages"
        if self.kind == FLUSH_CPU_CONTEXT and not (self.instruction_cache and (self.stage_1 or self.both_stages)):
            yield "not-covered", "not stage 1 and the instruction cache"
        if self.kind in (TLBI_VMID_IPA, TLBI_VMID_IPA_NSH, TLBI_VMID_RANGE) and not self.both_stages:
            yield from self._coverage()
            if not self.stage_1:
                yield "stage-1-left", "combined entries of both stages are left"
        if self.incomplete:
            yield "not-waited-for", "no barrier waits for the last invalidation"
        if self.machine["repeat_tlbi"] and not self.is_local and self.told < 2:
            yield "not-repeated", "a CPU that needs a second invalidation has completed one"
        # A host without VHE that calls hyp is returned to by an exception return, which synchronises.
        caller = self.caller
        by_exception = caller.mode != "vhe" and caller.vcpu == "none"
        if not self.synchronised and not by_exception:
            yield "context-left", "no ISB after the context was put back"
        if self.loaded != caller.at_home and caller.at_home is not None:
            yield "context-left", f"VMID {self.loaded} is left in VTTBR_EL2, not {caller.at_home}"
        if self.host_regime != (caller.mode == "vhe"):
            yield "context-left", "HCR_EL2.TGE is not put back"

    def _coverage(self) -> Iterator[tuple[str, str]]:
        if self.kind == TLBI_VMID_RANGE:
            yield from self._range_coverage()
            return
        ipa, level = self.call.event.a, self.call.event.level
        if ipa >= self.limit:  # more than an operand holds
            return
        at_ipa = [one for one in self.covered if one.start is not None and one.start & -self.page == ipa & -self.page]
        if not at_ipa:
            yield "not-covered", f"nothing invalidates {ipa:#x}"
        if len(at_ipa) < len(self.covered):
            yield "too-much", f"more than {ipa:#x} is invalidated"
        known = level if level is not None and level in _LEVELS and self.call.event.b != TLBI_TTL_UNKNOWN else None
        for one in at_ipa:
            yield from self._hints(one, known)
            if one.operation.last_level_only and known is None:
                yield "last-level", f"tables that led to {ipa:#x} are left"

    def _range_coverage(self) -> Iterator[tuple[str, str]]:
        start = self.call.event.a & -self.page
        end = start + self.call.event.b * self.page
        if end > self.limit:
            return
        at = start
        for one in sorted(self.covered, key=lambda one: one.start or 0):
            assert one.start is not None
            if one.start > at:
                break
            at = max(at, one.start + (self.page if one.size is None else one.size))
            yield from self._hints(one, None)
        if at < end:
            yield "not-covered", f"{at:#x} to {end - 1:#x} is left"
        if at > end or any(one.start < start for one in self.covered if one.start is not None):
            yield "too-much", f"more than {start:#x} to {end - 1:#x} is invalidated"

    def _hints(self, one: Invalidation, level: int | None) -> Iterator[tuple[str, str]]:
        if one.level is not None and one.level != level:
            asked = "none is known" if level is None else f"it is {level}"
            yield "level", f"level {one.level} is hinted, where {asked}"
        if one.page_shift is not None and 1 << one.page_shift != self.page:
            yield "granule", f"pages of {1 << one.page_shift} bytes are hinted"
