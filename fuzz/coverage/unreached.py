"""Lines of pgtable.c that no program reaches, each with the condition that makes it so.

A line is found by its function and a few of its words, so that the table outlives changes elsewhere in the file. It is
checked: `s2fuzz coverage` warns about an unreached line without a condition, and about a reached line that has one.
docs/coverage.md tells how.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_BOTH: Final = ("host", "hyp")


@dataclass(frozen=True, slots=True)
class Unreached:
    """Some lines in a row: `lines` of them, the first `offset` lines below the only one in `function` that is `at`, or
    begins with it. `objects`: of which objects of pgtable.c (`reference.build.image.OBJECTS`) this is true. `needs`: a
    word without which the file is too different a one for it to be true."""

    function: str
    at: str
    why: str
    offset: int = 0
    lines: int = 1
    objects: tuple[str, ...] = _BOTH
    needs: str = ""

    def numbers(self, text: str) -> range:
        """Which lines of the file these are, counted from 1; none where it has no such line, or several."""
        if not re.search(rf"\b{self.needs}", text):
            return range(0)
        body = [(number, line.strip()) for number, line, function in function_lines(text) if function == self.function]
        found = [number for number, line in body if line == self.at]
        found = found or [number for number, line in body if line.startswith(self.at)]
        return range(found[0] + self.offset, found[0] + self.offset + self.lines) if len(found) == 1 else range(0)


_HAS_SHARED: Final = "kvm_pgtable_walk_shared"
_EXCLUSIVE: Final = "the walk is not shared, so an entry is stored plainly, which cannot fail"
_SHARED: Final = "hyp's object refuses shared walks with -EPERM before they begin"


def _hyp(function: str, at: str, why: str, offset: int = 0, lines: int = 1) -> Unreached:
    """Of hyp's object of a file that has shared walks."""
    return Unreached(function, at, why, offset, lines, ("hyp",), _HAS_SHARED)


UNREACHED: Final = (
    Unreached(
        "kvm_pgtable_walk", "if (r)", "only hyp's object refuses a walk (--object hyp)", offset=1, objects=("host",)
    ),
    Unreached(
        "stage2_map_walker_try_leaf",
        "mm_ops->get_page(",
        "where only software bits differ and the old entry is 0, the new one would be software bits alone; "
        "but what map writes is valid, and what set_owner writes has none",
        offset=-1,
        lines=2,
        needs=_HAS_SHARED,
    ),
    Unreached(
        "stage2_map_walk_leaf",
        "return -EINVAL;",
        "at the last level an entry always fits: addresses, ends and physical addresses are whole pages by then",
    ),
    Unreached("stage2_map_walker", "default:", "the walk asks for leaves and tables before only", lines=2),
    Unreached("stage2_map_walker", "return -EINVAL;", "every kind of visit that the walk asks for has returned"),
    Unreached("stage2_age_walker", "return -EAGAIN;", _EXCLUSIVE),
    Unreached("stage2_block_get_nr_page_tables", "case 3:", "its caller leaves the last level alone", lines=2),
    Unreached("stage2_block_get_nr_page_tables", "}", "every case has returned"),
    Unreached(
        "stage2_split_walker",
        "kvm_pgtable_stage2_free_unlinked(",
        f"{_EXCLUSIVE}; and only valid entries get here, which are no locks",
        lines=3,
    ),
    _hyp("stage2_try_set_pte", "return cmpxchg(", _SHARED),
    _hyp("stage2_try_break_pte", "if (!stage2_try_set_pte(", _EXCLUSIVE, offset=1),
    _hyp("stage2_map_walk_table_pre", "return ret;", f"a table is no lock, and {_EXCLUSIVE}"),
    _hyp("stage2_attr_walker", "mm_ops->icache_inval_pou(", f"only relax_perms makes executable; {_SHARED}", lines=2),
    _hyp("stage2_attr_walker", "if (!stage2_try_set_pte(", _EXCLUSIVE, offset=1),
    _hyp("stage2_update_leaf_attrs", "*orig_pte =", f"only mkyoung asks for it; {_SHARED}"),
    _hyp("stage2_update_leaf_attrs", "*level =", f"only relax_perms asks for it; {_SHARED}"),
    _hyp("kvm_pgtable_stage2_mkyoung", "dsb(", _SHARED),
    _hyp("kvm_pgtable_stage2_relax_perms", "kvm_call_hyp(", _SHARED),
)


def conditions(text: str, kernel_object: str) -> dict[int, str]:
    """The lines of a pgtable.c that cannot be reached in that object, by number, and why."""
    return {
        number: entry.why for entry in UNREACHED if kernel_object in entry.objects for number in entry.numbers(text)
    }


def function_lines(text: str) -> Iterator[tuple[int, str, str | None]]:
    """Every line with its number and the function it is in. As the kernel is written, a definition's name begins a
    line's first parenthesis, and its braces stand in the first column."""
    name: str | None = None
    inside = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not inside and (found := re.match(r"(?=[A-Za-z_])[^(=;]*?(\w+)\(", line)):
            name = found[1]
        inside = inside or line.startswith("{")
        yield number, line, name if inside else None
        inside = inside and not line.startswith("}")
