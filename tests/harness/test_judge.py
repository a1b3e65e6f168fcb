"""Verdicts on programs, with two models of which one goes wrong on purpose."""

from __future__ import annotations

import pytest
from executors import AnyOwner, Dying, OneOff, Patched

import pgtable.pte
from harness.model.executor import Model
from harness.observation.execution import Execution
from harness.observation.layout import Digest
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.judge import CONFIRMATIONS, Judge
from harness.verdict.tiers import Tier
from harness.verdict.verdicts import Suspicion, Unconfirmed, Verdict
from pgtable import WildAccess
from pgtable.memory import PagePool
from pgtable.removal import Releaser

OWNERS = parse("""
s2 1
map ipa=0x200000 size=4K phys=0x80200000 prot=rwx mc=2
unmap ipa=0x200000 size=4K
set_owner ipa=0x1000 size=4K mc=2 owner=3
get_leaf ipa=0x1000
destroy
""")


def confirmed(left: Model, right: Model, program: Program = OWNERS) -> Verdict:
    """The verdict of `check`, after which `verdict` says the same."""
    judge = Judge(left, right)
    verdict = judge.check(program)
    assert verdict is not None
    assert judge.verdict(program) == verdict
    return verdict


def test_agreement() -> None:
    judge = Judge(Model(), Model())
    assert judge.check(OWNERS) is None
    assert judge.verdict(OWNERS) is None
    assert judge.agree(OWNERS)
    left, right = judge.run(OWNERS)
    assert left.digest == right.digest == Model().observe(OWNERS).digest


def test_the_first_differing_op_is_found() -> None:
    verdict = confirmed(Model(), AnyOwner())
    assert (verdict.kind, verdict.record, verdict.bucket) == ("divergence", 3, "results-set_owner-return")
    assert verdict.difference is not None
    assert (verdict.difference.left, verdict.difference.right) == ("-EINVAL", "0")
    assert verdict.left is not None and verdict.right is not None
    assert len(verdict.left.records) == len(verdict.right.records) == 4
    assert verdict.died is None


def test_sides_keep_their_places() -> None:
    verdict = confirmed(AnyOwner(), Model())
    assert verdict.difference is not None
    assert (verdict.difference.left, verdict.difference.right) == ("0", "-EINVAL")


def test_a_table_that_differs_before_any_result_does() -> None:
    """The entries differ from the first op on; results only with get_leaf, which comes too late to matter."""
    program = Program((*OWNERS.ops[:1], parse("s2 1\nget_leaf ipa=0x200000").ops[0]))
    verdict = confirmed(Model(), Patched(pgtable.pte, "AF", 0), program)
    assert (verdict.record, verdict.bucket) == (1, "tables-map-entry-level3")


def test_an_accounting_difference_that_later_ops_would_hide() -> None:
    wrong = Patched(PagePool, "get_page", lambda self, pa: None)
    verdict = confirmed(Model(), wrong)
    assert (verdict.record, verdict.bucket) == (1, "accounting-map-refcount-level1")


def test_a_leak() -> None:
    program = Program((OWNERS.ops[0], OWNERS.ops[-1]))
    verdict = confirmed(Model(), Patched(Releaser, "visit", lambda self, walk, visit: 0), program)
    assert (verdict.record, verdict.bucket) == (2, "accounting-destroy-pages_freed")


def test_a_difference_in_init_is_record_0() -> None:
    verdict = confirmed(Model(), Patched(pgtable.vtcr, "HA", 0))
    assert (verdict.record, verdict.bucket) == (0, "results-init-vtcr")


def test_tiers_that_were_not_chosen_do_not_count() -> None:
    wrong = Patched(PagePool, "get_page", lambda self, pa: None)
    program = OWNERS.prefix(1)
    assert Judge(Model(), wrong, frozenset({Tier.RESULTS, Tier.TABLES})).check(program) is None
    assert Judge(Model(), wrong, frozenset({Tier.ACCOUNTING})).check(program) is not None


def test_tables_elsewhere_are_agreement_although_the_digests_differ() -> None:
    highest_first = Patched(PagePool, "zalloc_page", _zalloc_second_free)
    judge = Judge(Model(), highest_first)
    program = parse(
        "s2 1\nmap ipa=0x1000 size=4K phys=0x80001000 prot=rwx mc=2\nwalk ipa=0x1000 size=4K flags=table_pre"
    )
    assert not judge.agree(program)
    assert judge.check(program) is None
    assert judge.verdict(program) is None


_zalloc_page = PagePool.zalloc_page


def _zalloc_second_free(self: PagePool, cache: object) -> int | None:
    """Another allocation rule than ours: the second lowest free page."""
    if cache is not None:
        return _zalloc_page(self, cache)  # type: ignore[arg-type]
    first = _zalloc_page(self, None)
    second = _zalloc_page(self, None)
    assert first is not None and second is not None
    self.put_page(first)
    self.allocs -= 1
    self.frees -= 1
    return second


@pytest.mark.parametrize("kind", ["crash", "hang"])
def test_a_death_on_the_right(kind: str) -> None:
    verdict = confirmed(Model(), Dying("unmap", kind))
    assert (verdict.kind, verdict.record) == (kind, 2)
    assert verdict.bucket == f"{kind}-unmap-stage2_unmap_walker"
    assert verdict.died is not None and verdict.died.details == "x0 0\nx1 1"
    assert (verdict.died_side, verdict.difference, verdict.right) == ("kernel:dying", None, None)
    assert verdict.left is not None and len(verdict.left.records) == 3


def test_a_death_on_the_left() -> None:
    verdict = confirmed(Dying("unmap"), Model())
    assert (verdict.kind, verdict.left) == ("crash", None)
    assert verdict.right is not None and len(verdict.right.records) == 3


def test_when_both_die_the_left_one_is_reported() -> None:
    verdict = confirmed(Dying("unmap"), Dying("unmap"))
    assert (verdict.kind, verdict.left, verdict.right) == ("crash", None, None)


def test_a_divergence_before_a_death_is_what_counts() -> None:
    program = parse("s2 1\nset_owner ipa=0x1000 size=4K mc=2 owner=3\nunmap ipa=0x0 size=4K")
    verdict = confirmed(AnyOwner(), Dying("unmap"), program)
    assert (verdict.kind, verdict.record) == ("divergence", 1)


def test_a_death_while_it_is_observed_is_that_side_s() -> None:
    """It has told its digest, and dies when it is to tell the rest."""

    class Shy(Dying):
        def finish(self) -> Execution:
            return Execution(Digest(1, 2))

    with pytest.raises(Unconfirmed) as caught:
        Judge(Model(), Shy("unmap", once=True)).check(OWNERS)
    sighting = caught.value.sighting
    assert (sighting.kind, sighting.died_side) == ("crash", "kernel:dying")


def test_an_error_of_the_model_is_a_bug_of_ours() -> None:
    program = Program((OWNERS.ops[0], OWNERS.ops[-1]))
    with pytest.raises(TypeError):
        Judge(Model(), Patched(Releaser, "visit", None)).check(program)


def follow_garbage(*_arguments: object) -> int:
    raise WildAccess(0x5B5B5B5B5000)


def test_a_garbage_pointer_in_the_model_is_its_death() -> None:
    program = Program((OWNERS.ops[0], OWNERS.ops[-1]))
    verdict = Judge(Model(), Patched(Releaser, "visit", follow_garbage)).check(program)
    assert verdict is not None
    assert (verdict.kind, verdict.record, verdict.died_side) == ("crash", 2, "model:6.12")
    assert verdict.died is not None and "WildAccess" in verdict.died.headline
    assert "Traceback" in verdict.died.details


def test_what_does_not_happen_again_is_unconfirmed() -> None:
    with pytest.raises(Unconfirmed, match=r"^results-set_owner-return$"):
        Judge(Model(), OneOff()).check(OWNERS)
    with pytest.raises(Unconfirmed, match=r"^hang in stage2_unmap_walker$"):
        Judge(Model(), Dying("unmap", "hang", once=True)).check(OWNERS)


def test_a_verdict_is_passed_on_fresh_targets() -> None:
    assert Judge(OneOff(), Model()).verdict(OWNERS) is None


def test_digests_that_differ_once_are_not_forgotten() -> None:
    """What heals itself before anybody looks again is unconfirmed, not agreement."""

    class Forgetful(Model):
        def finish(self) -> Execution:
            return Execution(Digest(1, 2))

    with pytest.raises(Unconfirmed, match="differed once"):
        Judge(Model(), Forgetful()).check(OWNERS)


class Fickle(AnyOwner):
    """Right after every so many a refresh."""

    def __init__(self, right_at: set[int]) -> None:
        super().__init__()
        self._right_at = right_at
        self._wrong = self.version
        self._refreshed = 0

    def refresh(self) -> None:
        super().refresh()
        self._refreshed += 1
        self.version = Model().version if self._refreshed in self._right_at else self._wrong


def test_a_finding_is_seen_on_three_fresh_pairs_of_targets() -> None:
    right = Fickle(set())
    verdict = Judge(Model(), right).check(OWNERS)
    assert verdict is not None
    assert verdict.confirmed == CONFIRMATIONS == 3
    assert right._refreshed >= 3


@pytest.mark.parametrize(("right_at", "times"), [({4}, 2), ({3, 4}, 1)])
def test_what_does_not_happen_every_time_is_flaky(right_at: set[int], times: int) -> None:
    """The first verdict takes two refreshes: one to look for the op, one to look at it."""
    with pytest.raises(Unconfirmed) as caught:
        Judge(Model(), Fickle(right_at)).check(OWNERS)
    assert caught.value.outcomes.count("results-set_owner-return") == times
    assert len(caught.value.outcomes) == 3
    sighting = caught.value.sighting
    assert (sighting.bucket, sighting.record) == ("results-set_owner-return", 3)
    assert sighting.left is not None and sighting.right is not None, "the state that differed is gone"


def test_of_what_never_happens_again_the_first_sight_is_kept() -> None:
    with pytest.raises(Unconfirmed) as caught:
        Judge(Model(), OneOff()).check(OWNERS)
    assert caught.value.outcomes == (None, None, None)
    sighting = caught.value.sighting
    assert (sighting.bucket, sighting.record) == ("results-set_owner-return", 3)
    assert sighting.right is not None and sighting.right.records[3].ret == 0
    with pytest.raises(Unconfirmed) as caught:
        Judge(Model(), Dying("unmap", "hang", once=True)).check(OWNERS)
    sighting = caught.value.sighting
    assert (sighting.bucket, sighting.died_side) == ("hang-stage2_unmap_walker", "kernel:dying")


@pytest.mark.parametrize("right", [AnyOwner(), Dying("unmap"), Dying("set_owner", "hang")])
def test_a_quick_verdict_is_the_same(right: Model) -> None:
    judge = Judge(Model(), right)
    verdict = judge.verdict(OWNERS)
    assert verdict is not None
    assert judge.quick(OWNERS, verdict.kind) == verdict
    beginning = OWNERS.prefix(verdict.record)
    assert judge.quick(beginning, verdict.kind) == verdict
    assert judge.quick(OWNERS.prefix(verdict.record - 1), verdict.kind) is None


def test_where_the_sides_part_is_located_the_shortest_beginning_first() -> None:
    judge = Judge(Model(), AnyOwner())
    found = list(judge.locate(OWNERS))
    assert [len(one.program.ops) for one in found] == [3, 4, 5]
    assert [one.found[0].bucket for one in found] == ["results-set_owner-return"] * 3
    assert [one.program for one in judge.locate(OWNERS, found[-1])] == [OWNERS.prefix(ops) for ops in (3, 4, 5)]
    assert [one.program for one in judge.locate(found[0].program, found[0])] == [found[0].program]
    assert not list(Judge(Model(), Model()).locate(OWNERS))


def test_a_death_is_located_as_well() -> None:
    found = list(Judge(Model(), Dying("unmap")).locate(OWNERS))
    assert [len(one.program.ops) for one in found] == [2, 3, 4, 5]
    assert all(one.death is not None and one.sides is None for one in found)


def test_a_first_look_brings_the_feedback_of_that_program() -> None:
    look = Judge(Model(), Model()).look(OWNERS)
    assert (look.suspicion, look.known) == (None, ())
    assert look.feedback is not None
    assert look.feedback.returns == [0, 0, 0, -22, 0, 0]
    assert len(look.feedback.levels) == len(look.feedback.kinds) == 6
    look = Judge(Model(), AnyOwner()).look(OWNERS)
    assert isinstance(look.suspicion, Suspicion)
    assert look.feedback is not None and look.feedback.returns[3] == -22, "the left side's, and no prefix's"
    assert Judge(Model(), Dying("unmap")).look(OWNERS).feedback is None
