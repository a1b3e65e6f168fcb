"""What a kernel tree declares: which operations its headers have, and in which form. The test kernel is compiled for
that, and programs that ask for more are refused. Nothing here knows a version."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import BadInput
from harness.outside import shown
from harness.program.capabilities import Capabilities, flag_word
from harness.program.definition import FLAG_NAMES, OPS, Kind
from reference.build.hosted import HOSTED
from reference.protocol import stages_mask

_PGT: Final = "struct kvm_pgtable *"
_PROT: Final = "enum kvm_pgtable_prot"
_RANGE: Final = f"{_PGT}, u64, u64"

SIGNATURES: Final[Mapping[str, Mapping[str, tuple[str, ...]]]] = {
    "map": {
        "kvm_pgtable_stage2_map": (
            f"int ({_RANGE}, u64, {_PROT}, void *, enum kvm_pgtable_walk_flags)",
            f"int ({_RANGE}, u64, {_PROT}, void *)",
        )
    },
    "unmap": {"kvm_pgtable_stage2_unmap": (f"int ({_RANGE})",)},
    "set_owner": {"kvm_pgtable_stage2_set_owner": (f"int ({_RANGE}, void *, u8)",)},
    "get_leaf": {
        "kvm_pgtable_get_leaf": (
            f"int ({_PGT}, u64, kvm_pte_t *, s8 *)",
            f"int ({_PGT}, u64, kvm_pte_t *, u32 *)",
        )
    },
    "walk": {"kvm_pgtable_walk": (f"int ({_RANGE}, struct kvm_pgtable_walker *)",)},
    "destroy": {
        "kvm_pgtable_stage2_destroy": (f"void ({_PGT})",),
        "kvm_pgtable_hyp_destroy": (f"void ({_PGT})",),
    },
    "wrprotect": {"kvm_pgtable_stage2_wrprotect": (f"int ({_RANGE})",)},
    "mkyoung": {"kvm_pgtable_stage2_mkyoung": (f"kvm_pte_t ({_PGT}, u64)",)},
    "test_clear_young": {"kvm_pgtable_stage2_test_clear_young": (f"bool ({_RANGE}, bool)",)},
    "mkold": {"kvm_pgtable_stage2_mkold": (f"kvm_pte_t ({_PGT}, u64)",)},
    "is_young": {"kvm_pgtable_stage2_is_young": (f"bool ({_PGT}, u64)",)},
    "relax_perms": {"kvm_pgtable_stage2_relax_perms": (f"int ({_PGT}, u64, {_PROT})",)},
    "flush": {"kvm_pgtable_stage2_flush": (f"int ({_RANGE})",)},
    "tlb_flush_vmid_range": {"kvm_tlb_flush_vmid_range": ("void (struct kvm_s2_mmu *, phys_addr_t, size_t)",)},
    "flush_cpu_context": {"__kvm_flush_cpu_context": ("void (struct kvm_s2_mmu *)",)},
    "flush_vm_context": {"__kvm_flush_vm_context": ("void (void)",)},
    "pte_prot": {"kvm_pgtable_stage2_pte_prot": (f"{_PROT} (kvm_pte_t)",)},
    "split": {"kvm_pgtable_stage2_split": (f"int ({_RANGE}, struct kvm_mmu_memory_cache *)",)},
    "create_unlinked": {
        "kvm_pgtable_stage2_create_unlinked": (
            f"kvm_pte_t * ({_PGT}, u64, s8, {_PROT}, void *, bool)",
            f"kvm_pte_t * ({_PGT}, u64, u32, {_PROT}, void *, bool)",
        )
    },
    "free_unlinked": {
        "kvm_pgtable_stage2_free_unlinked": (
            "void (struct kvm_pgtable_mm_ops *, void *, s8)",
            "void (struct kvm_pgtable_mm_ops *, void *, u32)",
        )
    },
    "get_vtcr": {"kvm_get_vtcr": ("u64 (u64, u64, u32)",)},
    "pgd_size": {"kvm_pgtable_stage2_pgd_size": ("size_t (u64)",)},
    "hyp_map": {"kvm_pgtable_hyp_map": (f"int ({_RANGE}, u64, {_PROT})",)},
    "hyp_unmap": {"kvm_pgtable_hyp_unmap": (f"u64 ({_RANGE})",)},
    "hyp_pte_prot": {"kvm_pgtable_hyp_pte_prot": (f"{_PROT} (kvm_pte_t)",)},
    "race": {"KVM_PGTABLE_WALK_SHARED": ()},
    "link": {"kvm_pgtable_stage2_create_unlinked": ()},
}
"""What carries out an operation, and the forms in which reference/kernel/ops.c can call it (none: it only has to be
declared). `init` is not here: a tree without it cannot be hosted."""

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

_NO_TYPES: Final = frozenset({"const", "extern", "inline", "static"})
"""Words of a declaration that make no difference to who calls it."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What one tree's header declares."""

    capabilities: Capabilities
    why: Mapping[str, str]
    """Of everything that the offer lacks, the reason."""
    header: str
    """The C header that tells the test kernel's files that meet the tree's."""
    forms: Mapping[str, bool]
    """Which of the hosted files' forms the headers have."""


def declared(root: Path) -> Declared:
    """What the tree at `root` declares. Raises BadInput where its header cannot be read."""
    text = "".join(_code(root / path) for row in HOSTED for path in row.declares)
    words = frozenset(re.findall(r"\w+", text))
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", text, flags=re.MULTILINE)
    shapes = text + "".join(_code(root / path) for row in HOSTED for path in row.shapes)
    forms = {name: bool(re.search(form, shapes)) for row in HOSTED for name, form in row.forms.items()}
    why = {name: f"there is no {needed}" for name, needed in _ENUMERATORS.items() if needed not in words}
    for op, functions in SIGNATURES.items():
        for name, accepted in functions.items():
            if problem := _misfit(code, words, name, accepted):
                why[op] = problem
    if "map" not in why and not forms["MAP_FLAGS"]:
        flags = [flag_word(Kind.MAP_FLAGS, name) for name in FLAG_NAMES[Kind.MAP_FLAGS]]
        why |= dict.fromkeys(flags, "kvm_pgtable_stage2_map takes no flags")
    capabilities = Capabilities(frozenset(why))
    return Declared(capabilities, why, _c_header(capabilities, forms), forms)


def _misfit(code: str, words: Container[str], function: str, accepted: tuple[str, ...]) -> str | None:
    """Why a function cannot be called as `ops.c` would; None where it can, or where only the compiler can tell."""
    if function not in words:
        return f"there is no {function}"
    found = re.search(rf"([\w*][\w\s*]*?)\b{function}\s*\(([^()]*)\)\s*[;{{]", code)
    if not accepted or not found:
        return None
    signature = f"{_type(found[1])} ({', '.join(map(_parameter_type, found[2].split(',')))})"
    return None if signature in accepted else f"{function} is `{signature}`, not `{'` or `'.join(accepted)}`"


def _type(text: str) -> str:
    """A type in one spelling: `void *`."""
    return " ".join(word for word in re.findall(r"\w+|\*", text) if word not in _NO_TYPES)


def _parameter_type(text: str) -> str:
    words = _type(text).split()
    is_named = len(words) > 1 + (words[0] in ("struct", "enum")) and words[-1] != "*"
    return " ".join(words[:-1] if is_named else words)


def _code(path: Path) -> str:
    """A file without its comments."""
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", _read(path), flags=re.DOTALL)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError as error:
        raise BadInput(f"{shown(path)}: {error.strerror}; give the top folder of a Linux tree") from error


def _c_header(capabilities: Capabilities, forms: Mapping[str, bool]) -> str:
    lines = [
        "/* Made by reference/build/declared.py from the tree. */",
        "#ifndef S2FUZZ_DECLARED_H",
        "#define S2FUZZ_DECLARED_H",
        *(f"#define S2FUZZ_HAS_{name} {int(has)}" for name, has in forms.items()),
        *(f"#define S2FUZZ_HAS_{op.name} {int(capabilities.has(op.name))}" for op in OPS),
        "/* The operations that the tree has, as S2FUZZ_OPS has all of them. */",
        "#define S2FUZZ_OPS_HERE(X) "
        + " ".join(f"X({op.number}, {op.name}, {len(op.args)}, {stages_mask(op)})" for op in capabilities.ops),
        "#endif",
    ]
    return "\n".join(lines) + "\n"
