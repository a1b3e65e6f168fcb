"""The case: a program's operations in C, each with what is expected of it, and the state that should result.

Expected is what the left side does: the model, or the kernel before a change. Pages come from a pool in the file, by
the rules of the harness and at its addresses, so that entries can be compared as they are. What cannot be said through
kvm_pgtable.h, the test says in a comment. What it cannot see at all (a TLB invalidation that is missing), it says at
its top, with what would show it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from fuzz.triage.kunit.detection import shown_instead
from fuzz.triage.kunit.expectations import call_of, is_sayable, op_expected, state_expected
from fuzz.triage.kunit.templates import c_file
from harness.outside import printable
from harness.program.definition import Op
from harness.program.kinds.small import CACHE_CAPACITY
from harness.program.ops import INIT
from harness.program.program import Program
from harness.program.text import format_knob, format_op
from harness.verdict.verdicts import Verdict

_IN_THE_TEST: Final = ("pool_base", "pool_pages", "ia_bits", "va_bits", "nofwb", "idmap", "force_pte", "stage", "cmos")


def kunit_case(program: Program, verdict: Verdict, forms: Mapping[str, bool], about: Mapping[str, str]) -> str:
    """The file. `forms` says how the tree's header has what differs between versions (`reference.build.declared`),
    `about` is printed on top of it."""
    program = program.prefix(verdict.record)
    needs = {
        "machine": program.machine,
        "forms": forms,
        "cache_pages": _cache_pages(program),
        "made": Counter(op.definition.makes.name for op in program.ops if op.definition.makes is not None),
        "vtcr": _vtcr(verdict),
    }
    name = re.sub(r"\W", "_", f"s2fuzz_{verdict.bucket}")[:80]
    introduction = [printable(line).replace("*/", "* /").rstrip() for line in _introduction(program, verdict, about)]
    return c_file(name, introduction, [*_body(program, verdict, forms)], needs)


def _introduction(program: Program, verdict: Verdict, about: Mapping[str, str]) -> Iterator[str]:
    yield f"{verdict.kind}: {verdict.bucket}"
    yield ""
    for key, value in about.items():
        yield f"{key}: {value}"
    machine = {name: value for name, value in program.machine.changed().items() if name not in _IN_THE_TEST}
    if machine:
        settings = ", ".join(f"{name} = {format_knob(name, value)}" for name, value in machine.items())
        yield f"To be run where {settings} (these are settings of s2fuzz)."
    if verdict.died is not None:
        yield f"The last call does not return: {verdict.died.kind}: {verdict.died.headline}"
    elif verdict.difference is not None:
        found = verdict.difference
        yield f"Expected {found.left}, but seen was {found.right} ({found.tier.name.lower()}: {found.what})."
    if verdict.problem is not None:
        yield f"{verdict.problem.call.event}: {verdict.problem.text}"
    if verdict.stale is not None:
        yield f"{verdict.stale.text} ({verdict.stale.rule.section})"
    if verdict.abort is not None:
        yield verdict.abort.text
    if verdict.broken is not None:
        yield f"{verdict.broken.contract.promise} ({verdict.broken.contract.source})"
        yield verdict.broken.sentence
    instead = shown_instead(program, verdict)
    if instead:
        yield ""
        yield from instead
    unsaid = [op for op in program.ops if not is_sayable(op)]
    if unsaid:
        yield "NOT COMPLETE: what writes entries behind the code's back is left out, see the comments."


def _body(program: Program, verdict: Verdict, forms: Mapping[str, bool]) -> Iterator[str]:
    records = verdict.left.records if verdict.left is not None else ()
    is_hyp = program.machine["stage"] == 1
    for number, op in enumerate((Op(INIT, ()), *program.ops)):
        if number:
            yield from ("", f"/* {format_op(op)} */")
        if is_sayable(op):
            record = records[number] if number < len(records) else None
            yield from op_expected(op, record, call_of(op, forms, is_hyp))
        else:
            yield "/* kvm_pgtable.h has no call for that. */"
    state = list(state_expected(program, verdict))
    if state:
        yield from ("", "/* The state that should result. */", *state)


def _cache_pages(program: Program) -> int:
    """What a cache has room for: a memcache's pages, or as many as an op wants in its split cache."""
    asked = (
        form.pages
        for op in program.ops
        for arg, value in zip(op.definition.args, op.args, strict=True)
        if (form := arg.kind.c_form(value)) is not None
    )
    return max([CACHE_CAPACITY, *asked])


def _vtcr(verdict: Verdict) -> int:
    """VTCR_EL2, as init told it on either side."""
    outs = (side.records[0].outs for side in (verdict.left, verdict.right) if side is not None)
    return next((of_init[0] for of_init in outs if of_init), 0)
