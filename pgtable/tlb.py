"""The instructions behind each TLB invalidation: what KVM's hyp/{nvhe,vhe}/tlb.c and asm/tlbflush.h issue.

An invalidation by VMID reaches the VMID that VTTBR_EL2 holds. So whoever invalidates for an MMU switches to it first,
unless it is there already, and back afterwards. Combined entries of both stages are not found by IPA: with each IPA
goes all of the VMID's stage 1, after the stage-2 entries are gone for certain, since a walk would bring them back.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple

from pgtable.features import Features
from pgtable.geometry import LAST_LEVEL, U64, Geometry

HCR_E2H: Final = 1 << 34
HCR_RW: Final = 1 << 31
HCR_TGE: Final = 1 << 27
HCR_HOST_VHE: Final = HCR_RW | HCR_TGE | HCR_E2H
"""HCR_EL2 while a VHE host runs (kvm_arm.h)."""

VTTBR_CNP: Final = 1
VTTBR_VMID_SHIFT: Final = 48
_VTTBR_HIGH_SHIFT: Final = 46
_VTTBR_WIDE_MASK: Final = (1 << 48) - (1 << 2)

ADDRESS_SHIFT: Final = 12
"""An operand by address leaves these bits out, whatever the granule."""
_ADDRESS_MASK: Final = (1 << 44) - 1
_TTL_SHIFT: Final = 44
_TTL_MASK: Final = 0xF << _TTL_SHIFT
_GRANULES: Final = {12: 1, 14: 2, 16: 3}
"""Of TTL's upper half and of TG, by page shift."""

_RANGE_TG_SHIFT: Final = 46
_RANGE_SCALE_SHIFT: Final = 44
_RANGE_NUM_SHIFT: Final = 39
_RANGE_MAX_NUM: Final = 31
_RANGE_SCALES: Final = (3, 2, 1, 0)
_RANGE_ADDRESS_MASK: Final = (1 << 37) - 1
_LPA2_ALIGN: Final = 1 << 16
"""With LPA2 a range's operand holds its start in units of this."""


class Instruction(NamedTuple):
    """One instruction: `dsb` and its domain; `isb`; `tlbi`, `msr` and `ic` with operation or register, and the value.
    `warn` is none: a WARN fires in the function that it names."""

    name: str
    what: str = ""
    operand: int = 0


ISB: Final = Instruction("isb")


class Mmu(NamedTuple):
    """What stands in VTCR_EL2 and VTTBR_EL2 while this stage 2 translates."""

    vtcr: int
    vttbr: int


NO_MMU: Final = Mmu(0, 0)


def vttbr(root: int, vmid: int, features: Features) -> int:
    """VTTBR_EL2 for a root table and a VMID (kvm_get_vttbr). Where addresses have 52 bits, bits 51:48 of the root's go
    into 5:2."""
    if features.lpa2 or features.pa_bits_52:
        root = (root | root >> _VTTBR_HIGH_SHIFT) & _VTTBR_WIDE_MASK
    vmid &= (1 << features.vmid_bits) - 1
    return root | vmid << VTTBR_VMID_SHIFT | (VTTBR_CNP if features.cnp else 0)


@dataclass(frozen=True, slots=True)
class Context:
    """Where on a CPU the TLB is invalidated for the MMU `mmu`.

    vhe: in a VHE kernel, else in nVHE hyp. running: the MMU of the vCPU that runs, if any does. host: pKVM's stage 2 of
    the host; None without protected mode.
    """

    mmu: Mmu
    vhe: bool = False
    running: Mmu | None = None
    host: Mmu | None = None


class Issue(NamedTuple):
    """What a TLB function issues. `before` and `after` are the same for every call of it in a context, and the same
    objects."""

    before: tuple[Instruction, ...]
    own: tuple[Instruction, ...]
    after: tuple[Instruction, ...]

    @property
    def instructions(self) -> tuple[Instruction, ...]:
        """All, in order."""
        return self.before + self.own + self.after


class TlbMaintenance:
    """What each of KVM's TLB functions issues."""

    highest_hint: ClassVar = 0
    """The highest level that TTL tells; 3 is the lowest."""
    __slots__ = ("_by_ipa", "_by_ipa_nsh", "_context", "_geometry", "_lpa2", "_ranges", "_repeat", "_ttl", "_whole")

    def __init__(self, features: Features, geometry: Geometry, context: Context) -> None:
        self._context = context
        self._geometry = geometry
        self._ttl = features.ttl
        self._ranges = features.tlb_range
        self._repeat = features.repeat_tlbi
        self._lpa2 = features.lpa2
        nsh, leave = Instruction("dsb", "nsh"), tuple(self._leave())
        self._whole = tuple(self._enter("ish")), (*self._synchronise(), ISB, *leave)
        self._by_ipa = self._whole[0], (*self._stage_1_everywhere(), *leave)
        self._by_ipa_nsh = tuple(self._enter("nsh")), (nsh, Instruction("tlbi", "vmalle1"), nsh, ISB, *leave)

    def flush_vmid(self) -> Issue:
        """__kvm_tlb_flush_vmid: both stages of everything."""
        before, after = self._whole
        return Issue(before, (Instruction("tlbi", "vmalls12e1is"),), after)

    def flush_vmid_ipa(self, ipa: int, level: int) -> Issue:
        """__kvm_tlb_flush_vmid_ipa: the entry of this level for ipa, everywhere."""
        before, after = self._by_ipa
        return Issue(before, (Instruction("tlbi", "ipas2e1is", self._hinted(ipa >> ADDRESS_SHIFT, level)),), after)

    def flush_vmid_ipa_nsh(self, ipa: int, level: int) -> Issue:
        """__kvm_tlb_flush_vmid_ipa_nsh: the same on this CPU only."""
        before, after = self._by_ipa_nsh
        return Issue(before, (Instruction("tlbi", "ipas2e1", self._hinted(ipa >> ADDRESS_SHIFT, level)),), after)

    def flush_vmid_range(self, start: int, pages: int) -> Issue:
        """__kvm_tlb_flush_vmid_range: pages 1..2^21 (what four instructions can say), of whatever level."""
        before, after = self._by_ipa
        return Issue(before, tuple(self._range(start & -self._geometry.page_size, pages)), after)

    def flush_cpu_context(self) -> Issue:
        """__kvm_flush_cpu_context: stage 1 and the instruction cache of this CPU, for another vCPU is to run.

        No table has changed, so a VHE kernel waits for no store.
        """
        own = (Instruction("tlbi", "vmalle1"), Instruction("ic", "iallu"), Instruction("dsb", "nsh"), ISB)
        return Issue(tuple(self._enter("ish", changed=False)), own, tuple(self._leave()))

    def flush_vm_context(self) -> Issue:
        """__kvm_flush_vm_context: every VMID, so that none needs to be switched to."""
        before = (self._stores_waited_for("ish"),)
        after = (*self._synchronise(), *((ISB,) if self._context.vhe else ()))
        return Issue(before, (Instruction("tlbi", "alle1is"),), after)

    def _enter(self, domain: str, changed: bool = True) -> Iterator[Instruction]:
        """See to it that stores to a changed table are visible, then be in the MMU's context."""
        context = self._context
        if context.vhe:
            if changed:
                yield self._stores_waited_for(domain)
            yield from _load(context.mmu)
            yield Instruction("msr", "hcr_el2", HCR_HOST_VHE & ~HCR_TGE)
            yield ISB
            return
        yield self._stores_waited_for(domain)
        if context.running not in (None, context.mmu) and context.mmu != context.host:
            yield Instruction("warn", "enter_vmid_context")
        if self._switches():
            yield from _load(context.mmu)
            yield ISB

    def _stores_waited_for(self, domain: str) -> Instruction:
        # In VHE the walker of EL1&0 is not at work, so only the stores need to be waited for.
        return Instruction("dsb", domain + "st" if self._context.vhe else domain)

    def _leave(self) -> Iterator[Instruction]:
        context = self._context
        if context.vhe:
            yield Instruction("msr", "hcr_el2", HCR_HOST_VHE)
            yield ISB
            if context.running not in (None, context.mmu):
                assert context.running is not None
                yield from _load(context.running)
            # A hyp call of a VHE kernel is a function call that ends with this (kvm_call_hyp).
            yield ISB
        elif self._switches():
            before = context.running or context.host
            yield from _load(before) if before else (Instruction("msr", "vttbr_el2", 0),)
            yield ISB

    def _switches(self) -> bool:
        """Whether nVHE hyp has another MMU's context than it needs, and may change it: a running vCPU's it leaves
        alone but for the host's."""
        context = self._context
        is_host = context.mmu == context.host
        if context.running is None:
            return not is_host
        return context.running != context.mmu and is_host

    def _stage_1_everywhere(self) -> Iterator[Instruction]:
        yield Instruction("dsb", "ish")
        yield Instruction("tlbi", "vmalle1is")
        yield from self._synchronise()
        yield ISB

    def _synchronise(self) -> Iterator[Instruction]:
        yield from _synchronise(self._repeat)

    def _hinted(self, operand: int, level: int) -> int:
        """An operand by address, in which TTL says the level where it is one; else those bits are the address'."""
        return _hinted(operand, level, self._geometry, self.highest_hint) if self._ttl else operand

    def _range(self, start: int, pages: int) -> Iterator[Instruction]:
        """The pages by as few instructions as can be, the largest first; an odd one goes by address."""
        shift = self._geometry.page_shift
        if not self._ranges:
            yield from (self._page(start + (page << shift)) for page in range(pages))
            return
        while self._lpa2 and pages > 1 and start & (_LPA2_ALIGN - 1):
            yield self._page(start)
            start, pages = start + (1 << shift), pages - 1
        for scale in _RANGE_SCALES:
            unit = 2 << 5 * scale
            units = min(pages // unit, _RANGE_MAX_NUM + 1) if pages > 1 else 0
            if units:
                yield self._pages(start, scale, units)
                start, pages = start + (units * unit << shift), pages - units * unit
        if pages:
            yield self._page(start)

    def _page(self, address: int) -> Instruction:
        return Instruction("tlbi", "ipas2e1is", (address & U64) >> ADDRESS_SHIFT & _ADDRESS_MASK)

    def _pages(self, start: int, scale: int, units: int) -> Instruction:
        base = (start & U64) >> (16 if self._lpa2 else self._geometry.page_shift) & _RANGE_ADDRESS_MASK
        granule = _GRANULES[self._geometry.page_shift] << _RANGE_TG_SHIFT
        return Instruction(
            "tlbi", "ripas2e1is", granule | scale << _RANGE_SCALE_SHIFT | units - 1 << _RANGE_NUM_SHIFT | base
        )


class HostTlbMaintenance(TlbMaintenance):
    """The same in a Linux whose TLB functions are the host's alone (6.1): whatever vCPU runs, they go to the MMU's
    context and come back to the host's."""

    highest_hint = 1
    __slots__ = ()

    def _enter(self, domain: str, changed: bool = True) -> Iterator[Instruction]:
        if changed:
            yield self._stores_waited_for(domain)
        yield from _load(self._context.mmu)
        if self._context.vhe:
            yield Instruction("msr", "hcr_el2", HCR_HOST_VHE & ~HCR_TGE)
        yield ISB

    def _stores_waited_for(self, domain: str) -> Instruction:
        return Instruction("dsb", domain + "st")

    def _leave(self) -> Iterator[Instruction]:
        context = self._context
        if context.vhe:
            yield from (Instruction("msr", "vttbr_el2", 0), Instruction("msr", "hcr_el2", HCR_HOST_VHE), ISB, ISB)
        else:
            # The return to the host is an exception return, which synchronises.
            yield from _load(context.host) if context.host else (Instruction("msr", "vttbr_el2", 0),)


def _load(mmu: Mmu) -> Iterator[Instruction]:
    yield Instruction("msr", "vtcr_el2", mmu.vtcr)
    yield Instruction("msr", "vttbr_el2", mmu.vttbr)


def _hinted(operand: int, level: int, geometry: Geometry, highest: int = 0) -> int:
    if not highest <= level <= LAST_LEVEL:
        return operand
    return operand & ~_TTL_MASK | (_GRANULES[geometry.page_shift] << 2 | level) << _TTL_SHIFT


def _synchronise(repeat: bool) -> Iterator[Instruction]:
    """Wait until every CPU has done it; some need to be told once more, with whatever TLBI."""
    yield Instruction("dsb", "ish")
    if repeat:
        yield Instruction("tlbi", "vale2is")
        yield Instruction("dsb", "ish")


def flush_hyp_va(addr: int, level: int | None, geometry: Geometry, features: Features) -> Iterator[Instruction]:
    """What follows a store that takes from hyp's stage 1 the entry for addr: a leaf of this level, or (None) a table.

    There is room for the address' bits 55:12 only.
    """
    yield Instruction("dsb", "ishst")
    operand = addr >> ADDRESS_SHIFT & _ADDRESS_MASK
    if level is None:
        yield Instruction("tlbi", "vae2is", operand)
    else:
        yield Instruction("tlbi", "vale2is", _hinted(operand, level, geometry) if features.ttl else operand)
    yield from _synchronise(features.repeat_tlbi)
    yield ISB
