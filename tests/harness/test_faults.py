"""What a program lets go wrong: allocations that fail, entries that somebody else has written."""

from __future__ import annotations

import errno

import pytest
from observations import observe

from harness.model.executor import Model
from harness.observation.events import ALLOC, ALLOC_EXACT, NO_PAGE, PLANTED, STORE_KINDS, Event, events_of
from harness.observation.layout import Observation
from harness.observation.tables import leaked
from harness.program.kinds import UNLINKED
from harness.program.text import parse
from harness.verdict.judge import Judge
from pgtable.pte import LOCKED
from reference.link.executor import Reference

MAP = "map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=6\n"
"""Two tables, and a page."""
LEAF = 0x40_0000_8000_17DB


def returns(observation: Observation) -> list[int | None]:
    """Without the implicit init."""
    return [record.ret for record in observation.records[1:]]


def allocations(observation: Observation) -> list[int]:
    """The pages that Linux was given in the last op."""
    return [event.a for event in events_of(observation.records[-1].events) if event.kind in (ALLOC, ALLOC_EXACT)]


def planted(observation: Observation, record: int) -> list[Event]:
    return [event for event in events_of(observation.records[record].events) if event.kind == PLANTED]


def refcount(observation: Observation, record: int = -1) -> int:
    """Of the page that holds the entry which an op planted."""
    return observation.pages[planted(observation, record)[0].a & -4096].refcount


@pytest.mark.parametrize(
    "ops",
    [
        "map ipa=0x3fff000 size=8K phys=0x80001000 prot=rw mc=6",
        "set_owner ipa=0x0 size=4K mc=6 owner=1",
        "create_unlinked phys=0x0 level=0 prot=rw mc=6",
        "create_unlinked phys=0x80000000 level=1 prot=rw mc=6 force_pte=on",
        "create_unlinked phys=0x80000000 level=2 prot=rw",
        "map ipa=0x0 size=1G phys=0x0 prot=rw mc=3\nsplit ipa=0x0 size=4K mc=4",
        "init",
    ],
)
def test_each_allocation_of_an_op_can_fail(ops: str, kernel: Reference) -> None:
    """The op ends there, nothing is lost, and the sides agree, whichever it is."""
    judge = Judge(Model(), kernel)
    setup, _, op = ops.rpartition("\n")
    programs = [f"budget = 16000\n{setup}\nfail_alloc nth={nth}\n{op}\n" for nth in range(20)]
    undisturbed = allocations(observe(programs[0]))
    assert undisturbed
    for nth in range(1, len(undisturbed) + 1):
        seen = observe(programs[nth])
        assert seen.records[-1].ret == -errno.ENOMEM
        assert allocations(seen) == [*undisturbed[: nth - 1], NO_PAGE]
        assert op == "init" or leaked(seen) == []
        assert judge.agree(parse(f"s2 1\n{programs[nth]}"))
    assert allocations(observe(programs[len(undisturbed) + 1])) == undisturbed


def test_a_failure_waits_for_its_allocation() -> None:
    seen = observe(f"fail_alloc nth=3\n{MAP}unmap ipa=0x1000 size=4K\n{MAP}{MAP}")
    assert returns(seen) == [0, 0, 0, -errno.ENOMEM, 0]
    assert returns(observe(f"fail_alloc nth=1\nfail_alloc nth=0\n{MAP}")) == [0, 0, 0]
    assert returns(observe(f"fail_alloc nth=1\nfail_alloc nth=2\n{MAP}{MAP}")) == [0, 0, -errno.ENOMEM, 0]


def test_filling_a_memcache_is_no_allocation_of_linux() -> None:
    seen = observe(f"fail_alloc nth=1\n{MAP}")
    assert len(seen.memcache) == 6
    assert seen.allocs == 8


def test_the_failure_does_not_outlive_its_program(kernel: Reference) -> None:
    kernel.observe(parse("s2 1\nfail_alloc nth=1\n"))
    assert kernel.observe(parse(f"s2 1\n{MAP}")).records[-1].ret == 0


@pytest.mark.parametrize(
    ("before", "after", "more"),
    [("0x0", "locked", 1), ("0x0", "0x4", 1), ("locked", "0x0", -1), ("0x4", "0x80001443", 0), ("0x0", "0x0", 0)],
)
def test_planting_keeps_the_references_of_the_page(before: str, after: str, more: int) -> None:
    plant = "plant ipa=0x5000 level=3 pte={}\n"
    first = observe(MAP + plant.format(before))
    second = observe(MAP + plant.format(before) + plant.format(after))
    assert refcount(second) == refcount(first) + more


def test_a_planted_entry_is_where_the_walk_finds_it() -> None:
    seen = observe(f"{MAP}plant ipa=0x5000 level=3 pte=locked\nget_leaf ipa=0x5000\n")
    assert seen.records[-1].outs == (LOCKED, 3)
    (event,) = planted(seen, -2)
    assert event.b == LOCKED
    assert seen.pages[event.a & -4096].entries[5] == LOCKED
    assert [str(one) for one in events_of(seen.records[-2].events)] == [f"planted {event.a:#x} = 0x400"]


def test_a_planted_table_is_fresh() -> None:
    seen = observe(f"{MAP}plant ipa=0x200000 level=2 pte=0x800000000000003\n")
    allocated, written = events_of(seen.records[-1].events)
    assert (allocated.kind, written.b) == (ALLOC, allocated.a | 0x800_0000_0000_0003)
    page = seen.pages[allocated.a]
    assert (page.refcount, set(page.entries)) == (1, {0})


@pytest.mark.parametrize(
    ("op", "ret"),
    [
        ("plant ipa=0x0 level=1 pte=0x44000003", errno.EFAULT),
        ("plant ipa=0x0 level=2 pte=0xfffffffff003", errno.EFAULT),
        ("plant ipa=0x0 level=0 pte=0x0", errno.EINVAL),
        ("plant ipa=0x10000000000 level=1 pte=0x0", errno.EINVAL),
        ("plant ipa=0xffffffffffffffff level=3 pte=0x0", errno.EINVAL),
        ("plant ipa=0x40000000 level=2 pte=0x0", errno.ENOENT),
        ("plant ipa=0x200000 level=3 pte=locked", errno.ENOENT),
        ("link ipa=0x0 table=0", errno.EBADF),
    ],
)
def test_what_is_not_planted(op: str, ret: int, kernel: Reference) -> None:
    seen = observe(f"{MAP}{op}\n")
    assert returns(seen) == [0, -ret]
    assert not seen.records[-1].events
    assert Judge(Model(), kernel).agree(parse(f"s2 1\n{MAP}{op}\n"))


def test_nothing_is_planted_without_a_root() -> None:
    assert returns(observe("destroy\nplant ipa=0x0 level=1 pte=0x0\n"))[-1] == -errno.EINVAL


def test_a_level_3_entry_is_a_page_wherever_it_leads() -> None:
    seen = observe(f"{MAP}plant ipa=0x0 level=3 pte=0x44000003\nget_leaf ipa=0x0\n")
    assert seen.records[-1].outs == (0x4400_0003, 3)


def test_a_linked_table_translates() -> None:
    seen = observe(
        f"{MAP}create_unlinked phys=0x80000000 level=2 prot=rw mc=1 force_pte=on\nlink ipa=0x3ff000 table=0\n"
        "get_leaf ipa=0x201000\nlink ipa=0x0 table=0\nfree_unlinked table=0\nunmap ipa=0x200000 size=2M\ndestroy\n",
        budget=10000,
    )
    assert returns(seen)[2:] == [0, 0, -errno.EBADF, -errno.EBADF, 0, 0]
    assert seen.records[4].outs == (LEAF, 3)
    assert not seen.held(UNLINKED.number)
    assert set(seen.pages) == set(seen.memcache), "the unmap has freed the table"


def test_a_table_that_cannot_be_linked_stays() -> None:
    seen = observe("create_unlinked phys=0x0 level=0 prot=rw mc=1\nlink ipa=0x0 table=0\n")
    assert returns(seen) == [0, -errno.EINVAL], "the root has level 1"
    assert list(seen.held(UNLINKED.number)) == [0]


def test_planting_costs_budget(kernel: Reference) -> None:
    text = f"{MAP}plant ipa=0x200000 level=2 pte=table\n"
    spent = next(n for n in range(1, 200) if observe(text, budget=n).records[-1].ret == 0)
    for budget in (spent - 1, spent - 2, spent):
        seen = observe(text, budget=budget)
        assert seen.records[-1].ret == (0 if budget == spent else None)
        assert Judge(Model(), kernel).agree(parse(f"s2 1\nbudget = {budget}\n{text}"))


SHARED = "map ipa=0x1000 size={size} phys=0x80001000 prot=rw mc=6 flags=shared{more}\n"


def shared(size: str = "4K", more: str = "") -> str:
    return SHARED.format(size=size, more=more)


def stores(observation: Observation, record: int = -1) -> list[str]:
    """Events that concern entries, by name."""
    return [event.name for event in events_of(observation.records[record].events) if event.kind in STORE_KINDS]


def test_a_race_comes_between_the_cmpxchg_and_its_announcement() -> None:
    seen = observe(f"{MAP}race nth=1 pte=0x0\nmkyoung ipa=0x1000\n")
    assert stores(seen) == [], "the leaf is young already"
    seen = observe(f"{MAP}race nth=1 pte=0x0\nrelax_perms ipa=0x1000 prot=rwx\nget_leaf ipa=0x1000\n")
    assert stores(seen, -2) == ["store_cmpxchg", "planted"]
    assert returns(seen)[-2:] == [-errno.EAGAIN, 0]
    assert seen.records[-1].outs == (0, 3)


@pytest.mark.parametrize("nth", range(1, 6))
def test_whichever_cmpxchg_is_raced(nth: int, kernel: Reference) -> None:
    """Two tables and three pages: for each, the loser gives back what it took, and goes on or stops as it was asked."""
    for more, ret in (("", 0), ("+handle_fault", -errno.EAGAIN)):
        text = f"race nth={nth} pte=locked\n{shared('12K', more)}"
        seen = observe(text)
        assert seen.records[-1].ret == ret
        assert leaked(seen) == []
        entries = [entry for page in seen.pages.values() for entry in page.entries if entry]
        assert entries.count(LOCKED) == 1
        assert len(entries) == (nth if ret or nth < 3 else 5)
        assert Judge(Model(), kernel).agree(parse(f"s2 1\n{text}"))


def test_a_race_in_a_long_run_of_leaves(kernel: Reference) -> None:
    """Which the model otherwise writes all at once."""
    text = f"budget = 10000\nforce_pte = always\nrace nth=40 pte=locked\n{shared('2M')}get_leaf ipa=0x26000\n"
    assert observe(text).records[-1].outs == (LOCKED, 3)
    assert Judge(Model(), kernel).agree(parse(f"s2 1\n{text}"))


def test_a_raced_table_is_walked_into() -> None:
    """The walker reads the entry again after its visitor lost."""
    seen = observe(f"race nth=1 pte=table\n{shared()}get_leaf ipa=0x1000\n")
    assert returns(seen) == [0, 0, 0]
    assert seen.records[-1].outs == (LEAF, 3)
    assert (leaked(seen), seen.frees) == ([], 1)


def test_what_would_be_no_table_is_not_raced(kernel: Reference) -> None:
    text = f"race nth=1 pte=0x80000003\n{shared()}get_leaf ipa=0x1000\n"
    seen = observe(text)
    assert (stores(seen, -2).count("planted"), seen.records[-1].outs) == (0, (LEAF, 3))
    assert Judge(Model(), kernel).agree(parse(f"s2 1\n{text}"))
    assert observe(f"race nth=3 pte=0x80000003\n{shared()}").records[-1].ret == 0, "at level 3 it is a page"


def test_a_race_waits_for_its_cmpxchg_and_comes_once() -> None:
    seen = observe(f"race nth=1 pte=locked\n{MAP}unmap ipa=0x0 size=2M\n{shared(more='+handle_fault')}{MAP}")
    assert returns(seen) == [0, 0, 0, -errno.EAGAIN, 0]
    assert returns(observe(f"race nth=1 pte=locked\nrace nth=0 pte=0x0\n{shared(more='+handle_fault')}")) == [0, 0, 0]


def test_the_race_does_not_outlive_its_program(kernel: Reference) -> None:
    kernel.observe(parse("s2 1\nrace nth=1 pte=locked\n"))
    assert kernel.observe(parse(f"s2 1\n{shared(more='+handle_fault')}")).records[-1].ret == 0


def test_a_race_costs_budget(kernel: Reference) -> None:
    text = f"race nth=1 pte=table\n{shared()}"
    spent = next(n for n in range(1, 200) if observe(text, budget=n).records[-1].ret == 0)
    for budget in range(1, spent):
        assert Judge(Model(), kernel).agree(parse(f"s2 1\nbudget = {budget}\n{text}"))


def walked(flags: str, visitor: str) -> tuple[int | None, int]:
    """The result and the visits of a walk of four pages, three of which are mapped."""
    seen = observe(
        f"map ipa=0x0 size=12K phys=0x0 prot=rw mc=4\nwalk ipa=0x0 size=16K flags={flags} visitor={visitor}\n"
    )
    return seen.records[-1].ret, len(seen.records[-1].outs) // 4


@pytest.mark.parametrize(
    ("flags", "visitor", "ret", "visits"),
    [
        ("leaf", "einval", -errno.EINVAL, 1),
        ("leaf", "einval@3", -errno.EINVAL, 3),
        ("leaf", "einval@5", 0, 4),
        ("table_post", "enomem@2", -errno.ENOMEM, 2),
        ("table_pre", "e2big@2", -errno.E2BIG, 2),
        ("leaf+table_pre+table_post", "eagain", 0, 8),
        ("leaf+table_pre+table_post+shared", "eagain", 0, 8),
        ("leaf+handle_fault", "eagain@2", -errno.EAGAIN, 2),
        ("table_post+handle_fault+shared", "eagain", -errno.EAGAIN, 1),
        ("leaf", "look@2", 0, 4),
        ("table_pre+leaf", "clear@1", 0, 1),
        ("table_pre+leaf", "lock@2", 0, 2),
        ("table_pre+leaf", "table@1", 0, 2),
        ("table_pre+leaf", "table@2", 0, 6),
    ],
)
def test_a_visitor_acts(flags: str, visitor: str, ret: int, visits: int) -> None:
    assert walked(flags, visitor) == (ret, visits)


def test_a_visitor_that_installs_tables_is_led_into_them() -> None:
    seen = observe("walk ipa=0x0 size=8K flags=leaf visitor=table\n")
    visits = [tuple(seen.records[-1].outs[at + 1 : at + 4]) for at in range(0, len(seen.records[-1].outs), 4)]
    assert visits == [(1, 0, 0), (2, 0, 0), (3, 0, 0), (3, 0x1000, 0)], "at level 3 there are none to install"
    assert [page.refcount for page in seen.pages.values()] == [2, 1, 2, 1]
