"""States around ops, replayed from events: the last is what the side has told of its pages, and none changes later."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from contract_cases import OWNED, PAGES, PLANTED, program_of
from seeds import SEEDS, refusal

from fuzz.generate.fresh import fresh
from harness.model.executor import MODELLED, Model
from harness.observation.layout import UNDER_TEST, Observation, Root
from harness.observation.mmus import Mmus
from harness.observation.tables import sane_level
from harness.program.codec import decode, dialect_for
from harness.program.granule import GRANULES, Granule
from harness.program.program import Program
from harness.program.text import read
from harness.verdict.contracts.replay import transitions
from harness.verdict.contracts.states import State, Transition
from harness.verdict.maplets import maplets, tree_of

GENERATED = 60
"""Programs for each version and granule."""


def steps_of(text: str) -> list[Transition]:
    program = program_of(text)
    return [*transitions(program, Model().observe(program))]


def last_root(seen: Observation) -> Root | None:
    """What there is in the end of the table that was in use when the last op began."""
    mmus = Mmus(seen.machine)
    for record in seen.records[:-1]:
        mmus.follow(record)
    roots = seen.held(UNDER_TEST)
    return next((roots[mmu] for mmu in mmus.sharing(mmus.table) if mmu in roots), None)


def assert_told(state: State, seen: Observation) -> None:
    """The state is what the observation says of the end."""
    cached = {pa for cache in seen.caches for pa in cache.pages}
    assert state.tables.keys() == seen.pages.keys() - cached
    for pa, entries in state.tables.items():
        assert entries == {at: entry for at, entry in enumerate(seen.pages[pa].entries) if entry}
        assert state.references[pa] == seen.pages[pa].refcount
    root = last_root(seen)
    if root is not None and root.level != sane_level(root):  # 6.1 tells of a start level that is none
        assert state.tree is None
    elif root is None or state.tree is None:
        assert root is None
        assert state.tree is None
    else:
        assert state.tree[:4] == (root.pa, root.pages, root.level, root.ia_bits)
        assert state.all_maplets == maplets(tree_of(root, seen), seen.machine)


def seeds_of(model: Model) -> Iterator[tuple[Path, Program]]:
    for path in SEEDS:
        program = read(path)
        if refusal(model, program) is None:
            yield path, program


@pytest.mark.parametrize("version", MODELLED)
def test_the_last_state_is_what_the_side_tells_after_a_seed(version: str) -> None:
    model = Model(version)
    for _, program in seeds_of(model):
        seen = model.observe(program)
        *_, last = transitions(program, seen)
        assert_told(last.after, seen)


@pytest.mark.parametrize("granule", GRANULES, ids=lambda one: one.name)
@pytest.mark.parametrize("version", MODELLED)
def test_the_last_state_is_what_the_side_tells_after_a_generated_program(version: str, granule: Granule) -> None:
    model = Model(version)
    dialect = dialect_for(model.capabilities, granule)
    for number in range(GENERATED):
        program = decode(fresh(Random(number), dialect), dialect)
        seen = model.observe(program)
        steps = [*transitions(program, seen)]
        assert_told(steps[-1].after, seen)
        assert [step.record for step in steps] == list(seen.records)


def test_each_op_begins_where_the_one_before_it_ended() -> None:
    steps = steps_of(OWNED + "unmap ipa=0x0 size=8K\n")
    assert [step.op.name for step in steps] == ["init", "map", "set_owner", "unmap"]
    assert all(later.before is earlier.after for earlier, later in pairwise(steps))
    assert steps[0].before.tree is None


def test_a_state_keeps_what_it_saw() -> None:
    _, mapped, owned, unmapped = steps_of(OWNED + "unmap ipa=0x0 size=8K\n")
    assert [str(one) for one in mapped.after.all_maplets] == ["0x0-0x2000 -> 0x80000000 rw normal write-back"]
    assert [str(one) for one in owned.after.all_maplets] == [
        "0x0-0x1000 annotated 0x4",
        "0x1000-0x2000 -> 0x80001000 rw normal write-back",
    ]
    assert unmapped.after.all_maplets == []
    assert mapped.after.reachable > unmapped.after.reachable


def test_an_op_tells_what_it_changed() -> None:
    *_, owned = steps_of(OWNED)
    assert [str(change) for change in owned.changes] == [
        "0x0-0x1000: -> 0x80000000 rw normal write-back, then annotated 0x4"
    ]


def test_pages_given_back_are_told_and_whether_an_entry_led_there() -> None:
    *_, unmapped = steps_of(PAGES + "unmap ipa=0x0 size=8K\n")
    freed = [page for page in unmapped.before.tables if page not in unmapped.after.tables]
    assert freed
    assert sorted(one.page for one in unmapped.freed) == sorted(freed)
    assert not any(one.is_reachable for one in unmapped.freed)


def test_what_the_program_writes_itself_is_told_from_there_on() -> None:
    steps = steps_of(PLANTED + "get_leaf ipa=0x0\n")
    assert [step.tampered for step in steps] == [False, False, True, True]


def test_access_flags_that_the_mmu_sets_are_in_the_states() -> None:
    program = read(next(path for path in SEEDS if path.stem == "guest_ages_by_itself"))
    reads = [step for step in transitions(program, Model().observe(program)) if step.op.name == "read"]
    assert reads
    for step in reads:
        assert [change.after is not None and change.after.memory is not None and change.after.memory.is_young
                for change in step.changes] == [True]  # fmt: skip
