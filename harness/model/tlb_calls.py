"""What the kernel's TLB functions do, as events. The same calls come again and again, so what they do is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from harness.model.machine_features import FEATURE_KNOBS, MachineFeatures
from harness.observation.calls import Whose
from harness.observation.events import (
    COUNTED,
    DSB,
    DSB_DOMAINS,
    FLUSH_CPU_CONTEXT,
    FLUSH_VM_CONTEXT,
    IC,
    IC_OPERATIONS,
    IN_CALL,
    ISB,
    MSR,
    SYSREGS,
    TLBI,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
)
from harness.observation.tlbi import BY_NAME as TLBI_OPERATIONS
from harness.program.machine import KNOBS, KNOBS_BY_NAME, Machine
from pgtable import GRANULE_4K, Features, LinuxVersion
from pgtable.tlb import NO_MMU, Context, HostTlbMaintenance, Instruction, Issue, Mmu, TlbMaintenance, vttbr

_KEPT_CONTEXTS: Final = 256
_KEPT_CALLS: Final = 4096
"""Of TLB calls the instructions are kept: so many calls each of so many contexts."""
_MODES, _VCPUS = KNOBS_BY_NAME["kvm_mode"].names, KNOBS_BY_NAME["vcpu"].names
_HOST_ROOT: Final = 0x1000
_FOREIGN_ROOT: Final = 0x2000
"""Of the MMUs that are not under test, as in reference/kernel/context.c."""
_FIXED_KNOB_NAMES: Final = frozenset([*FEATURE_KNOBS, "granule", "ia_bits", "parange", "vmid_bits"])
_FIXED_KNOBS: Final = tuple(index for index, knob in enumerate(KNOBS) if knob.name in _FIXED_KNOB_NAMES)
"""Places of the knobs that decide what a TLB function does, besides what `CpuState` begins with."""
_WHATS: Final[Mapping[str, tuple[int, Callable[[str], int]]]] = {
    "dsb": (DSB, DSB_DOMAINS.__getitem__),
    "isb": (ISB, lambda _: 0),
    "tlbi": (TLBI, lambda name: TLBI_OPERATIONS[name].number),
    "msr": (MSR, SYSREGS.__getitem__),
    "ic": (IC, IC_OPERATIONS.__getitem__),
}


class CpuState:
    """What a TLB function finds on its CPU: the mode that KVM runs in, whose vCPU runs, and the VMID under test.

    Each is a value of the knob of that name, and begins as the machine's. `Boundary.load` takes changes in."""

    __slots__ = ("kvm_mode", "vcpu", "vmid")

    def __init__(self, machine: Machine) -> None:
        self.kvm_mode = machine["kvm_mode"]
        self.vcpu = machine["vcpu"]
        self.vmid = machine["vmid"]


class Piece(NamedTuple):
    """A part of what a TLB function does: events' words, for how many the budget counts, and the function in which a
    WARN fires after them, if one does."""

    words: tuple[int, ...]
    counted: int
    warns: str | None


Pieces = tuple[Piece, ...]
"""What a TLB function does."""


def event_of(instruction: Instruction) -> tuple[int, int, int]:
    """An instruction as an event."""
    name, what, operand = instruction
    kind, number = _WHATS[name]
    return kind, number(what), operand


class Shown(NamedTuple):
    """What TLB functions find of an MMU: its root, VMID and VTCR_EL2."""

    root: int
    vmid: int
    vtcr: int


class Several(NamedTuple):
    """In a VM with several MMUs, the one that a TLB function is called for, and the one in use, whose vCPU runs where
    one of this stage 2 does."""

    called: Shown
    in_use: Shown


class Flushes:
    """What TLB functions do in one context, kept by call (its event)."""

    __slots__ = ("_frames", "_functions", "kept", "told", "whose")

    def __init__(self, tlb: TlbMaintenance, whose: Whose | None = None) -> None:
        self.whose = whose
        self.kept: dict[tuple[int, int, int], Pieces] = {}
        self.told: set[tuple[int, int]] = set()
        """Kind and second argument of the calls that were told as fresh."""
        self._frames: dict[int, tuple[Pieces, Piece, Piece]] = {}
        """By kind, what every call of it does: before the first piece that is the call's own, and around that."""
        self._functions: dict[int, Callable[[int, int], Issue]] = {
            TLBI_VMID: lambda _a, _b: tlb.flush_vmid(),
            TLBI_VMID_IPA: tlb.flush_vmid_ipa,
            TLBI_VMID_IPA_NSH: tlb.flush_vmid_ipa_nsh,
            TLBI_VMID_RANGE: tlb.flush_vmid_range,
            FLUSH_CPU_CONTEXT: lambda _a, _b: tlb.flush_cpu_context(),
            FLUSH_VM_CONTEXT: lambda _a, _b: tlb.flush_vm_context(),
        }

    def keep(self, kind: int, a: int, b: int) -> Pieces:
        """What a call does that is not among `kept` yet."""
        issue = self._functions[kind](a, b)
        frame = self._frames.get(kind)
        if frame is None:
            *warned, before = _pieces(issue.before)
            (after,) = _pieces(issue.after)
            frame = self._frames[kind] = tuple(warned), before, after
        warned_before, head, tail = frame
        (own,) = _pieces(issue.own)
        words, counted = head.words + own.words + tail.words, head.counted + own.counted + tail.counted
        pieces = self.kept[kind, a, b] = (*warned_before, Piece(words, counted, None))
        return pieces


def _pieces(instructions: Sequence[Instruction]) -> Pieces:
    pieces: list[Piece] = []
    words: list[int] = []
    counted = 0
    for instruction in instructions:
        if instruction.name == "warn":
            pieces.append(Piece(tuple(words), counted, instruction.what))
            words, counted = [], 0
            continue
        kind, number, operand = event_of(instruction)
        words += (kind | IN_CALL, number, operand)
        counted += kind in COUNTED
    return (*pieces, Piece(tuple(words), counted, None))


NO_FLUSHES: Final = Flushes(TlbMaintenance(Features(), GRANULE_4K, Context(NO_MMU)))
"""Until there is a table."""


KnownCalls = dict[tuple[int, ...], tuple[list[tuple[int, int, int]], set[tuple[int, int]]]]
"""By context: the calls that are kept, and `Flushes.told`. Plain data."""


class TlbCalls:
    """What a version's TLB functions do in each context that programs came to."""

    __slots__ = ("_contexts", "_earlier", "_maintenance")

    def __init__(self, version: LinuxVersion, earlier: KnownCalls | None = None) -> None:
        """`earlier` is what another one knew, in whose place this is."""
        self._maintenance = TlbMaintenance if version.tlb_asks_who_runs else HostTlbMaintenance
        self._contexts: dict[tuple[int, ...], Flushes] = {}
        self._earlier: KnownCalls = dict(earlier or {})

    @property
    def known(self) -> KnownCalls:
        """Which calls it knows, and which it has told as fresh."""
        return self._earlier | {key: (list(one.kept), one.told) for key, one in self._contexts.items()}

    def trim(self) -> None:
        """Forget all, where many are kept; between two programs."""
        if len(self._contexts) + len(self._earlier) > _KEPT_CONTEXTS:
            self._contexts.clear()
            self._earlier.clear()

    def of(
        self, machine: Machine, fixed: MachineFeatures, cpu: CpuState, root: int, several: Several | None = None
    ) -> Flushes:
        """What they do for the stage 2 with this root; in a VM with `several` MMUs, for the one that is called for
        there. `fixed` follows from the machine."""
        values = machine.values
        key = (root, cpu.kvm_mode, cpu.vcpu, cpu.vmid, *[values[index] for index in _FIXED_KNOBS])
        if several is not None:
            key += (*several.called, *several.in_use)
        flushes = self._contexts.get(key)
        if flushes is None or len(flushes.kept) > _KEPT_CALLS:
            context = _context(fixed, cpu, root, several)
            tlb = self._maintenance(fixed.features, fixed.geometry, context)
            whose = None if several is None else Whose(several.called.vmid, several.in_use.vmid)
            flushes = self._contexts[key] = Flushes(tlb, whose)
            if key in self._earlier:
                kept, flushes.told = self._earlier.pop(key)
                for kind, a, b in kept:
                    flushes.keep(kind, a, b)
        return flushes


def _context(fixed: MachineFeatures, cpu: CpuState, root: int, several: Several | None) -> Context:
    features, vmid = fixed.features, cpu.vmid
    if several is None:
        mmu = in_use = Mmu(fixed.vtcr, vttbr(root, vmid, features))
    else:
        mmu, in_use = (Mmu(one.vtcr, vttbr(one.root, one.vmid, features)) for one in several)
    mode = _MODES[cpu.kvm_mode]
    hosts = {"pkvm_guest": Mmu(0, vttbr(_HOST_ROOT, 0, features)), "pkvm_host": mmu}
    foreign = Mmu(0, vttbr(_FOREIGN_ROOT, vmid + 1, features))
    running = {"none": None, "own": in_use, "foreign": foreign}[_VCPUS[cpu.vcpu]]
    return Context(mmu, mode == "vhe", running, hosts.get(mode))
