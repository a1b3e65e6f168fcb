"""The CPU that runs the code under test: its context, its barriers, and the TLBIs that it has issued."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from harness.observation.calls import Whose, asked_for
from harness.observation.events import (
    DSB,
    ISB,
    MSR,
    SYSREGS,
    TLB_CALLS,
    TLBI,
    TLBI_VMID_IPA_NSH,
    Event,
)
from harness.observation.tlbi import BY_NAME, Invalidation, Target, invalidation_of
from harness.program.machine import Machine
from harness.verdict.caller import HCR_TGE, Caller
from harness.verdict.tlb.held import EVERYWHERE, LOCAL, Tlbi
from harness.verdict.tlb.rules import Part, barrier_of, is_of_regime, parts_of

_NEVER: Final = -1
_VTTBR: Final = SYSREGS["vttbr_el2"]
_HCR: Final = SYSREGS["hcr_el2"]
_BY_SHAREABILITY: Final = (Invalidation(BY_NAME["vmalle1"]), Invalidation(BY_NAME["vmalle1is"]))


@lru_cache(maxsize=4096)
def _decoded(number: int, operand: int, lpa2: bool) -> Invalidation | None:
    return invalidation_of(number, operand, lpa2)


class Cpu:
    """Follows what is not about tables. Registers keep what was written last, from one op to the next."""

    def __init__(self, machine: Machine, tells_instructions: bool) -> None:
        """`tells_instructions`: whether what TLB functions do is among the events; else they do what they are for."""
        self._granule = machine.granule
        self._is_stage_1 = machine["stage"] == 1
        self._lpa2 = bool(machine["lpa2"])
        self._tells_instructions = tells_instructions
        self._machine = machine
        self._caller = Caller.on(machine)
        self._is_in_use = self.is_called_for = True
        """Whether the MMU whose entries count is in use, and whether the next TLB function is called for it."""
        self._vmids = (1 << machine.vmid_bits) - 1
        self._vmid = self._caller.at_home
        self._is_host_regime = self._caller.mode == "vhe"
        self._is_synchronised = True
        self._may_be_called = True
        self._barriers = [_NEVER, _NEVER]
        """The last barrier for stores, by scope."""
        self.pending: list[Tlbi] = []
        """TLBIs of the regime under test that no barrier has waited for."""
        self.issued: list[Tlbi] = []
        """Those of the op under way."""

    def use(self, whose: Whose, is_in_use: bool) -> None:
        """In a VM with several MMUs, the VMID of the one whose entries count, and of the one in use: whose vCPU runs
        now, where one of this stage 2 does."""
        self._caller = Caller.on(self._machine, whose)
        self._is_in_use = self.is_called_for = is_in_use
        if self._caller.vcpu == "own":
            self._vmid = whose.in_use

    def begin_op(self) -> None:
        self.issued.clear()

    def parts(self, tlbi: Tlbi) -> int:
        """What of an entry a TLBI reaches: a set of `Part`."""
        return Part.STAGE | Part.COMBINED if self._is_stage_1 else parts_of(tlbi.what.operation.target)

    def follow(self, event: Event, now: int) -> Iterator[Tlbi]:
        """Take in an event. The TLBIs that are done by it, in order."""
        kind = event.instruction
        if kind == DSB:
            yield from self._barrier(event.a, now)
        elif kind == ISB:
            self._is_synchronised = True
        elif kind == MSR:
            if event.a == _VTTBR:
                self._vmid = event.b >> 48 & self._vmids
            elif event.a == _HCR:
                self._is_host_regime = bool(event.b & HCR_TGE)
            self._is_synchronised = False
        elif kind == TLBI:
            self._invalidate(event, now)
        elif kind in TLB_CALLS:
            self._may_be_called = self._caller.may_call(kind)
            if not self._tells_instructions:
                yield from self._carry_out(event, now)
            self.is_called_for = self._is_in_use

    def _barrier(self, domain: int, now: int) -> Iterator[Tlbi]:
        barrier = barrier_of(domain)
        if not barrier.has_stores:
            return
        self._barriers[LOCAL] = now
        if barrier.is_everywhere:
            self._barriers[EVERYWHERE] = now
        if barrier.has_loads and self.pending:
            waiting = [one for one in self.pending if one.everywhere and not barrier.is_everywhere]
            yield from (one for one in self.pending if barrier.is_everywhere or not one.everywhere)
            self.pending = waiting

    def _invalidate(self, event: Event, now: int) -> None:
        what = _decoded(event.a, event.b, self._lpa2)
        if what is None or not is_of_regime(what, self._is_stage_1, self._granule.shift):
            return
        everywhere = what.operation.shareability != "non-shareable"
        is_ours = self._is_in_context(what.operation.target)
        one = Tlbi(now, self._barriers[everywhere], everywhere, what, is_ours, self._may_be_called)
        self.pending.append(one)
        self.issued.append(one)

    def _is_in_context(self, target: Target) -> bool:
        """Whether a TLBI is for the VMID under test, and its guest's regime (`Rules.CONTEXT`)."""
        if self._is_stage_1 or target is Target.ALL:
            return True
        if not self._is_synchronised or self._vmid != self._caller.vmid:
            return False
        return not (self._is_host_regime and target in (Target.STAGE_1, Target.STAGE_1_OF_VMID))

    def _carry_out(self, event: Event, now: int) -> Iterator[Tlbi]:
        """A TLB function of which the instructions are not told does what it is for."""
        what = asked_for(event, self._granule)
        if what is None:
            return
        everywhere = event.kind != TLBI_VMID_IPA_NSH
        is_ours = self.is_called_for or what.operation.target is Target.ALL
        yield Tlbi(now, now, everywhere, what, is_ours, True)
        yield Tlbi(now + 1, now, everywhere, _BY_SHAREABILITY[everywhere], is_ours, True)
