"""Contracts: each can be broken and says by what, asks nothing where its premise does not hold, and is silent on what
Linux does, but for what is listed."""

from __future__ import annotations

from collections.abc import Mapping, Set
from pathlib import Path

import pytest
from contract_cases import CASES, PAGES, RELATION_CASES, program_of
from executors import Rewriting
from seeds import SEEDS, refusal

from harness.model.executor import MODELLED, Model
from harness.observation.executor import Executor
from harness.program.program import Program
from harness.program.text import read
from harness.verdict.contracts.contract import Contract, Coverage
from harness.verdict.contracts.families import CONTRACTS, violations
from harness.verdict.contracts.metamorphic import RELATIONS, Relation, broken_relations
from harness.verdict.contracts.states import transitions
from reference.link.executor import ByGranule

NO_MEMORY = "map-of-no-memory-fails"
KNOWN_IN_SEEDS: Mapping[str, Set[str]] = {
    "destroy_52_bits": {NO_MEMORY},
    "hyp_hvhe": {"hyp-map-shows-what-was-asked"},
    "hyp_hvhe_executes": {"hyp-map-shows-what-was-asked", "hyp-pte-prot-tells-the-permissions"},
    "ac03_workaround": {"the-register-lets-hardware-set-access-flags"},
    "no_hw_af": {"the-register-lets-hardware-set-access-flags"},
    "range_wrapping": {"a-range-that-wraps-is-refused"},
    "relax_permissions": {"device-memory-cannot-be-executed"},
    "hyp_map_over_block": {"hyp-map-never-replaces", "references-are-entries"},
    "hyp_unmap_ends": {"hyp-unmap-stays-in-its-range", "hyp-unmap-tells-what-it-unmapped"},
    "kernels_differ": {NO_MEMORY},
    "lpa2": {NO_MEMORY},
    "map_flags": {NO_MEMORY},
    "no_fwb_what_cleans": {NO_MEMORY},
    "pages_64k": {NO_MEMORY},
    "pages_64k_52_bits": {NO_MEMORY},
    "phys_crossing": {NO_MEMORY},
    "phys_highest": {NO_MEMORY},
    "phys_limit": {NO_MEMORY},
    "split_forgets": {"split-changes-no-translation"},
    "unlinked_refused": {"an-unlinked-table-is-full"},
}
"""What Linux breaks in a seed program, on every kernel that can run it. docs/violations.md has what to make of it."""
SLOW = ("split_whole_block_1g", "split_whole_block_no_fwb")
"""Seeds that many pages make slow, for a relation runs them several times."""

each_contract = pytest.mark.parametrize("contract", CONTRACTS.all, ids=lambda one: one.name)
each_relation = pytest.mark.parametrize("relation", RELATIONS, ids=lambda one: one.name)


def test_every_contract_has_a_case() -> None:
    assert CASES.keys() == CONTRACTS.by_name.keys()


@each_contract
def test_a_broken_contract_is_named(contract: Contract) -> None:
    case = CASES[contract.name]
    program = program_of(case.program)
    seen = Model().observe(program)
    assert contract not in [one.contract for one in violations(program, seen)]
    broken = [one for one in violations(program, case.broken_by(seen)) if one.contract == contract]
    assert broken
    assert all(one.sentence and one.op in one.bucket for one in broken)


@each_contract
def test_where_its_premise_does_not_hold_nothing_is_asked(contract: Contract) -> None:
    case, coverage = CASES[contract.name], Coverage()
    program = program_of(case.program if case.unasked is None else case.unasked)
    violations(program, Model().observe(program), coverage)
    asked, held = coverage.asked[contract.name], coverage.held[contract.name]
    assert asked
    assert held == asked if case.unasked is None else held == 0


@each_contract
def test_a_contract_cites_where_its_promise_is_made(contract: Contract) -> None:
    assert contract.promise.endswith(".")
    assert contract.source


def test_every_relation_has_a_case() -> None:
    assert RELATION_CASES.keys() == {relation.name for relation in RELATIONS}


@each_relation
def test_a_broken_relation_is_named(relation: Relation) -> None:
    case = RELATION_CASES[relation.name]
    program = program_of(case.program)
    good, wrong = Model(), Rewriting(case.wrong)
    assert not broken_relations(good, program, good.observe(program))
    broken = broken_relations(wrong, program, wrong.observe(program))
    assert relation in [one.relation for one in broken]
    assert all("must come to the same" in one.sentence for one in broken)


@each_relation
def test_where_its_premise_does_not_hold_a_relation_makes_no_program(relation: Relation) -> None:
    case = RELATION_CASES[relation.name]
    program, unasked = program_of(case.program), program_of(case.unasked)
    assert list(relation.make(program, [*transitions(program, Model().observe(program))]))
    assert not list(relation.make(unasked, [*transitions(unasked, Model().observe(unasked))]))


@pytest.mark.parametrize("op", ["plant ipa=0x400000 level=2 pte=0x0", "fail_alloc nth=9"])
def test_no_relation_is_asked_of_a_program_with_others_in_it(op: str) -> None:
    program = program_of(f"{PAGES}{op}\n")
    for case in RELATION_CASES.values():
        wrong = Rewriting(case.wrong)
        assert not broken_relations(wrong, program, wrong.observe(program))


@each_relation
def test_a_relation_says_what_it_promises(relation: Relation) -> None:
    assert relation.promise.endswith(".")


@pytest.mark.parametrize("version", MODELLED)
def test_seeds_keep_all_contracts_but_what_is_listed_on_the_model(version: str) -> None:
    assert _broken_in_seeds(Model(version)) == _listed(Model(version))


@pytest.mark.slow  # for on every seed the sides agree, as tests/harness/test_seeds.py says
def test_seeds_keep_all_contracts_but_what_is_listed_on_the_kernel(every_kernel: ByGranule) -> None:
    assert _broken_in_seeds(every_kernel) == _listed(every_kernel)


def _broken_in_seeds(side: Executor) -> dict[str, set[str]]:
    found = {}
    for path, program in _seeds(side):
        broken = {one.contract.name for one in violations(program, side.observe(program))}
        if broken:
            found[path.stem] = broken
    return found


def _listed(side: Executor) -> dict[str, Set[str]]:
    runs = {path.stem for path, _ in _seeds(side)}
    return {name: broken for name, broken in KNOWN_IN_SEEDS.items() if name in runs}


def _seeds(side: Executor) -> list[tuple[Path, Program]]:
    return [(path, program) for path in SEEDS if refusal(side, program := read(path)) is None]


def test_every_listed_seed_is_there() -> None:
    assert KNOWN_IN_SEEDS.keys() <= {path.stem for path in SEEDS}


def test_seeds_keep_all_relations() -> None:
    model = Model()
    for path, program in _seeds(model):
        if path.stem not in SLOW:
            assert not broken_relations(model, program, model.observe(program)), path.stem
