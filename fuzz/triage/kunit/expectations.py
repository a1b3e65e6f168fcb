"""What a case can see: of each operation, and of the state that results."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from string import Template
from typing import Final

from harness.observation.descriptors import is_table_entry
from harness.observation.events import EVENTS_BY_NUMBER, events_of
from harness.observation.layout import Observation, Record
from harness.observation.tables import paired_entries, paired_tables
from harness.program.definition import Op
from harness.program.kunit import Returns, Unsayable, Value
from harness.program.program import Program
from harness.program.results import ResultType, signed
from harness.verdict.verdicts import Verdict

_SEEN_BY_MM_OPS: Final = ("get_page", "put_page", "dcache_clean_inval_poc", "icache_inval_pou")


def is_sayable(op: Op) -> bool:
    """Whether kvm_pgtable.h has a call for it."""
    args = zip(op.definition.args, op.args, strict=True)
    return not isinstance(op.definition.kunit, Unsayable) and None not in (a.kind.c_form(v) for a, v in args)


def call_of(op: Op, forms: Mapping[str, bool], is_hyp: bool) -> str:
    """A sayable operation's call in C, on a tree whose header has these forms."""
    said = op.definition.kunit
    assert not isinstance(said, Unsayable)
    values: dict[str, str] = {}
    for arg, value in zip(op.definition.args, op.args, strict=True):
        form = arg.kind.c_form(value)
        assert form is not None
        values[arg.name] = form.text
        values |= {f"{arg.name}_{part}": text for part, text in form.parts.items()}
    return Template(said.said(forms, is_hyp)).substitute(values)


def op_expected(op: Op, record: Record | None, call: str) -> Iterator[str]:
    """The call, and what it should yield; the call alone where the record says nothing of that."""
    match op.definition.kunit:
        case Value() if record is not None and record.outs:
            yield f"KUNIT_EXPECT_EQ(test, (u64){call}, {record.outs[0]:#x}ull);"
        case Returns() as said if record is not None and record.ret is not None:
            yield f"KUNIT_EXPECT_EQ(test, {call}, {_error(record.ret)});"
            if said.visits is not None:
                yield f"KUNIT_EXPECT_EQ(test, {said.visits}, {_visits(record)});"
            for where, value in _results(said, record):
                yield f"KUNIT_EXPECT_EQ(test, {where}, {value});"
        case _:
            yield f"{call};"


def seen_of(record: Record) -> tuple[object, ...]:
    """What is expected of an operation, as far as the test sees it."""
    match record.definition.kunit:
        case Value():
            return record.outs[:1]
        case Returns() as said:
            return record.ret, _visits(record) if said.visits is not None else 0, *_results(said, record)
        case _:
            return ()


def _visits(record: Record) -> int:
    return len(record.outs) // len(record.definition.results)


def _results(said: Returns, record: Record) -> Iterator[tuple[str, str]]:
    """Where results stand in C, and what they are there."""
    if record.ret != 0:
        return
    for result, value in zip(record.definition.results, record.outs, strict=False):
        if result.name in said.results:
            is_level = result.type is ResultType.LEVEL
            yield said.results[result.name], str(signed(value)) if is_level else f"{value:#x}ull"


def state_expected(program: Program, verdict: Verdict) -> Iterator[str]:
    """What differs in the end, as far as mm_ops and kvm_pgtable_get_leaf() tell, as expectations."""
    left, right, machine = verdict.left, verdict.right, program.machine
    if left is None or right is None:
        return
    yield from _leaves(left, right)
    for what, mine, theirs in (("allocs", left.allocs, right.allocs), ("frees", left.frees, right.frees)):
        if mine != theirs:
            yield f"KUNIT_EXPECT_EQ(test, s2_{what}, {mine});"
    for _, _, page, other in paired_tables(left, right):
        if page.refcount != other.refcount and page.pa == other.pa:
            index = (page.pa - machine["pool_base"]) // machine.granule.page
            yield f"KUNIT_EXPECT_EQ(test, s2_refs[{index}], {page.refcount});"
    mine_seen, theirs_seen = _mm_calls(left), _mm_calls(right)
    for name in _SEEN_BY_MM_OPS:
        if mine_seen[name] != theirs_seen[name]:
            yield f"KUNIT_EXPECT_EQ(test, s2_calls_{name}, {mine_seen[name]});"


def _leaves(left: Observation, right: Observation) -> Iterator[str]:
    """The first entry that is a leaf on either side, and not the same."""
    for ipa, level, mine, theirs in paired_entries(left, right):
        if mine == theirs or (is_table_entry(mine, level) and is_table_entry(theirs, level)):
            continue
        if is_table_entry(mine, level):
            yield f"KUNIT_EXPECT_EQ(test, s2_get_leaf({ipa:#x}ull), 0);"
            yield f"KUNIT_EXPECT_GT(test, (int)s2_leaf_level, {level});"
        else:
            yield f"KUNIT_EXPECT_EQ(test, s2_get_leaf({ipa:#x}ull), 0);"
            yield f"KUNIT_EXPECT_EQ(test, s2_leaf, {mine:#x}ull);"
            yield f"KUNIT_EXPECT_EQ(test, (int)s2_leaf_level, {level});"
        return


def _mm_calls(observation: Observation) -> dict[str, int]:
    counts = dict.fromkeys(_SEEN_BY_MM_OPS, 0)
    for record in observation.records:
        for event in events_of(record.events):
            definition = EVENTS_BY_NUMBER.get(event.kind)
            if definition is not None and definition.name in counts:
                counts[definition.name] += 1
    return counts


def _error(ret: int) -> str:
    if ret >= 0:
        return str(ret)
    return f"-{errno.errorcode[-ret]}" if -ret in errno.errorcode else str(ret)
