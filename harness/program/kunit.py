"""How an operation and its arguments are said in C, in a KUnit case (`fuzz/triage/kunit`).

Each definition says it, next to what the operation takes and yields:

    OpDef(3, "unmap", …, kunit=Returns("kvm_pgtable_stage2_unmap(&s2_pgt, $ipa, $size)"))

A call is a `string.Template`: `$ipa` is the argument of that name as its kind writes it (`c_form`), and `${mc_pages}`
the part "pages" of the argument `mc`. It may use what a case always has (`s2_pgt`, `s2_mmu`, `s2_mm_ops`, `s2_cache`),
and the helpers in the templates of `fuzz/triage/kunit`: a case gets those that it names.

`kind.c_form(value)` yields a `CForm`, or None where that value makes the operation unsayable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class CForm:
    """A value in C. `parts` are further placeholders, by what follows the argument's name and `_`; `pages` is the
    room in a cache that it takes."""

    text: str
    parts: Mapping[str, str] = field(default_factory=dict, hash=False)
    pages: int = 0


def c_number(value: int) -> str:
    """An unsigned 64-bit number in C."""
    return str(value) if value < 10 else f"{value:#x}ull"


@dataclass(frozen=True, slots=True)
class _Call:
    call: str
    lacking: Mapping[str, str] = field(default_factory=dict, hash=False, kw_only=True)
    """Form of the tree's header (`reference.build.declared`) -> the call where the header lacks it."""
    hyp: str | None = field(default=None, kw_only=True)
    """The call in hyp's stage 1, where it is another."""

    def said(self, forms: Mapping[str, bool], is_hyp: bool) -> str:
        """The call's template on a tree with these forms."""
        if is_hyp and self.hyp is not None:
            return self.hyp
        return next((call for form, call in self.lacking.items() if not forms[form]), self.call)


@dataclass(frozen=True, slots=True)
class Returns(_Call):
    """The call yields the operation's return code."""

    visits: str | None = field(default=None, kw_only=True)
    """What counts the groups of a result that `repeats`, in C."""
    results: Mapping[str, str] = field(default_factory=dict, hash=False, kw_only=True)
    """Result -> where it then stands, in C; looked at where the return code is 0."""


@dataclass(frozen=True, slots=True)
class Value(_Call):
    """The call yields the operation's first result; there is no return code."""


@dataclass(frozen=True, slots=True)
class Statement(_Call):
    """The call yields nothing."""


@dataclass(frozen=True, slots=True)
class Unsayable:
    """kvm_pgtable.h has no call for it: what writes entries behind the code's back."""


KUnit = Returns | Value | Statement | Unsayable
"""An operation in C. A definition that does not say it is `UNSAYABLE`."""

UNSAYABLE = Unsayable()
