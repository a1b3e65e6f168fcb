"""What a TLB may still hold: silent about Linux as it is, and not about an invalidation that is missing, too narrow or
in the wrong place. Only events are looked at, of one side, without any access."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from observations import with_events
from seeds import SEEDS, runnable
from strategies import lively_programs
from thinning import every

from harness.model.executor import Model
from harness.observation.events import (
    DSB,
    DSB_DOMAINS,
    IN_CALL,
    ISB,
    MSR,
    STORE_KINDS,
    STORE_PLAIN,
    SYSREGS,
    TLB_CALLS,
    TLBI,
    Event,
    events_of,
)
from harness.observation.layout import Observation, Witness
from harness.observation.tlbi import BY_NAME
from harness.program.program import Program
from harness.program.text import parse, read
from harness.verdict.tlb.judge import allowed_outcomes, stale_problems
from harness.verdict.tlb.outcomes import Allowed
from harness.verdict.tlb.rules import Access, Rules, allows, is_harmless, may_be_cached, needs_break

Change = Callable[[list[Event]], Sequence[Event]]

MAP = "map ipa=0x1000 size=4K phys=0x42001000 prot=rwx mc=3"
TWO = "map ipa=0x1000 size=8K phys=0x42001000 prot=rwx mc=3"
UNMAP = f"{TWO}\nunmap ipa=0x1000 size=4K"
LAST = f"{MAP}\nunmap ipa=0x1000 size=4K"
DEFERRED = f"{TWO}\nmap ipa=0x8000 size=4K phys=0x42000000 prot=rwx\nunmap ipa=0x1000 size=8K"
REMAP = f"{MAP}\nmap ipa=0x1000 size=4K phys=0x42003000 prot=rwx"
SPLIT = "map ipa=0x0 size=2M phys=0x42000000 prot=rwx mc=2\nmap ipa=0x1000 size=4K phys=0x42003000 prot=rwx mc=1"
MERGE = "map ipa=0x0 size=8K phys=0x42000000 prot=rwx mc=3\nmap ipa=0x0 size=2M phys=0x42000000 prot=rwx"
HYP = "hyp_map va=0x1000 size=4K phys=0x5000 prot=rw\nhyp_unmap va=0x1000 size=4K"


def programmed(text: str, **knobs: int | str) -> Program:
    header = "".join(f"{name} = {value}\n" for name, value in knobs.items())
    return parse(f"s2 1\n{header}{text}")


def with_last(program: Program, change: Change) -> Observation:
    """What the model observes, but for the last op's events."""
    seen = Model().observe(program)
    last = len(seen.records) - 1
    before = events_of(seen.records[last].events)
    after = change(list(before))
    assert list(after) != before, "the change must apply"
    return with_events(seen, last, after)


def buckets(program: Program, observation: Observation) -> list[str]:
    return [one.bucket for one in stale_problems(program, observation)]


# Silence


QUICK = [one for one in runnable() if "whole_block" not in str(one.id)]


@pytest.mark.parametrize(("path", "version"), every(3, QUICK))
def test_linux_as_it_is_keeps_the_rules(path: Path, version: str) -> None:
    program = read(path)
    assert stale_problems(program, Model(version).observe(program)) == []


@given(lively_programs)
def test_so_it_does_in_whatever_program(program: Program) -> None:
    for model in (Model(), Model(calls_only=True)):
        assert stale_problems(program, model.observe(program)) == []


# Ways to be wrong


def is_tlbi(event: Event, name: str = "") -> bool:
    return event.instruction == TLBI and (not name or event.a == BY_NAME[name].number)


def without_calls(events: list[Event]) -> list[Event]:
    return [one for one in events if not one.is_in_call and one.kind not in TLB_CALLS]


def without(kind: int, nth: int = 0) -> Change:
    """One event of the kind left out, the `nth` in a call."""

    def change(events: list[Event]) -> list[Event]:
        found = [at for at, one in enumerate(events) if one.kind == kind | IN_CALL]
        return [one for at, one in enumerate(events) if at != found[nth]]

    return change


def without_tlbi(name: str) -> Change:
    return lambda events: [one for one in events if not is_tlbi(one, name)]


def renamed(**names: str) -> Change:
    """Other operations, with the same operands."""
    numbers = {BY_NAME[old].number: BY_NAME[new].number for old, new in names.items()}
    return lambda events: [one._replace(a=numbers.get(one.a, one.a)) if is_tlbi(one) else one for one in events]


def operand(change: Callable[[int], int]) -> Change:
    """Operations by IPA or VA get another operand."""
    return lambda events: [one._replace(b=change(one.b)) if is_tlbi(one) and one.b else one for one in events]


def barriers(old: str, new: str) -> Change:
    numbers = {DSB_DOMAINS[old]: DSB_DOMAINS[new]}
    return lambda events: [
        one._replace(a=numbers.get(one.a, one.a)) if one.instruction == DSB else one for one in events
    ]


def written(register: str, change: Callable[[int], int]) -> Change:
    number = SYSREGS[register]
    return lambda events: [
        one._replace(b=change(one.b)) if (one.instruction, one.a) == (MSR, number) else one for one in events
    ]


def store_last(events: list[Event]) -> list[Event]:
    """The store that breaks comes behind the invalidation that is for it."""
    at = next(at for at, one in enumerate(events) if one.kind in STORE_KINDS)
    last = max(at for at, one in enumerate(events) if one.is_in_call)
    return [*events[:at], *events[at + 1 : last + 1], events[at], *events[last + 1 :]]


def stage_1_first(events: list[Event]) -> list[Event]:
    """Both invalidations change places."""
    tlbis = [at for at, one in enumerate(events) if is_tlbi(one)]
    events[tlbis[0]], events[tlbis[1]] = events[tlbis[1]], events[tlbis[0]]
    return events


def without_break(events: list[Event]) -> list[Event]:
    """The new entry comes over the old one."""
    return [one for one in without_calls(events) if one.kind != STORE_PLAIN]


def kept_in_tree(events: list[Event]) -> list[Event]:
    """The table is freed as it hangs."""
    last = max(at for at, one in enumerate(events) if one.kind == STORE_PLAIN)
    return [one for at, one in enumerate(events) if at != last]


def on_this_cpu(events: list[Event]) -> list[Event]:
    return list(renamed(ipas2e1is="ipas2e1", vmalle1is="vmalle1", vmalls12e1is="vmalls12e1")(events))


def without_barriers(events: list[Event]) -> list[Event]:
    return [one for one in events if one.instruction != DSB]


LEVEL_1 = 0b0101 << 44
TTL = 0b1111 << 44
WAYS: Mapping[str, tuple[str, Mapping[str, int | str], Change, str]] = {
    "a leaf's invalidation dropped": (UNMAP, {}, without_calls, "left-not-invalidated-level3"),
    "break without invalidation": (REMAP, {}, without_calls, "bbm-not-invalidated-level3"),
    "a block's before a table": (SPLIT, {}, without_calls, "bbm-not-invalidated-level2"),
    "a table's before a block": (MERGE, {}, without_calls, "bbm-not-invalidated-level2"),
    "no break at all": (REMAP, {}, without_break, "bbm-direct-level3"),
    "a table's before it is freed": (LAST, {"fwb": "off"}, without_calls, "freed-not-invalidated-level2"),
    "a table freed in the tree": (LAST, {"fwb": "off"}, kept_in_tree, "freed-reachable-level1"),
    "a hint of another level": (REMAP, {}, operand(lambda value: value & ~TTL | LEVEL_1), "bbm-other-level-level3"),
    "a hint for a table": (
        LAST,
        {"fwb": "off"},
        operand(lambda value: value & ~TTL | 0b0110 << 44),
        "freed-other-level-level2",
    ),
    "the last level only for a table": (
        LAST,
        {"fwb": "off"},
        renamed(ipas2e1is="ipas2le1is"),
        "freed-last-level-only-level2",
    ),
    "another address": (REMAP, {}, operand(lambda value: value + 1), "bbm-not-invalidated-level3"),
    "no barrier before": (REMAP, {}, without(DSB), "bbm-no-barrier-before-level3"),
    "no barrier behind": (REMAP, {}, without(DSB, -1), "bbm-not-waited-for-level3"),
    "a barrier for stores behind": (REMAP, {}, barriers("ish", "ishst"), "bbm-not-waited-for-level3"),
    "barriers of a smaller domain": (REMAP, {}, barriers("ish", "nsh"), "bbm-no-barrier-before-level3"),
    "this CPU alone": (
        UNMAP,
        {"tlb_range": "off"},
        renamed(ipas2e1is="ipas2e1", vmalle1is="vmalle1"),
        "left-this-cpu-alone-level3",
    ),
    "a VMID on this CPU alone": (
        MERGE,
        {"tlb_range": "off"},
        renamed(vmalls12e1is="vmalls12e1"),
        "bbm-this-cpu-alone-level2",
    ),
    "stage 2 alone": (REMAP, {}, without_tlbi("vmalle1is"), "bbm-combined-left-level3"),
    "stage 2 alone on other CPUs": (REMAP, {}, renamed(vmalle1is="vmalle1"), "bbm-combined-left-level3"),
    "stage 1 alone": (REMAP, {}, without_tlbi("ipas2e1is"), "bbm-not-invalidated-level3"),
    "stage 1 first": (REMAP, {}, stage_1_first, "bbm-combined-left-level3"),
    "stage 1 with stage 2": (REMAP, {}, without(DSB, 1), "bbm-combined-left-level3"),
    "another VMID": (REMAP, {}, written("vttbr_el2", lambda value: value ^ 1 << 49), "bbm-other-context-level3"),
    "no switch of VMID": (
        REMAP,
        {},
        lambda events: [one for one in events if one.instruction != MSR],
        "bbm-other-context-level3",
    ),
    "a context not synchronised": (REMAP, {}, without(ISB), "bbm-other-context-level3"),
    "TGE left set": (
        REMAP,
        {"kvm_mode": "vhe"},
        written("hcr_el2", lambda value: value | 1 << 27),
        "bbm-other-context-level3",
    ),
    "too early": (UNMAP, {"fwb": "off"}, store_last, "left-too-early-level3"),
    "break behind its invalidation": (REMAP, {}, store_last, "bbm-too-early-level3"),
    "hyp's leaf": (HYP.replace("4K", "8K", 1), {"stage": 1}, without_tlbi("vale2is"), "left-not-invalidated-level3"),
    "hyp's table": (HYP, {"stage": 1}, renamed(vae2is="vale2is"), "freed-last-level-only-level2"),
    "hyp's hint": (HYP, {"stage": 1}, operand(lambda value: value & ~TTL | LEVEL_1), "left-other-level-level3"),
    "hyp's barrier": (HYP, {"stage": 1}, without_barriers, "freed-no-barrier-before-level2"),
}


@pytest.mark.parametrize("way", WAYS)
def test_each_way_to_be_wrong_is_told(way: str) -> None:
    text, knobs, change, bucket = WAYS[way]
    program = programmed(text, **knobs)
    assert bucket in buckets(program, with_last(program, change))


def test_a_barrier_for_loads_or_stores_alone_completes_nothing() -> None:
    program = programmed(REMAP)
    for domain in ("ishld", "ishst"):
        assert buckets(program, with_last(program, barriers("ish", domain))) != []


def test_what_is_wrong_is_said_with_its_rule_and_once() -> None:
    program = programmed(UNMAP)
    (one,) = stale_problems(program, with_last(program, without_calls))
    assert (one.record, one.what, one.level) == (2, "left-not-invalidated", 3)
    assert "level 3 for 0x1000" in one.text
    assert one.rule is Rules.INVALIDATED.value
    assert all(rule.value.section.startswith("Arm ARM ") for rule in Rules)


def test_of_many_entries_one_is_named() -> None:
    program = programmed(DEFERRED)
    (one,) = stale_problems(program, with_last(program, without_calls))
    assert "level 3 for 0x1000 " in one.text
    assert "so may 1 more" in one.text


def test_a_range_may_miss_its_last_page() -> None:
    program = programmed(DEFERRED)
    seen = with_last(program, renamed_to_a_page)
    (one,) = stale_problems(program, seen)
    assert (one.bucket, "0x2000" in one.text) == ("left-not-invalidated-level3", True)


def renamed_to_a_page(events: list[Event]) -> list[Event]:
    """The range becomes its first page."""
    return [one._replace(a=BY_NAME["ipas2e1is"].number, b=1) if is_tlbi(one, "ripas2e1is") else one for one in events]


def test_an_op_that_was_cut_is_not_judged_for_what_it_leaves() -> None:
    program = programmed(UNMAP)
    seen = with_last(program, without_calls)
    records = (*seen.records[:-1], replace(seen.records[-1], ret=None))
    assert buckets(program, replace(seen, records=records)) == []


def test_functions_whose_instructions_are_not_told_do_what_they_are_for() -> None:
    program = programmed(UNMAP)
    seen = Model(calls_only=True).observe(program)
    assert not any(one.is_in_call for record in seen.records for one in events_of(record.events))
    assert buckets(program, seen) == []
    last = len(seen.records) - 1
    silent = with_events(seen, last, without_calls(events_of(seen.records[last].events)))
    assert buckets(program, silent) == ["left-not-invalidated-level3"]


# What is left to callers


def last_allowed(text: str, **knobs: int | str) -> Allowed:
    """What the last access of a guest's program may see; nothing may be wrong with the program."""
    program = programmed(text, guest="on", **knobs)
    seen = Model().observe(program)
    assert stale_problems(program, seen) == []
    return allowed_outcomes(program, seen)[-1]


FLUSH = "tlb_flush_vmid_range ipa=0x1000 size=4K"


def test_after_wrprotect_a_write_may_succeed_until_the_caller_invalidates() -> None:
    write = "write ipa=0x1000 value=0x7"
    allowed = last_allowed(f"{MAP}\nwrprotect ipa=0x1000 size=4K\n{write}")
    assert [one.esr for one in allowed.outcomes] == [0x9000004F, 0]
    assert str(allowed) == "may-be-stale: 0x42001000"
    assert "caller's responsibility" in allowed.reasons[0]
    assert last_allowed(f"{MAP}\nwrprotect ipa=0x1000 size=4K\n{FLUSH}\n{write}").is_fresh_only


def test_an_old_page_may_be_read_until_the_caller_invalidates() -> None:
    aged = f"{MAP}\ntest_clear_young ipa=0x1000 size=4K mkold=on"
    allowed = last_allowed(f"{aged}\nread ipa=0x1000")
    assert not allowed.is_fresh_only
    assert allowed.admits(0, 0x42001800)
    assert not allowed.admits(0, 0x42002800)
    assert last_allowed(f"{aged}\ntlb_flush_vmid\nread ipa=0x1000").is_fresh_only


def test_what_is_made_young_again_is_what_was_cached() -> None:
    aged = f"{MAP}\ntest_clear_young ipa=0x1000 size=4K mkold=on\nmkyoung ipa=0x1000"
    assert last_allowed(f"{aged}\nread ipa=0x1000").is_fresh_only


@pytest.mark.parametrize(("pte", "is_cached"), [(0x7D9, True), (0x3D9, False), (0x7D8, False)])
def test_only_what_is_valid_and_young_is_cached(pte: int, is_cached: bool) -> None:
    planted = f"{MAP}\nplant ipa=0x600000 level=2 pte={pte:#x}\nplant ipa=0x600000 level=2 pte=0x0"
    assert last_allowed(f"{planted}\nread ipa=0x600000").is_fresh_only is not is_cached


def test_type_01_is_no_page() -> None:
    planted = f"{MAP}\nplant ipa=0x2000 level=3 pte=0x7d9\nplant ipa=0x2000 level=3 pte=0x0"
    assert last_allowed(f"{planted}\nread ipa=0x2000").is_fresh_only


def test_what_the_program_takes_is_its_own_affair() -> None:
    allowed = last_allowed(f"{MAP}\nplant ipa=0x1000 level=3 pte=0x0\nexec ipa=0x1000")
    assert allowed.admits(0, 0x42001000)
    assert "the program itself" in allowed.reasons[0]


def test_a_table_that_the_program_takes_may_be_walked_on() -> None:
    allowed = last_allowed(f"{MAP}\nplant ipa=0x0 level=2 pte=0x0\nread ipa=0x1000")
    assert allowed.is_anything
    assert str(allowed).startswith("may-be-stale: anything")
    other = last_allowed(f"{MAP}\nplant ipa=0x0 level=2 pte=0x0\nread ipa=0x200000")
    assert other.is_fresh_only


def test_after_destroy_nobody_may_use_the_vmid_before_it_is_invalidated() -> None:
    again = f"{MAP}\ndestroy\ninit\n"
    allowed = last_allowed(f"{again}read ipa=0x1000")
    assert allowed.is_anything
    assert "unreachable by any hardware walkers" in allowed.reasons[0]
    assert last_allowed(f"{again}tlb_flush_vmid\nread ipa=0x1000").is_fresh_only
    assert last_allowed(f"{again}{FLUSH}\nread ipa=0x1000").is_anything


def test_a_probe_of_what_may_be_cached_is_told_too() -> None:
    assert not last_allowed(f"{MAP}\nwrprotect ipa=0x1000 size=4K\nprobe ipa=0x1000").is_fresh_only
    assert last_allowed(f"{MAP}\nprobe ipa=0x1000").is_fresh_only


def test_the_guests_own_page_may_be_stale() -> None:
    gone = "plant ipa=0x42200000 level=3 pte=0x0\n"
    assert last_allowed(f"{MAP}\n{gone}read ipa=0x1000").is_anything
    assert last_allowed(f"{MAP}\n{gone}tlb_flush_vmid\nread ipa=0x1000").is_fresh_only
    forbidden = f"{MAP}\nplant ipa=0x42200000 level=3 pte={1 << 54 | 0x4220075B:#x}\n"
    back = f"tlb_flush_vmid\nplant ipa=0x42200000 level=3 pte={0x4220075B:#x}\nread ipa=0x1000"
    allowed = last_allowed(forbidden + back)
    assert [one.esr for one in allowed.outcomes] == [0, 0x8000000F]


def test_what_was_written_is_what_a_stale_read_may_see() -> None:
    write = "write ipa=0x1000 value=0x77"
    allowed = last_allowed(f"{MAP}\n{write}\nplant ipa=0x1000 level=3 pte=0x0\nread ipa=0x1000")
    assert allowed.admits(0, 0x77)
    assert not allowed.admits(0, 0x42001800)


def test_the_seed_program_tells_which_accesses_may_be_stale() -> None:
    program = read(next(path for path in SEEDS if path.stem == "stale_accesses"))
    allowed = {one.record: str(one) for one in allowed_outcomes(program, Model().observe(program))}
    stale = {4: "may-be-stale: 0x42001000", 8: "may-be-stale: 0x42002800", 12: "may-be-stale: 0x5"}
    assert allowed == {record: stale.get(record, "fresh-only") for record in (2, 4, 6, 8, 10, 12, 14)}


def test_skipped_invalidations_are_the_callers() -> None:
    remapped = f"{MAP}\nmap ipa=0x1000 size=4K phys=0x42003000 prot=rwx flags=skip_bbm_tlbi"
    assert last_allowed(f"{remapped}\nread ipa=0x1000").admits(0, 0x42001800)


def test_part_of_a_page_is_the_callers() -> None:
    program = programmed(f"{DEFERRED[: DEFERRED.rindex('8K')]}6K")
    assert buckets(program, Model().observe(program)) == []
    (one,) = stale_problems(program, with_last(program, without_calls))
    assert one.bucket == "left-not-invalidated-level3"
    assert "0x1000" in one.text
    assert "more" not in one.text


def test_who_has_no_right_to_call_is_not_judged() -> None:
    program = programmed(UNMAP, vcpu="foreign")
    assert buckets(program, Model().observe(program)) == []
    wrong = programmed(UNMAP, vcpu="own")
    assert buckets(wrong, with_last(wrong, without_calls)) != []


def test_relaxed_permissions_need_no_invalidation() -> None:
    relaxed = programmed(
        f"{MAP.replace('rwx', 'r')}\nrelax_perms ipa=0x1000 prot=w\nwrite ipa=0x1000 value=0x1", guest="on"
    )
    seen = Model().observe(relaxed)
    quiet = with_events(seen, 2, without_calls(events_of(seen.records[2].events)))
    assert buckets(relaxed, quiet) == []
    assert allowed_outcomes(relaxed, seen)[-1].is_fresh_only
    (allowed,) = allowed_outcomes(relaxed, quiet)
    assert [one.esr for one in allowed.outcomes] == [0, 0x9000004F]


def test_a_witness_must_be_among_the_allowed() -> None:
    program = programmed(f"{MAP}\nplant ipa=0x1000 level=3 pte=0x0\nread ipa=0x1000", guest="on")
    seen = Model().observe(program)
    assert buckets(program, replace(seen, witnesses=(Witness(3, 0, 0x42001800),))) == []
    assert buckets(program, replace(seen, witnesses=(Witness(3, 0, 0x42002800),))) == ["witness-not-allowed"]
    assert buckets(program, replace(seen, witnesses=(Witness(3, 0x9000000F, 0),))) == ["witness-not-allowed"]


def test_a_race_comes_before_the_exchange() -> None:
    """Somebody else writes what is there already, so that the exchange goes on."""
    program = programmed(f"race nth=1 pte=0x0\n{MAP} flags=shared\nunmap ipa=0x1000 size=4K")
    assert buckets(program, Model().observe(program)) == []
    assert buckets(program, with_last(program, without_calls)) != []


def test_pages_that_map_tables_make_no_circle() -> None:
    """A page looks like a table where its level is not known."""
    making = "create_unlinked phys=0x0 level=1 prot=rwx mc=4 force_pte=on"
    program = programmed(f"{making}\nmap ipa=0x1000 size=4K phys=0x1000 prot=rwx mc=3", pool_base=0x3FF000)
    assert buckets(program, Model().observe(program)) == []


# The rules themselves

PAGE = 0x4200_17DB
"""Of memory, writable, from Linux."""


def test_what_needs_a_break() -> None:
    for changed in (1 << 6, 1 << 7, 1 << 10, 1 << 51, 1 << 53, 1 << 54, 1 << 55, 1 << 63):
        assert not needs_break(PAGE, PAGE ^ changed), hex(changed)
    for changed in (1 << 1, 1 << 2, 1 << 5, 1 << 8, 1 << 9, 1 << 12, 1 << 47):
        assert needs_break(PAGE, PAGE ^ changed), hex(changed)


def test_what_harms_nobody() -> None:
    read_only = PAGE & ~(1 << 7)
    assert is_harmless(read_only, PAGE, False)
    assert not is_harmless(PAGE, read_only, False)
    assert not is_harmless(PAGE, PAGE & ~(1 << 10), False)
    assert not is_harmless(PAGE, PAGE ^ 1 << 12, False)
    assert is_harmless(PAGE | 1 << 7, PAGE & ~(1 << 7), True)  # AP[2] takes writing away
    assert not is_harmless(PAGE & ~(1 << 54), PAGE | 1 << 54, True)


@pytest.mark.parametrize(("xn", "execute"), [(0, 12), (1, 8), (2, 0), (3, 4)])
def test_what_a_leaf_allows(xn: int, execute: int) -> None:
    assert allows(PAGE & ~(0b11 << 53) | xn << 53, False) == Access.READ | Access.WRITE | execute


def test_what_may_be_cached() -> None:
    assert may_be_cached(0x4400_2003, 2)
    assert may_be_cached(PAGE, 3)
    assert not may_be_cached(PAGE & ~0b10, 3)
    assert not may_be_cached(PAGE & ~(1 << 10), 3)
    assert not may_be_cached(0x400, 3)
