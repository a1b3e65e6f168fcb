"""The machine's knobs: what a program's header may set, their ranges and their defaults.

Each knob is defined once, here. The text form, the fuzzer's binary form, the reference's C structure and the model
are all driven by `KNOBS`. The defaults are what the emulated machine has (QEMU `-cpu max`, 4K granule).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from harness.program.granule import GRANULES, Granule

POOL_BASE: Final = 0x4400_0000
"""Where the reference's page pool lies in guest RAM; another base only changes what the PTEs say."""

MAX_POOL_PAGES: Final = 640
"""The tables of a whole 1G block of 4K pages are 513; others need their share."""
MAX_BUDGET: Final = 3 << 19
"""Splitting such a block and destroying its tables takes about 2^20 events."""
USUAL_POOL_PAGES: Final = 256
USUAL_BUDGET: Final = 65536
"""What the fuzzer's choices stay within, but for those that ask for more: that is what splits a whole 1G block, and
takes as long as a thousand others."""
_PA_BITS: Final = 48
_MAX_PA_BITS: Final = 52
_LPA_SHIFT: Final = 16
"""Of the granule that has 52 bits without LPA2."""
MAX_VMID: Final = 0xFFFF
VMID_BITS: Final = (8, 16, 2, 3, 4, 5, 6, 7)
"""By values of the knob: that has no other form for those that came first."""
MOST_CPUS: Final = 8
_VA_BITS: Final = {12: 63, 14: 58, 16: 55}


@dataclass(frozen=True, slots=True)
class Knob:
    """One setting of the machine.

    `low` and `high` bound the value (inclusive); `align` is what it must be a multiple of. The values of a knob with
    `names` are written as these, the first for 0.
    """

    name: str
    default: int
    low: int
    high: int
    help: str
    align: int = 1
    names: tuple[str, ...] = ()

    def problem(self, value: int) -> str | None:
        """Why `value` is not acceptable, or None."""
        if not self.low <= value <= self.high:
            if self.names:
                return f"expected {' or '.join(reversed(self.names))}"
            return (
                f"expected {self.low:#x} to {self.high:#x}" if self.align > 1 else f"expected {self.low} to {self.high}"
            )
        if value % self.align:
            return f"expected a multiple of {self.align:#x}"
        return None


def _flag(name: str, help_text: str, default: int = 1) -> Knob:
    return _choice(name, default, ("off", "on"), help_text)


def _choice(name: str, default: int, names: tuple[str, ...], help_text: str) -> Knob:
    return Knob(name, default, 0, len(names) - 1, help_text, names=names)


KNOBS: Final = (
    Knob(
        "pool_base",
        POOL_BASE,
        0,
        (1 << _MAX_PA_BITS) - USUAL_POOL_PAGES * GRANULES[0].page,
        "physical address of the first page that page tables are allocated from, aligned to the granule",
        align=GRANULES[0].page,
    ),
    Knob("pool_pages", 32, 1, MAX_POOL_PAGES, "how many pages that pool has"),
    Knob("ia_bits", 40, 32, 52, "bits of intermediate physical address (IPA)"),
    _flag("fwb", "FEAT_S2FWB: stage 2 forces write-back, no cache maintenance on map"),
    _flag("tlb_range", "FEAT_TLBIRANGE: range invalidation; with fwb, unmap defers its TLBIs"),
    _flag("hw_af", "CONFIG_ARM64_HW_AFDBM: the hardware sets the access flag (VTCR_EL2.HA)"),
    Knob(
        "budget",
        4096,
        1,
        MAX_BUDGET,
        "events (PTE stores, barriers, TLBIs, cache maintenance, references, pages, visits) a program may cause",
    ),
    _flag("nofwb", "KVM_PGTABLE_S2_NOFWB: this stage 2 does without FEAT_S2FWB, even where the CPU has it", default=0),
    _flag("idmap", "KVM_PGTABLE_S2_IDMAP: this stage 2 maps addresses to themselves only", default=0),
    _choice(
        "force_pte",
        0,
        ("never", "always", "unless_rwx"),
        "when map does without blocks; unless_rwx is what pKVM's host does for memory",
    ),
    _flag("ttl", "FEAT_TTL: a TLB invalidation by address may hint the level of the entry"),
    _flag("cnp", "FEAT_TTCNP: VTTBR_EL2.CnP says that all CPUs share the tables"),
    _flag("repeat_tlbi", "the workaround ARM64_WORKAROUND_REPEAT_TLBI", default=0),
    _choice(
        "kvm_mode",
        0,
        ("nvhe", "vhe", "pkvm_guest", "pkvm_host"),
        "how KVM runs, and so its TLB maintenance; under pKVM, whether this stage 2 is a guest's or the host's own",
    ),
    _choice(
        "vcpu",
        0,
        ("none", "own", "foreign"),
        "the vCPU that runs where the TLB is invalidated: none, one of this stage 2, or one of another",
    ),
    Knob("vmid", 1, 0, MAX_VMID, "VMID of this stage 2"),
    _choice("granule", 0, tuple(one.name for one in GRANULES), "size of a page, and of a table; the kernel's own"),
    _flag("lpa2", "FEAT_LPA2: 52-bit addresses with 4K and 16K pages, in other descriptors", default=0),
    _flag("pa_bits_52", "CONFIG_ARM64_PA_BITS_52: 52-bit physical addresses with 64K pages", default=0),
    _choice(
        "parange",
        6,
        ("32", "36", "40", "42", "44", "48", "52"),
        "bits of physical address that the CPU has (ID_AA64MMFR0_EL1.PARange)",
    ),
    _choice(
        "vmid_bits",
        1,
        tuple(map(str, VMID_BITS)),
        "bits of VMID that the CPU has (ID_AA64MMFR1_EL1.VMIDBits); fewer than 8 are what KVM takes it for",
    ),
    _flag("ac03_cpu_38", "the workaround ARM64_WORKAROUND_AMPERE_AC03_CPU_38: hw_af has no effect", default=0),
    _choice(
        "cmos",
        0,
        ("both", "dcache", "icache", "none"),
        "the cache maintenance that mm_ops has: of data, of instructions; those of pKVM's own tables have none",
    ),
    Knob("stage", 2, 1, 2, "of the table under test: a guest's stage 2 or hyp's stage 1, which has ops of its own"),
    Knob("va_bits", 48, 0, 63, "bits of hyp's virtual address, in stage 1; init takes those of 1 to 5 levels"),
    _flag("bti", "FEAT_BTI in the kernel: hyp's executable pages are guarded"),
    _flag("hvhe", "hyp runs with E2H (hVHE): other permission bits in its stage 1", default=0),
    _flag("page_count", "whether mm_ops counts references, in stage 1: hyp cannot unmap without; stage 2 always does"),
    _flag(
        "guest", "a guest runs: init maps the page of its code, and it can make accesses (read, write, exec)", default=0
    ),
    _flag(
        "ha",
        "the guest's walker sets access flags itself, where hw_af lets it (else VTCR_EL2.HA is 0 for it)",
        default=0,
    ),
    _choice(
        "topup_rule",
        0,
        ("fault_status", "fault_granule", "posted"),
        "when `handle` tops the memcache up: as Linux does, by fault granule > mapping size, or as the patch does",
    ),
    _choice(
        "empty_cache",
        0,
        ("atomic", "enomem"),
        "what `handle` gets from an empty memcache: the host's atomic allocation and a WARN, or -ENOMEM as under pKVM",
    ),
    Knob("cpus", 2, 1, MOST_CPUS, "logical CPUs; fewer than there are VMIDs, 0 apart, unless they are scarce"),
    _flag("scarce_vmids", "CPUs may be as many as VMIDs, or more: KVM warns of that, and rollover may fail", default=0),
)

KNOBS_BY_NAME: Final[Mapping[str, Knob]] = {knob.name: knob for knob in KNOBS}
DEFAULTS: Final[Mapping[str, int]] = {knob.name: knob.default for knob in KNOBS}


def phys_bits(knobs: Mapping[str, int] | Machine) -> int:
    """Bits of physical address that the page-table code reckons with on a machine with these knobs: 48 or 52."""
    is_lpa = knobs["pa_bits_52"] and GRANULES[knobs["granule"]].shift == _LPA_SHIFT
    return _MAX_PA_BITS if knobs["lpa2"] or is_lpa else _PA_BITS


def highest_pool(knobs: Mapping[str, int] | Machine) -> int:
    """The highest pool_base of a machine with these knobs: memory ends with the physical addresses."""
    pages = max(knobs["pool_pages"], USUAL_POOL_PAGES)
    return (1 << phys_bits(knobs)) - pages * GRANULES[knobs["granule"]].page


def highest_va_bits(knobs: Mapping[str, int] | Machine) -> int:
    """The highest va_bits of a machine with these knobs: for more, C would shift by more than 63 (with 4K pages, where
    6.12's init refuses them, in 6.1's walks)."""
    return _VA_BITS[GRANULES[knobs["granule"]].shift]


def vmid_bits(knobs: Mapping[str, int] | Machine) -> int:
    """Bits of VMID on a machine with these knobs: 2 to 8, or 16."""
    return VMID_BITS[knobs["vmid_bits"]]


def most_cpus(knobs: Mapping[str, int] | Machine) -> int:
    """The highest `cpus` of a machine with these knobs: rollover leaves each CPU its VMID, and must find another one
    that is not 0."""
    return MOST_CPUS if knobs["scarce_vmids"] else min(MOST_CPUS, (1 << vmid_bits(knobs)) - 2)


@dataclass(frozen=True, slots=True)
class Machine:
    """A complete setting of every knob, in `KNOBS` order.

    Raises ValueError for a value outside its knob's range, or a pool or va_bits that the granule does not allow.
    """

    values: tuple[int, ...] = field(default=tuple(DEFAULTS.values()))

    def __post_init__(self) -> None:
        if len(self.values) != len(KNOBS):
            raise ValueError(f"a machine has {len(KNOBS)} knobs, got {len(self.values)} values")
        for knob, value in zip(KNOBS, self.values, strict=True):
            problem = knob.problem(value)
            if problem:
                raise ValueError(f"{knob.name}: {problem}, got {value:#x}")
        problem = self._problem_of_pool()
        if problem:
            raise ValueError(f"pool_base: {problem}, got {self['pool_base']:#x}")
        if self["va_bits"] > highest_va_bits(self):
            raise ValueError(f"va_bits: {self._problem_of_va_bits()}, got {self['va_bits']}")
        if self["cpus"] > most_cpus(self):
            raise ValueError(f"cpus: {self._problem_of_cpus()}, got {self['cpus']}")

    def _problem_of_pool(self) -> str | None:
        """Entries with the addresses of tables elsewhere would send the code under test astray, both sides alike."""
        granule = self.granule
        if self["pool_base"] % granule.page:
            return f"expected a multiple of {granule.page:#x}, for pages of {granule.name}"
        highest = highest_pool(self)
        return None if self["pool_base"] <= highest else f"expected 0x0 to {highest:#x}"

    def _problem_of_va_bits(self) -> str:
        return f"expected 0 to {highest_va_bits(self)}, for pages of {self.granule.name}: beyond, C shifts out of range"

    def _problem_of_cpus(self) -> str:
        bits = vmid_bits(self)
        return (
            f"expected 1 to {most_cpus(self)}, for VMIDs of {bits} bits: 2^{bits} - 1 must exceed the CPUs (or set "
            "scarce_vmids = on, to see KVM warn)"
        )

    @classmethod
    def of(cls, **knobs: int) -> Machine:
        """The default machine with some knobs changed; KeyError names an unknown one."""
        for name in knobs:
            if name not in KNOBS_BY_NAME:
                raise KeyError(name)
        return cls(tuple(knobs.get(knob.name, knob.default) for knob in KNOBS))

    def __getitem__(self, name: str) -> int:
        return self.values[_INDEX[name]]

    @property
    def granule(self) -> Granule:
        """The size of its pages."""
        return GRANULES[self.values[_GRANULE]]

    @property
    def phys_bits(self) -> int:
        """Bits of physical address that the page-table code reckons with: 48 or 52."""
        return phys_bits(self)

    @property
    def vmid_bits(self) -> int:
        """Bits of VMID: 2 to 8, or 16."""
        return vmid_bits(self)

    @property
    def forces_write_back(self) -> bool:
        """Whether stage 2 has the memory types of FEAT_S2FWB."""
        return bool(self["fwb"] and not self["nofwb"])

    def replace(self, name: str, value: int) -> Machine:
        """The same machine but for one knob. Raises KeyError, ValueError."""
        values = list(self.values)
        values[_INDEX[name]] = value
        return Machine(tuple(values))

    def changed(self) -> dict[str, int]:
        """The knobs that differ from their defaults, in `KNOBS` order."""
        return {k.name: v for k, v in zip(KNOBS, self.values, strict=True) if v != k.default}


_INDEX: Final = {knob.name: index for index, knob in enumerate(KNOBS)}
_GRANULE: Final = _INDEX["granule"]
DEFAULT_MACHINE: Final = Machine()
