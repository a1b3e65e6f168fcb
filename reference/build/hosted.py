"""The files of Linux that run in the test kernel: a row each, and what the build must know of it.

CONTRIBUTING.md says how to host another.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from reference.build.own_files import OURS


@dataclass(frozen=True, slots=True)
class HostedFile:
    """One file of the tree that is compiled to one object, `hosted_<name>.o`. A file that is compiled in several ways
    has a row for each."""

    path: Path
    """In the tree."""
    name: str
    flags: tuple[str, ...] = ()
    """The compiler's, besides those of every hosted file."""
    prefix: str = ""
    """What the names of `functions` are given in front, where several files define the same."""
    functions: tuple[str, ...] = ()
    needs: tuple[Path, ...] = ()
    """Files of ours that stand for what it needs of the rest of the kernel, and that are there for it alone."""
    declares: tuple[Path, ...] = ()
    """Where the tree declares its functions, and what decides how they behave: what is not there, no program can ask
    for."""
    shapes: tuple[Path, ...] = ()
    """Where else its forms are looked for."""
    forms: Mapping[str, str] = field(default_factory=dict)
    """What the test kernel asks as S2FUZZ_HAS_…, for the same is called or answered otherwise in some trees; and how
    that is to be seen in these headers."""
    both_objects: bool = False
    """Whether it is built as the side's object, of `OBJECTS`."""
    is_under_test: bool = False
    """Whether it is there for its own sake: what it reaches is counted (edges, and in the flavour `lines` lines too),
    and where it does not compile, that is its author's doing. The others serve those."""
    records_stores: bool = False
    """Whether its WRITE_ONCE() and the like are stores to PTEs, and so events."""
    is_in_calls: bool = False
    """Whether it is there in the flavour `calls`."""
    parts: Mapping[Path, tuple[str, ...]] = field(default_factory=dict)
    """Where it is but some functions and macros of files, their names by file: those that a tree lacks are left out.
    Else it is all of `path`."""
    parts_for: Mapping[str, str] = field(default_factory=dict)
    """Of those, by name, the op without which one is not taken: what it calls may not be there."""
    begins_with: str = ""
    """The header that those are compiled behind."""
    serves: str = ""
    """The op without which it is not there: one that the tree may lack."""

    @property
    def all_flags(self) -> tuple[str, ...]:
        """The compiler's flags that it has for itself."""
        stores = () if self.records_stores else ("-DS2FUZZ_UNRECORDED_STORES",)
        return (*self.flags, *(f"-D{name}={self.prefix}{name}" for name in self.functions), *stores)


_ASM: Final = Path("arch/arm64/include/asm")
_KVM: Final = Path("arch/arm64/kvm")
PGTABLE: Final = _KVM / "hyp/pgtable.c"
VMID: Final = _KVM / "vmid.c"
_TLB_FUNCTIONS: Final = (
    "__kvm_tlb_flush_vmid",
    "__kvm_tlb_flush_vmid_ipa",
    "__kvm_tlb_flush_vmid_ipa_nsh",
    "__kvm_tlb_flush_vmid_range",
    "__kvm_flush_cpu_context",
    "__kvm_flush_vm_context",
)
"""What both files of TLB maintenance define."""

_OF_MMU: Final = (
    *("__stage2_range_addr_end", "stage2_range_addr_end", "stage2_apply_range", "stage2_apply_range_resched"),
    *("kvm_mmu_split_nr_page_tables", "need_split_memcache_topup_or_resched", "kvm_mmu_split_huge_pages"),
    *("kvm_flush_remote_tlbs", "kvm_arch_flush_remote_tlbs", "kvm_arch_flush_remote_tlbs_range"),
    *("__unmap_stage2_range", "unmap_stage2_range", "kvm_stage2_unmap_range", "kvm_stage2_flush_range"),
    *("stage2_wp_range", "kvm_stage2_wp_range", "kvm_mmu_wp_memory_region", "kvm_mmu_split_memory_region"),
    *("kvm_mmu_write_protect_pt_masked", "kvm_arch_mmu_enable_log_dirty_pt_masked"),
    *("kvm_arch_commit_memory_region", "kvm_arch_prepare_memory_region", "kvm_arch_flush_shadow_memslot"),
    *("kvm_unmap_gfn_range", "kvm_age_gfn", "kvm_test_age_gfn"),
)
"""What works on memory slots, for user space and for the MMU notifier; the rest of mmu.c needs all of the host's memory
management."""

HOSTED: Final = (
    HostedFile(
        PGTABLE,
        "pgtable",
        declares=(_ASM / "kvm_pgtable.h",),
        shapes=(_ASM / "kvm_host.h", _ASM / "kvm_mmu.h"),
        forms={
            "VISIT_CTX": r"struct kvm_pgtable_visit_ctx\b",
            "MAP_FLAGS": r"\bkvm_pgtable_stage2_map\([^)]*\bkvm_pgtable_walk_flags\b",
            "SIGNED_LEVELS": r"\bkvm_pgtable_get_leaf\([^)]*\bs8 \*",
            "FREE_UNLINKED_TABLE": r"\(\*free_unlinked_table\)",
            "PHYS_TO_PTE": r"\bkvm_phys_to_pte\(",
            "MMU_VTCR": r"\bstruct kvm_s2_mmu \{[^}]*\bvtcr;",
            "PGD_SIZE": r"\bkvm_pgtable_stage2_pgd_size\(",
            "NESTED_MMU": r"\bkvm_is_nested_s2_mmu\(",
        },
        both_objects=True,
        is_under_test=True,
        records_stores=True,
        is_in_calls=True,
    ),
    HostedFile(
        _KVM / "hyp/nvhe/tlb.c",
        "nvhe_tlb",
        ("-D__KVM_NVHE_HYPERVISOR__",),
        "__kvm_nvhe_",
        _TLB_FUNCTIONS,
        needs=(OURS / "context.c",),
        declares=(_ASM / "kvm_asm.h", _KVM / "hyp/include/nvhe/mem_protect.h", _KVM / "hyp/nvhe/tlb.c"),
        forms={
            "TLB_NSH": r"\b__kvm_tlb_flush_vmid_ipa_nsh\(",
            "TLB_RANGE": r"\b__kvm_tlb_flush_vmid_range\(",
            "HOST_MMU": r"\bstruct host_mmu\b",
            "RUNNING_VCPU": r"\bvcpu = [^;]*__hyp_running_vcpu;",
        },
    ),
    HostedFile(
        _KVM / "hyp/vhe/tlb.c",
        "vhe_tlb",
        ("-D__KVM_VHE_HYPERVISOR__",),
        "__kvm_vhe_",
        _TLB_FUNCTIONS,
        needs=(OURS / "context.c",),
    ),
    HostedFile(
        VMID,
        "vmid",
        ("-DS2FUZZ_ALLOCATES_VMIDS",),
        declares=(VMID,),
        is_under_test=True,
        is_in_calls=True,
    ),
    HostedFile(
        _KVM / "mmu.c",
        "memslots",
        parts={_KVM / "mmu.c": _OF_MMU, _KVM / "nested.c": ("kvm_nested_s2_wp", "kvm_nested_s2_unmap")},
        parts_for={
            "kvm_unmap_gfn_range": "memslot_unmap",
            "kvm_age_gfn": "memslot_age",
            "kvm_test_age_gfn": "memslot_test_age",
        },
        begins_with="s2fuzz/memslots.h",
        needs=(OURS / "memslots.c",),
        declares=(Path("include/linux/kvm_host.h"),),
        is_in_calls=True,
        serves="memslot_add",
    ),
)

FOLDERS: Final = tuple(sorted({str(Path(*row.path.parts[:3])) for row in HOSTED}))
"""Of the tree, those that hold them; what they include beside themselves is there too."""
