"""What an op's events come to: silent about their order, and not about what is missing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import pytest
from executors import Patched
from hypothesis import given
from observations import observe, relabelled, with_events, with_record
from strategies import lively_programs

from harness.findings.report import verdict_report
from harness.model.executor import Model
from harness.observation.events import (
    DCACHE,
    DSB,
    GET,
    ICACHE,
    ISB,
    PUT,
    STORE_PLAIN,
    STORE_RELEASE,
    TLB_CALLS,
    TLBI,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_RANGE,
    Event,
    events_of,
)
from harness.observation.layout import UBSAN, UNDER_TEST, WARN, Complaint, Observation
from harness.observation.tables import paired_tables
from harness.observation.tlbi import BY_NAME
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.compare.differences import differences
from harness.verdict.effects.lacking import _compared, _flushed, compared, invalidates, lacks
from harness.verdict.effects.relations import relations
from harness.verdict.effects.replay import Side
from harness.verdict.judge import Judge
from harness.verdict.tiers import ORDER_EXPECTED, Tier
from harness.verdict.verdicts import Suspicion
from pgtable import pte
from pgtable.entry import EntryWriter
from pgtable.tlb import TlbMaintenance
from pgtable.walker import SKIP_BBM_TLBI, Walk

Unit = tuple[Event, ...]
"""An event, with the instructions of the TLB function that it calls."""
Change = Callable[[list[Unit]], list[Unit]]
EFFECTS = frozenset({Tier.EFFECTS})

SPLIT = "map ipa=0x0 size=2M phys=0x0 prot=rw mc=2\nmap ipa=0x1000 size=4K phys=0x5000 prot=rw mc=1"
MERGE = "map ipa=0x0 size=8K phys=0x0 prot=rw mc=3\nmap ipa=0x0 size=2M phys=0x0 prot=rw"
MAP = "map ipa=0x1000 size=4K phys=0x5000 prot=rwx mc=3"
UNMAP = f"{MAP}\nunmap ipa=0x1000 size=4K"
RELAX = f"{MAP.replace('rwx', 'r')}\nrelax_perms ipa=0x1000 prot=w"
FLUSH = f"{MAP}\nflush ipa=0x0 size=2M"
TLB_FLUSH = f"{MAP}\ntlb_flush_vmid_range ipa=0x0 size=64K"
HYP_MAP = "hyp_map va=0x1000 size=4K phys=0x5000 prot=rw"
HYP_UNMAP = f"{HYP_MAP}\nhyp_unmap va=0x1000 size=4K"


def units(events: Sequence[Event]) -> list[Unit]:
    grouped: list[list[Event]] = []
    for event in events:
        if event.is_in_call:
            grouped[-1].append(event)
        else:
            grouped.append([event])
    return [tuple(group) for group in grouped]


def is_call(unit: Unit) -> bool:
    return unit[0].kind in TLB_CALLS


def kinds(*wanted: int) -> Callable[[Unit], bool]:
    return lambda unit: unit[0].kind in wanted


def without(which: Callable[[Unit], bool]) -> Change:
    return lambda ops: [unit for unit in ops if not which(unit)]


def _positions(ops: list[Unit], which: Callable[[Unit], bool]) -> list[int]:
    return [at for at, unit in enumerate(ops) if which(unit)]


def moved(which: Callable[[Unit], bool], past: Callable[[Unit], bool], *, before: bool) -> Change:
    """The first of these right before the first, or behind the last, of those."""

    def change(ops: list[Unit]) -> list[Unit]:
        unit = ops[_positions(ops, which)[0]]
        rest = [one for one in ops if one is not unit]
        at = _positions(rest, past)[0] if before else _positions(rest, past)[-1] + 1
        return [*rest[:at], unit, *rest[at:]]

    return change


def replaced(which: Callable[[Unit], bool], new: Callable[[Unit], Unit]) -> Change:
    return lambda ops: [new(unit) if which(unit) else unit for unit in ops]


def _tlbi_at(unit: Unit) -> int:
    return next(at for at, event in enumerate(unit) if event.instruction == TLBI)


def no_barrier_before(unit: Unit) -> Unit:
    at = _tlbi_at(unit)
    return tuple(event for number, event in enumerate(unit) if number > at or event.instruction != DSB)


def no_barrier_behind(unit: Unit) -> Unit:
    at = _tlbi_at(unit)
    return tuple(event for number, event in enumerate(unit) if number < at or event.instruction != DSB)


def with_tlbi(change: Callable[[Event], Event]) -> Callable[[Unit], Unit]:
    """With another stage-2 invalidation in the call."""
    return lambda unit: tuple(change(event) if number == _tlbi_at(unit) else event for number, event in enumerate(unit))


def halved(unit: Unit) -> Unit:
    (event,) = unit
    half = event.b // 2
    return event._replace(b=half), event._replace(a=event.a + half, b=half)


def everything(unit: Unit) -> Unit:
    """A call that invalidates all of the VMID."""
    call = units(events_of(observe(MERGE, tlb_range="off").records[2].events))
    return next(one for one in call if one[0].kind == TLBI_VMID)


_TTL_LEVEL = 1 << 44
ANOTHER_LEVEL = with_tlbi(lambda event: event._replace(b=event.b ^ _TTL_LEVEL))
LAST_LEVEL_ONLY = with_tlbi(lambda event: event._replace(a=BY_NAME["ipas2le1is"].number))
THIS_CPU = with_tlbi(lambda event: event._replace(a=BY_NAME["ipas2e1"].number))
stores, releases, gets = kinds(STORE_PLAIN, STORE_RELEASE), kinds(STORE_RELEASE), kinds(GET)


@dataclass(frozen=True)
class Case:
    """A change to the events of a program's last op, and the bucket of what it lacks; None if nothing. `both`: it is a
    finding whichever side it is on."""

    name: str
    text: str
    change: Change
    bucket: str | None
    both: bool = True
    knobs: tuple[tuple[str, str], ...] = ()


NO_FWB = (("fwb", "off"),)
HYP = (("stage", "1"),)
CASES = (
    Case("no tlbi", SPLIT, without(is_call), "effects-map-no_invalidation_before_make-level2"),
    Case("tlbi last", SPLIT, moved(is_call, releases, before=False), "effects-map-no_invalidation_before_make-level2"),
    Case("tlbi first", SPLIT, moved(is_call, stores, before=True), "effects-map-invalidated_too_early-level2"),
    Case("no dsb", SPLIT, replaced(is_call, no_barrier_before), "effects-map-no_barrier_before_invalidation-level2"),
    Case("not waited", SPLIT, replaced(is_call, no_barrier_behind), "effects-map-invalidation_not_waited_for-level2"),
    Case("level", SPLIT, replaced(is_call, ANOTHER_LEVEL), "effects-map-invalidated_at_another_level-level2"),
    Case("cpu", SPLIT, replaced(is_call, THIS_CPU), "effects-map-invalidated_on_this_CPU_alone-level2"),
    Case("last level", SPLIT, replaced(is_call, LAST_LEVEL_ONLY), None),
    Case("all of it", SPLIT, replaced(is_call, everything), None),
    Case("count", SPLIT, moved(kinds(PUT), is_call, before=True), None),
    Case(
        "plain",
        MAP,
        replaced(releases, lambda unit: (unit[0]._replace(kind=STORE_PLAIN),)),
        "effects-map-table_not_visible_before_make-level1",
    ),
    Case("dsb at end", SPLIT, without(kinds(DSB)), "effects-map-no_barrier_at_end", both=False),
    Case(
        "direct",
        SPLIT,
        lambda ops: [u for u in ops if not (stores(u) and u[0].b == pte.LOCKED)],
        ("effects-map-not_broken_before_make-level2"),
    ),
    Case("merge", MERGE, without(is_call), "effects-map-no_invalidation_before_make-level2"),
    Case(
        "merge late",
        MERGE,
        moved(is_call, kinds(PUT), before=False),
        ("effects-map-no_invalidation_before_make-level2"),
    ),
    Case("clean", MAP, without(kinds(DCACHE)), "effects-map-not_cleaned_before_make-level3", knobs=NO_FWB),
    Case(
        "clean last",
        MAP,
        moved(kinds(DCACHE), releases, before=False),
        ("effects-map-not_cleaned_before_make-level3"),
        knobs=NO_FWB,
    ),
    Case("clean halves", MAP, replaced(kinds(DCACHE), halved), None, knobs=NO_FWB),
    Case("clean first", MAP, moved(kinds(DCACHE), stores, before=True), None, knobs=NO_FWB),
    Case("icache", MAP, without(kinds(ICACHE)), ("effects-map-instruction_cache_not_invalidated_before_make-level3")),
    Case("unmap", UNMAP, without(is_call), "effects-unmap-no_invalidation_before_free-level1"),
    Case("unmap clean", UNMAP, without(kinds(DCACHE)), "effects-unmap-not_cleaned-level3", both=False, knobs=NO_FWB),
    Case(
        "unmap clean first",
        UNMAP,
        moved(kinds(DCACHE), is_call, before=True),
        ("effects-unmap-cleaned_before_invalidation-level3"),
        both=False,
        knobs=NO_FWB,
    ),
    Case(
        "unmap free",
        UNMAP,
        moved(is_call, kinds(PUT), before=False),
        ("effects-unmap-no_invalidation_before_free-level2"),
    ),
    Case("relax", RELAX, without(is_call), "effects-relax_perms-no_invalidation-level3", both=False),
    Case("flush", FLUSH, without(kinds(DCACHE)), "effects-flush-less_cleaned", both=False, knobs=NO_FWB),
    Case("flush halves", FLUSH, replaced(kinds(DCACHE), halved), None, knobs=NO_FWB),
    Case("tlb", TLB_FLUSH, without(is_call), "effects-tlb_flush_vmid_range-less_invalidated", both=False),
    Case(
        "get",
        MAP,
        lambda ops: [u for n, u in enumerate(ops) if n != _positions(ops, gets)[-1]],
        ("effects-map-references-level3"),
    ),
    Case("hyp isb", HYP_MAP, without(kinds(ISB)), "effects-hyp_map-no_isb_at_end", both=False, knobs=HYP),
    Case(
        "hyp tlbi", HYP_UNMAP, without(kinds(TLBI)), "effects-hyp_unmap-no_invalidation_before_free-level0", knobs=HYP
    ),
)


def last_changed(seen: Observation, change: Change) -> Observation:
    index = len(seen.records) - 1
    before = units(events_of(seen.records[index].events))
    after = change(before)
    assert after != before
    return with_events(seen, index, chain.from_iterable(after))


def buckets(left: Observation, right: Observation) -> list[str]:
    return [one.bucket for one in differences(left, right, EFFECTS)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_lacking_and_nothing_else(case: Case) -> None:
    seen = observe(case.text, **dict(case.knobs))
    changed = last_changed(seen, case.change)
    assert buckets(seen, changed)[:1] == ([] if case.bucket is None else [case.bucket])
    assert buckets(changed, seen)[:1] == ([case.bucket] if case.bucket is not None and case.both else [])
    if case.bucket is not None and not case.both:
        notes = compared(changed, seen, len(seen.records) - 1)
        assert notes and all(note.is_note for note in notes)


def test_functions_of_which_only_the_calls_are_told_do_what_they_are_for() -> None:
    """As with the flavour `calls`."""
    for case in CASES:
        seen = observe(case.text, **dict(case.knobs))
        index = len(seen.records) - 1
        whole = units(events_of(seen.records[index].events))
        calls = with_events(seen, index, (unit[0] for unit in whole))
        assert buckets(calls, calls) == []
        if not invalidates(seen.records[index].definition):
            assert buckets(seen, calls) == buckets(calls, seen) == [], case.name
    by_ipa = units(events_of(observe(SPLIT).records[2].events))
    assert any(unit[0].kind == TLBI_VMID_IPA for unit in by_ipa)
    no_calls = with_events(observe(SPLIT), 2, (unit[0] for unit in by_ipa if not is_call(unit)))
    assert buckets(observe(SPLIT), no_calls)[0] == "effects-map-no_invalidation_before_make-level2"
    deferred = observe(f"{MAP.replace('4K', '16K')}\nunmap ipa=0x1000 size=8K")
    told = units(events_of(deferred.records[2].events))
    short = [event._replace(b=0) if event.kind == TLBI_VMID_RANGE else event for event, *_ in told]
    assert buckets(deferred, with_events(deferred, 2, short)) == ["effects-unmap-no_invalidation-level3"] * 2


def test_where_all_is_invalidated_a_range_is() -> None:
    ranged = observe(TLB_FLUSH)
    whole = last_changed(ranged, replaced(is_call, everything))
    assert buckets(ranged, whole) == []
    assert buckets(whole, ranged) == ["effects-tlb_flush_vmid_range-less_invalidated"]


def test_where_pages_lie_does_not_matter() -> None:
    for text in (SPLIT, MAP, RELAX):
        seen = observe(text)
        assert seen.root is not None
        low, *_, high = sorted(seen.pages)[seen.root.pages :]
        assert buckets(seen, relabelled(seen, {low: high, high: low})) == []


def test_complaints_of_one_side_alone() -> None:
    seen = observe(MAP)
    warned = with_record(seen, 1, complaints=(Complaint(WARN, 1, 0),))
    assert buckets(seen, warned) == buckets(warned, seen) == ["effects-map-WARN"]
    elsewhere = with_record(seen, 1, complaints=(Complaint(WARN, 2, 0), Complaint(WARN, 1, 0)))
    assert buckets(warned, elsewhere) == []
    shifted = with_record(seen, 1, complaints=(Complaint(UBSAN, 6, 0),))
    assert buckets(seen, shifted) == ["effects-map-shift-out-of-bounds"]


def test_more_is_a_note() -> None:
    seen = observe(SPLIT)
    more = last_changed(seen, lambda ops: [one for unit in ops for one in ((unit, unit) if is_call(unit) else (unit,))])
    assert buckets(seen, more) == []
    notes = compared(seen, more, 2)
    assert notes is not None
    assert [(note.what, note.is_note) for note in notes] == [("more invalidations", True)]
    assert compared(more, seen, 2) == []


def test_an_op_that_was_not_finished_is_not_compared() -> None:
    seen = observe(SPLIT)
    cut = with_record(last_changed(seen, without(is_call)), 2, ret=None)
    assert lacks(seen, cut) == []
    assert compared(seen, cut, 2) is None


@given(lively_programs)
def test_the_replay_comes_to_the_tables_that_are_there(program: Program) -> None:
    seen = Model().observe(program)
    if seen.records[-1].ret is None:
        return
    side, linked = Side(seen.machine), replace(seen, roots=tuple(seen.held(UNDER_TEST).values()))
    for record in seen.records:
        side.run(record)
    assert {place[1:]: count for place, count in side.held().items()} == {
        (ipa, level): page.refcount for ipa, level, page, _ in paired_tables(linked, linked)
    }
    assert side.loose()[0] == len(seen.pages) - len(side.held()) - len(seen.memcache) - len(seen.split_cache)


@given(lively_programs)
def test_what_does_the_same_lacks_nothing(program: Program) -> None:
    seen = Model().observe(program)
    sides = Side(seen.machine), Side(seen.machine)
    for index, record in enumerate(seen.records):
        mine, theirs = (side.run(record) for side in sides)
        assert list(_compared(index, relations(mine), relations(theirs))) == []
        assert list(_flushed(index, record, mine, theirs)) == []
    assert sides[0].held() == sides[1].held()


# The judge, and its report


def try_break_counting_first(self: EntryWriter, walk: Walk) -> bool:
    """As `try_break`, with the reference given up before the invalidation."""
    return _try_break(self, walk, counts_first=True)


def try_break_forgetting_tables(self: EntryWriter, walk: Walk) -> bool:
    """The same, which invalidates leaves only."""
    return _try_break(self, walk, counts_first=True, forgets_tables=True)


def _try_break(self: EntryWriter, walk: Walk, counts_first: bool, forgets_tables: bool = False) -> bool:
    old = walk.old
    if old and pte.is_locked(old):
        return False
    if not self.try_set(walk, pte.LOCKED):
        return False
    if counts_first and old:
        self._mm_ops.put_page(walk.pa)
    if not walk.flags & SKIP_BBM_TLBI:
        if pte.is_table(old, walk.level):
            if not forgets_tables:
                self.tlbi_range(walk.addr & -walk.size, walk.size)
        elif pte.is_valid(old):
            self._hooks.tlbi_vmid_ipa(walk.addr, walk.level)
    return True


PROGRAM = parse(f"""
s2 1
{SPLIT}
map ipa=0x200000 size=8K phys=0x0 prot=rw mc=2
map ipa=0x200000 size=2M phys=0x200000 prot=rw
get_leaf ipa=0x0
""")


def test_the_judge_is_silent_about_the_order() -> None:
    right = Patched(EntryWriter, "try_break", try_break_counting_first)
    judge = Judge(Model(), right, ORDER_EXPECTED)
    assert not judge.agree(PROGRAM)
    assert judge.check(PROGRAM) is None
    assert judge.verdict(PROGRAM) is None
    default = Judge(Model(), right).verdict(PROGRAM)
    assert default is not None and default.record == 2
    report = verdict_report(PROGRAM, default, ("left", "right"))
    assert "Effects of that op: the same; only order or number of its events differ" in report


@pytest.mark.parametrize("is_left", [False, True])
def test_the_judge_finds_what_the_order_hides(is_left: bool) -> None:
    sides = (Model(), Patched(EntryWriter, "try_break", try_break_forgetting_tables))
    judge = Judge(*reversed(sides) if is_left else sides, ORDER_EXPECTED)  # type: ignore[arg-type]
    suspicion = judge.suspect(PROGRAM)
    assert isinstance(suspicion, Suspicion)
    assert (suspicion.sighting.record, len((suspicion.sighting.left or observe("")).records)) == (4, 5)
    verdict = judge.check(PROGRAM)
    assert verdict is not None
    assert (verdict.record, verdict.bucket) == (4, "effects-map-no_invalidation_before_make-level2")
    assert judge.quick(PROGRAM.prefix(4), "divergence") == judge.verdict(PROGRAM.prefix(4))
    lines = verdict_report(PROGRAM, verdict, ("left", "right")).splitlines()
    at = lines.index("Effects of that op that differ (#: number of the event in the op):")
    assert lines[at + 1] == "  no invalidation before make, level 2"
    right, wrong = (2, 3) if not is_left else (3, 2)
    assert lines[at + right].split(maxsplit=1)[1] == "0x200000: gone #0, invalidated #1, made #5"
    assert lines[at + wrong].split(maxsplit=1)[1] == "0x200000: gone #0, not invalidated, made #4"


def leave_nothing(self: TlbMaintenance) -> Iterator[object]:
    yield from ()


def test_tlb_functions_are_judged_as_well() -> None:
    """Although nothing agrees: the right side's instructions are others, and what they invalidate is the same."""
    judge = Judge(Model(), Patched(TlbMaintenance, "_leave", leave_nothing), ORDER_EXPECTED)
    verdict = judge.check(PROGRAM)
    assert verdict is not None
    assert (verdict.record, verdict.bucket) == (2, "invalidation-map-tlbi_vmid_ipa-context-left")
    assert judge.quick(PROGRAM, "invalidation") == judge.verdict(PROGRAM)
