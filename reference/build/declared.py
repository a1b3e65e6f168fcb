"""What a kernel tree declares: which operations its headers have, and in which form. The test kernel is compiled for
that, and programs that ask for more are refused. Nothing here knows a version."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.errors import BadInput
from harness.outside import shown
from harness.program.capabilities import Capabilities, flag_word
from harness.program.kinds import MAP_FLAGS
from harness.program.kinds.flags import Flags
from harness.program.ops import OPS, STANDARD
from reference.build.header import op_entry, x_macro
from reference.build.hosted import HOSTED

_ENUMERATORS: Final[Mapping[str, str]] = {
    "lpa2": "kvm_lpa2_is_enabled",
    "hvhe": "ARM64_KVM_HVHE",
    "vcpu": "__hyp_running_vcpu",
    **{
        flag_word(kind, name): enumerator
        for kind in STANDARD.kinds
        if isinstance(kind, Flags) and kind.may_lack
        for name, enumerator in kind.enumerators.items()
    },
}
"""What a setting or flag needs."""
_FLAGS: Final[Mapping[str, int]] = {
    enumerator: kind.bits[name]
    for kind in STANDARD.kinds
    if isinstance(kind, Flags)
    for name, enumerator in kind.enumerators.items()
}
"""The bits that programs say, by what the tree calls them."""

_NO_TYPES: Final = frozenset({"const", "extern", "inline", "static"})
"""Words of a declaration that make no difference to who calls it."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What one tree's header declares."""

    capabilities: Capabilities
    why: Mapping[str, str]
    """Of everything that the tree lacks, the reason."""
    header: str
    """The C header that tells the test kernel's files that meet the tree's."""
    forms: Mapping[str, bool]
    """Which of the hosted files' forms the headers have."""


def declared(root: Path) -> Declared:
    """What the tree at `root` declares. Raises BadInput where its header cannot be read."""
    text = "".join(_code(root / path) for row in HOSTED for path in row.declares)
    shapes = text + "".join(_code(root / path) for row in HOSTED for path in row.shapes)
    return _declared(text, shapes)


@functools.lru_cache(maxsize=8)
def _declared(text: str, shapes: str) -> Declared:
    """What headers declare: `text` is theirs, `shapes` has what else is looked at for forms."""
    words = frozenset(re.findall(r"\w+", text))
    code = re.sub(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", "", text, flags=re.MULTILINE)
    forms = {name: bool(re.search(form, shapes)) for row in HOSTED for name, form in row.forms.items()}
    why = {name: f"there is no {needed}" for name, needed in _ENUMERATORS.items() if needed not in words}
    for op in OPS:
        for name, accepted in op.functions.items():
            if problem := _misfit(code, words, name, accepted):
                why[op.name] = problem
    if {"test_clear_young", "mkold"} <= why.keys():  # nothing that our half knows a slot to be aged by
        why |= {op: why["test_clear_young"] for op in ("memslot_age", "memslot_test_age") if op not in why}
    if "map" in why:
        why["guest"] = why["map"]  # which maps the page of its code
    elif not forms["MAP_FLAGS"]:
        flags = [flag_word(MAP_FLAGS, name) for name in MAP_FLAGS.bits]
        why |= dict.fromkeys(flags, "kvm_pgtable_stage2_map takes no flags")
    capabilities = Capabilities(frozenset(why))
    why |= {op.name: why[need] for op in OPS if op.name not in why for need in op.needs if need in why}
    return Declared(capabilities, why, _c_header(capabilities, forms, words), forms)


def _misfit(code: str, words: Container[str], function: str, accepted: tuple[str, ...]) -> str | None:
    """Why a function cannot be called as kernel/ops/ would; None where it can, or where only the compiler can tell."""
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


def _c_header(capabilities: Capabilities, forms: Mapping[str, bool], words: Container[str]) -> str:
    lines = [
        "/* Made by reference/build/declared.py from the tree. */",
        "#ifndef S2FUZZ_DECLARED_H",
        "#define S2FUZZ_DECLARED_H",
        *(f"#define S2FUZZ_HAS_{name} {int(has)}" for name, has in forms.items()),
        *(f"#define S2FUZZ_HAS_{op.name} {int(capabilities.has(op.name))}" for op in OPS),
        "/* The operations that the tree has, as S2FUZZ_OPS has all of them. */",
        x_macro("OPS_HERE", map(op_entry, capabilities.ops)),
        "/* Its flags, and the bits that programs say. */",
        x_macro("FLAGS_HERE", ((name, f"{bit:#x}ul") for name, bit in _FLAGS.items() if name in words)),
        "#endif",
    ]
    return "\n".join(lines) + "\n"
