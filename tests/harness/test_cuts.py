"""What comes of programs whose budget cuts the sides at different events, or one of them alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from executors import Patched

from harness.findings.report import verdict_report
from harness.model.executor import Model
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.cuts import FLOOD_FACTOR, FLOOD_LEAST, counted_in, unequal_cut
from harness.verdict.judge import CONFIRMATIONS, Judge
from harness.verdict.tiers import ALL_TIERS, Tier, parse_tiers
from harness.verdict.verdicts import Inconclusive, Verdict
from pgtable import Memcache, Stage2

TEXT = "map ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=3\ntlb_flush_vmid_range ipa=0x1000 size=4K\ndestroy\n"
NO_EVENTS = parse_tiers("results,tables,accounting")


def program(budget: int = 4096, text: str = TEXT) -> Program:
    return parse(f"s2 1\nbudget = {budget}\n\n{text}")


def invalidating(times: int) -> Model:
    """Invalidates everything so often where it should invalidate a range."""

    def tlb_flush_range(self: Stage2, _addr: int, _size: int) -> None:
        for _ in range(times):
            self._hooks.tlbi_vmid()

    return Patched(Stage2, "tlb_flush_range", tlb_flush_range)


ENDLESS = 1 << 40
_map = Stage2.map


def mapping(before: Callable[[Stage2], object]) -> Model:
    """Does something before it maps."""

    def stage2_map(self: Stage2, addr: int, size: int, phys: int, prot: int, cache: Memcache | None, flags: int) -> int:
        before(self)
        return _map(self, addr, size, phys, prot, cache, flags)

    return Patched(Stage2, "map", stage2_map)


def seen(judge: Judge, text: Program) -> Verdict | Inconclusive | None:
    """What `check` says, after which `verdict` and `examine` say the same."""
    found = judge.check(text)
    assert judge.verdict(text) == (found if isinstance(found, Verdict) else None)
    if not isinstance(found, Verdict):
        assert judge.examine(text) == found
    return found


def test_both_cut_at_the_same_event_agree() -> None:
    left = right = invalidating(ENDLESS)
    assert seen(Judge(left, right), program()) is None
    assert unequal_cut(left.observe(program()), right.observe(program())) is None


@pytest.mark.parametrize("is_left", [False, True])
@pytest.mark.parametrize("tiers", [ALL_TIERS, frozenset({Tier.TABLES})])
def test_a_flood(is_left: bool, tiers: frozenset[Tier]) -> None:
    sides = (Model(), invalidating(ENDLESS))
    judge = Judge(*reversed(sides) if is_left else sides, tiers)  # type: ignore[arg-type]
    found = seen(judge, program())
    assert isinstance(found, Verdict)
    assert (found.kind, found.bucket, found.record) == ("flood", "flood-tlb_flush_vmid_range", 2)
    assert found.confirmed == CONFIRMATIONS
    assert found.cut is not None and found.cut.flooded == (0 if is_left else 1)
    assert judge.quick(program(), "flood") == judge.verdict(program())
    assert "finished with" in (text := verdict_report(program(), found, ("a", "b"))) and "was cut after" in text


def budget_for(times: int, spare: int) -> int:
    """The budget that so many invalidations take in the second op, and `spare` more."""
    records = invalidating(times).observe(program(65536)).records
    return sum(map(counted_in, records[:3])) + spare


def test_less_than_a_flood_is_inconclusive() -> None:
    once = counted_in(invalidating(1).observe(program()).records[2])
    assert FLOOD_FACTOR * once < FLOOD_LEAST
    short = FLOOD_LEAST // once
    for times, spare, is_flood in [(short, -1, False), (short + 1, 0, True)]:
        found = seen(Judge(invalidating(1), invalidating(ENDLESS), NO_EVENTS), program(budget_for(times, spare)))
        assert isinstance(found, Verdict if is_flood else Inconclusive), times
    many = 2 * short
    for times, is_flood in [(FLOOD_FACTOR * many - 1, False), (FLOOD_FACTOR * many, True)]:
        found = seen(Judge(invalidating(many), invalidating(ENDLESS), NO_EVENTS), program(budget_for(times, 0)))
        assert isinstance(found, Verdict if is_flood else Inconclusive), times


def test_it_says_where_and_what_of() -> None:
    found = seen(
        Judge(invalidating(1), invalidating(200), NO_EVENTS),
        program(100),
    )
    assert isinstance(found, Inconclusive)
    assert found.cut.describe(("model", "kernel")) == (
        "op 2, tlb_flush_vmid_range: model finished with 7 events, kernel was cut after 84"
    )


def test_what_lies_before_the_cut_is_compared() -> None:
    """An op before it, whose results do not show it; and the events of the cut op itself."""
    both = mapping(lambda stage2: stage2._hooks.dsb("ish"))
    found = seen(Judge(Model(), both), program(12))
    assert isinstance(found, Verdict) and found.bucket == "events-map-zalloc_page"
    wrong_order = parse(
        "s2 1\nbudget = 30\nmap ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=3\nunmap ipa=0x0 size=1T"
    )
    fewer = Patched(Stage2, "unmap", lambda self, _addr, _size: 0)
    found = seen(Judge(Model(), fewer), wrong_order)
    assert isinstance(found, Verdict) and found.record == 2


def test_tiers_without_events_do_not_blame_a_cut() -> None:
    """More events than before, in every op: cut in the middle, the tables differ, and nothing is wrong with them."""
    busy = mapping(lambda stage2: [stage2._hooks.dsb("ish") for _ in range(9)])
    judge = Judge(Model(), busy, NO_EVENTS)
    outcomes = [seen(judge, program(budget)) for budget in range(1, 60)]
    assert not any(isinstance(found, Verdict) for found in outcomes)
    assert any(found is None for found in outcomes)
    assert sum(isinstance(found, Inconclusive) for found in outcomes) > 10


def test_conversions_and_counts_are_not_counted() -> None:
    """How often the code reads them is its own affair."""

    def curious(stage2: Stage2) -> None:
        assert stage2.root is not None
        for _ in range(1000):
            stage2._mm_ops.follow(stage2.root)
            stage2._mm_ops.page_count(stage2.root)

    judge = Judge(Model(), mapping(curious))
    for budget in range(1, 60):
        assert judge.agree(program(budget)), budget


def test_endless_work_without_events_is_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    def follow_forever(stage2: Stage2) -> None:
        assert stage2.root is not None
        while True:
            stage2._mm_ops.follow(stage2.root)

    monkeypatch.setattr("harness.model.boundary.MOST_UNCOUNTED", 1000)
    found = Judge(Model(), mapping(follow_forever)).check(program())
    assert isinstance(found, Verdict)
    assert (found.kind, found.record, found.bucket) == ("hang", 1, "hang-map-follow")
