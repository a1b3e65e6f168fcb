"""What a kernel tree declares: which operations its headers have, and in which form. The test kernel is compiled for
that, and programs that ask for more are refused. Nothing here knows a version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import BadInput
from harness.offer import Offer, flag_word
from harness.ops import FLAG_NAMES, OPS, Kind
from reference.protocol import stages_mask

SOURCES: Final = (
    Path("arch/arm64/include/asm/kvm_pgtable.h"),
    Path("arch/arm64/include/asm/kvm_asm.h"),
    Path("arch/arm64/kvm/hyp/include/nvhe/mem_protect.h"),
    Path("arch/arm64/kvm/hyp/nvhe/tlb.c"),
)
"""Of the second, the TLB functions, and of the last, what they look at; of the third, the host's stage 2."""

_OURS: Final = frozenset({"fail_alloc", "plant"})
"""Operations that need nothing of the kernel."""

_FUNCTIONS: Final[Mapping[str, str]] = {
    "init": "__kvm_pgtable_stage2_init",
    "get_leaf": "kvm_pgtable_get_leaf",
    "walk": "kvm_pgtable_walk",
    "tlb_flush_vmid_range": "kvm_tlb_flush_vmid_range",
    "flush_cpu_context": "__kvm_flush_cpu_context",
    "flush_vm_context": "__kvm_flush_vm_context",
    "pgd_size": "kvm_pgtable_stage2_pgd_size",
    "get_vtcr": "kvm_get_vtcr",
    "hyp_map": "kvm_pgtable_hyp_map",
    "hyp_unmap": "kvm_pgtable_hyp_unmap",
    "hyp_pte_prot": "kvm_pgtable_hyp_pte_prot",
    "race": "KVM_PGTABLE_WALK_SHARED",
    "link": "kvm_pgtable_stage2_create_unlinked",
}
"""What carries out an operation, where it is not called kvm_pgtable_stage2_OP."""

_FLAG_PREFIXES: Final[Mapping[Kind, str]] = {
    Kind.MAP_FLAGS: "KVM_PGTABLE_WALK_",
    Kind.VISIT_FLAGS: "KVM_PGTABLE_WALK_",
}
_ENUMERATORS: Final[Mapping[str, str]] = {
    "lpa2": "kvm_lpa2_is_enabled",
    "hvhe": "ARM64_KVM_HVHE",
    "vcpu": "__hyp_running_vcpu",
    flag_word(Kind.PROT, "nc"): "KVM_PGTABLE_PROT_NORMAL_NC",
    **{
        flag_word(kind, name): prefix + name.upper()
        for kind, prefix in _FLAG_PREFIXES.items()
        for name in FLAG_NAMES[kind]
    },
}
"""What a setting or flag needs."""

_FORMS: Final[Mapping[str, str]] = {
    "VISIT_CTX": r"struct kvm_pgtable_visit_ctx\b",
    "MAP_FLAGS": r"\bkvm_pgtable_stage2_map\([^)]*\bkvm_pgtable_walk_flags\b",
    "SIGNED_LEVELS": r"\bkvm_pgtable_get_leaf\([^)]*\bs8 \*",
    "FREE_UNLINKED_TABLE": r"\(\*free_unlinked_table\)",
    "TLB_NSH": r"\b__kvm_tlb_flush_vmid_ipa_nsh\(",
    "TLB_RANGE": r"\b__kvm_tlb_flush_vmid_range\(",
    "HOST_MMU": r"\bstruct host_mmu\b",
    "PHYS_TO_PTE": r"\bkvm_phys_to_pte\(",
    "PGD_SIZE": r"\bkvm_pgtable_stage2_pgd_size\(",
}
"""Where the same operation is called or answered otherwise: what the test kernel asks as S2FUZZ_HAS_…, and where the
header says so."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What one tree's header declares."""

    offer: Offer
    header: str
    """The C header that tells the test kernel's files that meet the tree's."""
    forms: Mapping[str, bool]
    """Which of `_FORMS` the header has."""


def declared(root: Path) -> Declared:
    """What the tree at `root` declares. Raises BadInput where its header cannot be read."""
    text = "".join(_read(root / path) for path in SOURCES)
    text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.DOTALL)
    words = frozenset(re.findall(r"\w+", text))
    forms = {name: bool(re.search(pattern, text)) for name, pattern in _FORMS.items()}
    functions = {
        op.name: _FUNCTIONS.get(op.name, f"kvm_pgtable_stage2_{op.name}") for op in OPS if op.name not in _OURS
    }
    lacks = {name for name, needed in {**functions, **_ENUMERATORS}.items() if needed not in words}
    if not forms["MAP_FLAGS"]:
        lacks |= {flag_word(Kind.MAP_FLAGS, name) for name in FLAG_NAMES[Kind.MAP_FLAGS]}
    offer = Offer(frozenset(lacks))
    return Declared(offer, _c_header(offer, forms), forms)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise BadInput(f"{path}: {error.strerror}; give the top folder of a Linux tree") from error


def _c_header(offer: Offer, forms: Mapping[str, bool]) -> str:
    lines = [
        "/* Made by reference/declared.py from the tree. */",
        "#ifndef S2FUZZ_DECLARED_H",
        "#define S2FUZZ_DECLARED_H",
        *(f"#define S2FUZZ_HAS_{name} {int(has)}" for name, has in forms.items()),
        *(f"#define S2FUZZ_HAS_{op.name} {int(offer.has(op.name))}" for op in OPS),
        "/* The operations that the tree has, as S2FUZZ_OPS has all of them. */",
        "#define S2FUZZ_OPS_HERE(X) "
        + " ".join(f"X({op.number}, {op.name}, {len(op.args)}, {stages_mask(op)})" for op in offer.ops),
        "#endif",
    ]
    return "\n".join(lines) + "\n"
