"""Aborts as the host handles them, the memcache that it fills or does not, and the judge of both."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from executors import Patched
from observations import with_record

from fuzz.generate.scenario import vm_scenario
from harness.findings.report import verdict_report
from harness.model.executor import Model
from harness.observation.events import ALLOC, DSB, PLANTED, events_of
from harness.observation.layout import LOCKING, Complaint, Observation
from harness.program.codec import decode, dialect_for
from harness.program.granule import GRANULE_4K
from harness.program.program import Program
from harness.program.text import format_program, parse, read
from harness.verdict.aborts import handles_aborts, handlings, problems, surprises
from harness.verdict.buckets import problem_with
from harness.verdict.judge import Judge
from harness.verdict.judging import Judging
from harness.verdict.topup_rules import RULES, RuleWeight, rule_table, weigh_rule
from harness.verdict.verdicts import Verdict
from pgtable import Stage2

CORPORA = Path(__file__).parents[2] / "corpora"
VIOLATIONS = sorted((CORPORA / "violations").glob("abort_*.s2"))
SEEDS = sorted((CORPORA / "seeds").glob("abort_*.s2"))
BLOCK, PAGE = 2 << 20, 4 << 10


def seed(name: str) -> Program:
    return read(CORPORA / "seeds" / f"{name}.s2")


def written(text: str, **knobs: str) -> Program:
    """A program for a machine with a guest."""
    lines = "".join(f"{name} = {value}\n" for name, value in {"guest": "on", **knobs}.items())
    return parse(f"s2 1\n{lines}\n{text}")


def under(rule: str, program: Program) -> Program:
    """The same program under another rule."""
    return replace(program, machine=program.machine.replace("topup_rule", RULES.index(rule)))


def observed(program: Program, version: str = "6.12") -> Observation:
    return Model(version).observe(program)


def handled(program: Program, version: str = "6.12") -> list[tuple[int | None, int, int, int]]:
    """Of every abort that was handled: the result, the mapping's size, whether the memcache was topped up, and how many
    pages of it were used."""
    return [(one.ret, one.size, one.topped_up, one.used) for one in handlings(program, observed(program, version))]


def wrong(program: Program, version: str = "6.12") -> list[tuple[int, str]]:
    """Records and what is wrong in them."""
    return [(one.record, one.what) for one in problems(program, observed(program, version))]


def last_returns(program: Program) -> list[int | None]:
    """Of each address that was accessed, the last result."""
    done = zip(program.ops, observed(program).records[1:], strict=True)
    by_address = {op.args[0]: record.ret for op, record in done if op.name == "fault"}
    return list(by_address.values())


# The thread's situations


def test_a_leaf_alone_takes_no_page() -> None:
    """The first: the fault's granule is the mapping's size."""
    program = seed("abort_leaf")
    first, *others = handled(program)
    assert first == (0, PAGE, True, 2)
    assert [(size, topped_up, used) for _, size, topped_up, used in others] == [
        *((PAGE, False, 0), (BLOCK, False, 0)),
        *((PAGE, False, 0), (BLOCK, False, 0)),
    ]
    assert wrong(program) == []
    # By the fault's status, the two translation faults fill it in vain.
    assert [topped_up for _, _, topped_up, _ in handled(under("fault_status", program))[1:]] == [1, 1, 0, 0]


@pytest.mark.parametrize("rule", ["fault_status", "fault_granule"])
def test_a_missing_table_takes_a_page_each(rule: str) -> None:
    """The second: the fault's granule is more than the mapping's size."""
    program = under(rule, seed("abort_table_missing"))
    assert handled(program) == [(0, PAGE, True, 2), (0, BLOCK, True, 1), (0, PAGE, True, 1), (0, PAGE, True, 1)]
    assert wrong(program) == []


def test_a_table_that_becomes_a_block_takes_none() -> None:
    """The third: the fault's granule is less than the mapping's size; a table is freed."""
    program = seed("abort_collapse")
    blocks = [one for one in handled(program) if one[1] == BLOCK]
    assert blocks == [(0, BLOCK, True, 1), (0, BLOCK, True, 0), (0, BLOCK, False, 0)]
    assert [one[2:] for one in handled(under("fault_granule", program)) if one[1] == BLOCK] == [(1, 1), (0, 0), (0, 0)]
    for rule in RULES[:2]:
        seen = observed(under(rule, program))
        assert (seen.frees, wrong(under(rule, program))) == (2, [])


def test_the_patch_as_posted_sleeps_under_the_lock() -> None:
    program = seed("abort_posted")
    *filled, (at, last) = wrong(program)
    assert filled[0] == (2, "sleeps-in-atomic")
    assert (at, last) == (len(program.ops), "left-held")
    assert handled(program)[-1][0] == -errno.ENOMEM
    for rule in RULES[:2]:
        assert not [what for _, what in wrong(under(rule, program)) if what in ("sleeps-in-atomic", "left-held")]


# What is mapped


@pytest.mark.parametrize(("name", "block"), [("abort_16k", 32 << 20), ("abort_64k", 512 << 20)])
def test_larger_granules_have_the_same_situations(name: str, block: int) -> None:
    program = seed(name)
    page = program.machine.granule.page
    assert handled(program) == [(0, page, True, 1), (0, page, False, 0), (0, block, False, 0)]
    assert last_returns(program) == [0, 0, 0]


@pytest.mark.parametrize(
    ("memory", "size"),
    [
        ("", PAGE),
        ("backing=cont_page", PAGE),
        ("backing=block", BLOCK),
        ("backing=cont_block", BLOCK),
        ("backing=gigabyte", 1 << 30),
        ("backing=gigabyte hva=63", PAGE),
        ("backing=block hva=1", PAGE),
        ("thp=on", BLOCK),
        ("thp=on hva=16", PAGE),
        ("thp=on backing=cont_page", PAGE),
        ("thp=on backing=block hva=16", PAGE),
        ("thp=on device=on", PAGE),
        ("backing=block device=on", BLOCK),
        ("backing=gigabyte logging=on", PAGE),
        ("thp=on logging=on", PAGE),
    ],
)
def test_sizes_are_those_that_stage_2_has(memory: str, size: int) -> None:
    program = written(f"fault ipa=0x81234567 access=read\nhandle phys=0xc2345000 {memory}\nget_leaf ipa=0x81234567")
    (one,) = handled(program)
    assert one[:2] == (0, size)
    entry, level = observed(program).records[-1].outs
    assert entry & (1 << 48) - (1 << 12) == 0xC2345000 & -size
    assert level == {PAGE: 3, BLOCK: 2, 1 << 30: 1}[size]


def test_a_permission_fault_on_a_block_shows_that_one_lies_behind() -> None:
    """Of a page-sized backing nobody knows more; a log has it broken."""
    start = "map ipa=0x0 size=2M phys=0x42000000 prot=r mc=3\nfault ipa=0x1000 access=write\nhandle phys=0x42001000"
    assert handled(written(start))[0][:2] == (0, BLOCK)
    assert handled(written(f"{start} backing=cont_page"))[0][:2] == (0, PAGE)
    assert handled(written(f"{start} logging=on"))[0][:2] == (0, PAGE)


def test_what_a_log_brings_in_for_a_read_is_read_only() -> None:
    seen = observed(seed("abort_logging"))
    entries = [record.outs[0] for record in seen.records if record.definition.name == "get_leaf"]
    assert [entry >> 6 & 3 for entry in entries] == [1, 3, 1, 3]


@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_what_is_refused(version: str) -> None:
    program = seed("abort_refused")
    results = [record.ret for record in observed(program, version).records if record.definition.name == "handle"]
    names = [errno.errorcode.get(-(ret or 0), "0") for ret in results]
    assert names == [
        *("ENOENT", "EFAULT", "EFAULT", "0", "EFAULT", "0", "EFAULT"),
        *("ENOEXEC", "ERANGE", "ENOENT"),
    ]


def test_an_access_flag_fault_makes_young_and_maps_nothing() -> None:
    program = seed("abort_access_flag")
    assert handled(program)[:2] == [(0, 0, False, 0), (0, 0, False, 0)]
    assert observed(program).records[6].outs[0] >> 10 & 1
    assert last_returns(program) == [0, 0]


def test_what_comes_too_late_is_tried_again() -> None:
    program = seed("abort_raced")
    assert {ret for ret, *_ in handled(program)} == {0}
    assert last_returns(program) == [0, 0]
    # Where a walk may not be shared, EAGAIN is what map returns as well.
    assert {ret for ret, *_ in handled(program, "6.1")} == {0}


# The empty memcache


def test_an_empty_memcache_warns_and_allocates_or_fails() -> None:
    host, hyp = (read(CORPORA / "violations" / f"abort_untopped_exec{end}.s2") for end in ("", "_pkvm"))
    assert handled(host)[-1] == (0, PAGE, False, 1)
    assert [str(one) for one in observed(host).records[9].complaints] == ["WARN"]
    assert handled(hyp)[-1] == (-errno.ENOMEM, PAGE, False, 0)
    assert not any(record.complaints for record in observed(hyp).records)


def test_a_table_that_is_gone_is_missing_in_the_next_round() -> None:
    """The abort fails once; then its level says that a table is needed."""
    program = seed("abort_empty_cache")
    assert handled(program) == [(-errno.ENOMEM, PAGE, False, 1), (0, PAGE, True, 1)]
    assert last_returns(program) == [0]


def test_a_failed_allocation_is_no_empty_memcache() -> None:
    """It fails before the memcache is looked at."""
    program = written("fault ipa=0x1000 access=read\nfail_alloc nth=1\nhandle phys=0x42001000")
    assert handled(program) == [(-errno.ENOMEM, PAGE, True, 0)]
    assert not observed(program).records[3].complaints


# The judge


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_seeds_break_no_rule(path: Path, version: str) -> None:
    """But the patch as it was posted, and the memcache that is found empty."""
    found = {what for _, what in wrong(read(path), version)}
    kept = {"abort_posted": {"sleeps-in-atomic", "left-held"}, "abort_empty_cache": {"untopped"}}
    assert found == kept.get(path.stem, set())


@pytest.mark.parametrize("path", VIOLATIONS, ids=lambda path: path.stem)
@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_violations_are_those_that_are_kept(path: Path, version: str) -> None:
    expected = {
        "abort_forced_pages": ["untopped"],
        "abort_needless": ["needless"],
        "abort_table_gone": ["untopped"],
        "abort_under_lock": ["sleeps-in-atomic"],
        "abort_untopped_exec": ["untopped", "untopped"],
        "abort_untopped_exec_pkvm": ["untopped", "untopped", "untopped"],
    }
    assert [what for _, what in wrong(read(path), version)] == expected[path.stem]


def test_what_changed_since_the_access_is_told() -> None:
    stale = {
        path.stem: [one.stale for one in problems(program, observed(program))]
        for path in VIOLATIONS
        for program in [read(path)]
    }
    assert stale == {
        "abort_forced_pages": [False],
        "abort_needless": [True],
        "abort_table_gone": [True],
        "abort_under_lock": [False],
        "abort_untopped_exec": [False, False],
        "abort_untopped_exec_pkvm": [False, False, False],
    }


ROUNDS = "fault ipa=0x1000 access=write\nhandle phys=0x42001000\n" * 3 + "fault ipa=0x1000 access=write"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (ROUNDS, ["stuck"]),
        (ROUNDS.removesuffix("\nfault ipa=0x1000 access=write"), []),
        (ROUNDS.partition("\n")[2].partition("\n")[2], []),
        (ROUNDS.replace("phys=0x42001000\nf", "phys=0x42001000\nunmap ipa=0x5000 size=4K\nf", 1), []),
        (ROUNDS.replace("handle phys=0x42001000", "handle phys=0x42001000 thp=on", 1), []),
    ],
)
def test_a_guest_that_gets_nowhere_is_stuck(text: str, found: list[str]) -> None:
    """After three rounds with nothing in between. No handler of ours does that, so the observation is made up."""
    program = written(text)
    seen = observed(written("fault ipa=0x1000 access=write\nhandle phys=0x42001000"))
    _, access, handling = seen.records
    records = {"fault": access, "handle": handling, "unmap": replace(seen.records[0], ret=0)}
    made_up = replace(seen, records=(seen.records[0], *(records[op.name] for op in program.ops)))
    assert [one.what for one in problems(program, made_up)] == found


def test_a_locked_entry_keeps_the_guest_waiting() -> None:
    lock = "map ipa=0x0 size=4K phys=0x42000000 prot=rwx mc=3\nplant ipa=0x1000 level=3 pte=0x400\n"
    program = written(lock + ROUNDS)
    assert [ret for ret, *_ in handled(program)] == [0, 0, 0]
    assert last_returns(program) == [-errno.EFAULT]
    assert wrong(program) == []


def test_a_breach_of_the_locks_is_a_problem_of_the_handling() -> None:
    program = seed("abort_leaf")
    seen = with_record(observed(program), 2, complaints=(Complaint(LOCKING, 4, 0),))
    assert [(one.record, one.what) for one in problems(program, seen)] == [(2, "left-held")]


def test_a_read_only_slot_is_user_space_s() -> None:
    """A write to it is refused before a page is set aside."""
    program = written("fault ipa=0x1000 access=write\nhandle phys=0x42001000 readonly=on")
    assert handled(program) == [(-errno.EFAULT, 0, False, 0)]
    assert [event.kind for event in events_of(observed(program).records[2].events)] == []
    assert DSB in {event.kind for event in events_of(observed(seed("abort_leaf")).records[2].events)}


def test_what_rules_do_not_account_for_is_a_surprise() -> None:
    made_up = [
        (under(rule, seed("abort_leaf")), Complaint(LOCKING, code, 0), expected)
        for rule, code, expected in (("fault_granule", 1, True), ("posted", 1, False), ("posted", 6, True))
    ]
    for program, complaint, expected in made_up:
        seen = with_record(observed(program), 2, complaints=(complaint,))
        assert [one.record for one in surprises(program, seen)] == [2] * expected
    for path in VIOLATIONS:
        assert not list(surprises(read(path), observed(read(path))))
    untopped = read(CORPORA / "violations" / "abort_untopped_exec.s2")
    # What Linux's rule forgets would be one by the other rule.
    assert [one.what for one in surprises(under("fault_granule", untopped), observed(untopped))] == ["untopped"] * 2


def test_a_guest_that_is_stuck_is_a_finding() -> None:
    """On whatever both sides agree: here permissions are never relaxed."""
    program = written("map ipa=0x0 size=8K phys=0x42000000 prot=r mc=3\n" + ROUNDS)
    sides = [Patched(Stage2, "relax_perms", lambda *_: 0) for _ in range(2)]
    judge = Judge(*sides)
    found = judge.check(program)
    assert isinstance(found, Verdict)
    assert (found.kind, found.bucket, found.record) == ("abort", "abort-fault-stuck", len(program.ops))
    assert problem_with(found.bucket) == ""
    assert problem_with("abort-fault-unstuck")
    assert "model:6.12: the access still aborts after 3 rounds" in verdict_report(program, found, ("a", "b"))
    assert judge.quick(program, "abort") == replace(found, confirmed=0)
    assert judge.quick(program, "stale") is None
    assert Judge(Model(), Model()).check(program) is None
    assert Judge(*sides, judging=Judging.NONE).check(program) is None


@pytest.mark.parametrize("version", ["6.1", "6.12"])
def test_generated_programs_hold_no_surprise(version: str) -> None:
    model, done = Model(version), 0
    dialect = dialect_for(model.capabilities, GRANULE_4K)
    for number in range(200):
        program = decode(vm_scenario(Random(number), dialect), dialect)
        if handles_aborts(program):
            seen = model.observe(program)
            assert not list(surprises(program, seen)), format_program(program)
            done += sum(one.ret == 0 for one in handlings(program, seen))
    assert done > 25


# Rules, weighed


def test_rules_are_weighed_whatever_the_program_says() -> None:
    program = seed("abort_collapse")
    by_status, by_granule, posted = (weigh_rule(Model(), program, rule) for rule in RULES)
    assert (by_status.handled, by_status.topups, by_status.used) == (6, 5, 3)
    assert (by_granule.topups, by_granule.used, by_granule.violations.total()) == (3, 3, 0)
    assert posted.violations == {"sleeps-in-atomic": 3}
    assert by_status.left >= by_granule.left


def test_retries_are_counted() -> None:
    program = written(
        "map ipa=0x0 size=4K phys=0x42000000 prot=rwx mc=3\nplant ipa=0x1000 level=3 pte=0x400\n" + ROUNDS
    )
    assert weigh_rule(Model(), program, "fault_status").retries == 3
    assert weigh_rule(Model(), seed("abort_leaf"), "fault_status").retries == 0


def test_sums_and_the_table() -> None:
    one = weigh_rule(Model(), seed("abort_posted"), "posted")
    both = one + RuleWeight(handled=1)
    assert (both.handled, both.violations) == (one.handled + 1, one.violations)
    head, row = rule_table([("model:6.12", "posted", RuleWeight(1, 1, 2, 2, 0, 1))])
    assert head.split() == ["side", "rule", "handled", "top-ups", "added", "used", "left", "retries", "violations"]
    assert row.split() == ["model:6.12", "posted", "1", "1", "2", "2", "0", "1", "-"]
    assert not handles_aborts(parse("s2 1\n\ndestroy\n"))


def test_a_table_that_somebody_else_puts_there_is_not_asked_for() -> None:
    program = parse(
        "s2 1\nfwb = off\nguest = on\ntopup_rule = posted\nempty_cache = enomem\n\n"
        "map ipa=0x2000000 size=2M phys=0x42000000 prot=rwx mc=3\n"
        "map ipa=0x2000000 size=4K phys=0x42000000 prot=rw mc=4\n"
        "fault ipa=0x2003000 access=write\n"
        "race nth=1 pte=table\n"
        "handle phys=0x42003000 backing=block\n"
    )
    seen = Model().observe(program)
    last = seen.records[-1]
    assert last.ret == 0
    assert {ALLOC, PLANTED} <= {event.kind for event in events_of(last.events)}
    assert not list(surprises(program, seen))
