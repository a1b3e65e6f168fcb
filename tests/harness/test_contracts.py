"""Contracts: each can be broken and says by what, asks nothing where its premise does not hold, and is silent on what
Linux does, but for what is listed."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from pathlib import Path

import docs_tables
import pytest
from contract_cases import CASES, PAGES, RELATION_CASES, program_of
from executors import Rewriting
from seeds import SEEDS, refusal
from specification import GENERATED, by_generated, by_seeds

from harness.model.executor import MODELLED, Model
from harness.observation.executor import Executor
from harness.program.program import Program
from harness.program.text import parse, read
from harness.verdict import contracts as package
from harness.verdict.contracts.contract import Contract, Coverage
from harness.verdict.contracts.families import CONTRACTS, violations
from harness.verdict.contracts.listed import kernel_of, listed, read_listed
from harness.verdict.contracts.metamorphic import RELATIONS, Relation, broken_relations
from harness.verdict.contracts.replay import transitions
from reference.link.executor import ByGranule

LISTED = read_listed(Path(__file__).parents[2] / "corpora" / "violations")
FEW = 20
"""Counts that differ by no more are alike."""
SLOW = ("split_whole_block_1g", "split_whole_block_no_fwb")
"""Seeds that many pages make slow, for a relation runs them several times."""

each_contract = pytest.mark.parametrize("contract", CONTRACTS.all, ids=lambda one: one.name)
each_relation = pytest.mark.parametrize("relation", RELATIONS, ids=lambda one: one.name)


def test_every_contract_has_a_case() -> None:
    assert CASES.keys() == CONTRACTS.by_name.keys()


def test_every_contract_that_is_written_is_asked() -> None:
    """Also of a family that nobody has named in families.py."""
    written = set()
    for found in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        written |= {one.name for one in vars(import_module(found.name)).values() if isinstance(one, Contract)}
    assert written == CONTRACTS.by_name.keys()


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
def test_no_contract_is_vacuous(contract: Contract) -> None:
    """Seeds or generated programs keep it where there was something to keep."""
    assert by_seeds().contracts.held[contract.name] + by_generated().contracts.held[contract.name]


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
def test_no_relation_is_vacuous(relation: Relation) -> None:
    assert by_seeds().related[relation.name]
    assert by_generated().related[relation.name]


@each_relation
def test_a_relation_says_what_it_promises(relation: Relation) -> None:
    assert relation.promise.endswith(".")


@pytest.mark.parametrize("version", MODELLED)
def test_seeds_keep_all_contracts_but_what_is_listed_on_the_model(version: str) -> None:
    assert not _broken_in_seeds(Model(version))


@pytest.mark.slow  # for on every seed the sides agree, as tests/harness/test_seeds.py says
def test_seeds_keep_all_contracts_but_what_is_listed_on_the_kernel(every_kernel: ByGranule) -> None:
    assert not _broken_in_seeds(every_kernel)


def _broken_in_seeds(side: Executor) -> dict[str, list[str]]:
    """What is not listed, by the seed's name."""
    kernel, found = kernel_of(side.identity), {}
    for path, program in _seeds(side):
        broken = violations(program, side.observe(program))
        unlisted = [one.bucket for one in broken if listed(one, [kernel], LISTED) is None]
        if unlisted:
            found[path.stem] = unlisted
    return found


def _seeds(side: Executor) -> list[tuple[Path, Program]]:
    return [(path, program) for path in SEEDS if refusal(side, program := read(path)) is None]


def test_seeds_keep_all_relations() -> None:
    model = Model()
    for path, program in _seeds(model):
        if path.stem not in SLOW:
            assert not broken_relations(model, program, model.observe(program)), path.stem


def test_specification_coverage_is_about_what_the_page_says() -> None:
    """`make docs` writes it anew. What is generated changes with every operation, so that some may be off."""
    text = (docs_tables.FOLDER / "contracts.md").read_text()
    assert f"Of {GENERATED} programs" in text
    told = _counts(docs_tables.parts(text)["coverage"])
    now = _counts(docs_tables.coverage())
    assert told.keys() == now.keys()
    off = {name: (told[name], now[name]) for name in now if not all(map(_is_about, told[name], now[name]))}
    assert not off


def _counts(table: str) -> dict[str, tuple[int, ...]]:
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if "`" in line]
    return {name: tuple(int(count.replace(",", "")) for count in counts) for name, *counts in rows}


def _is_about(told: int, now: int) -> bool:
    return abs(told - now) <= max(FEW, told // 2)


def test_a_table_that_there_is_no_memory_for_is_not_installed() -> None:
    """Found by a smoke: of three tables that the visits were to install, the last was not, and the first took the place
    of another table."""
    text = "s2 1\npool_pages = 7\nia_bits = 39\nset_owner ipa=0x0 size=4K mc=4 owner=0\n"
    program = parse(text + "walk ipa=0x1ff000 size=8K flags=leaf+table_pre visitor=table\n")
    assert not violations(program, Model().observe(program))


@pytest.mark.parametrize(
    "text",
    [
        # A table's memory runs out before the walk comes to what is mapped.
        "s2 1\nstage = 1\n\nhyp_map va=0x80000000 size=4K phys=0x0 prot=rw\nfail_alloc nth=1\n"
        "hyp_map va=0x7ffff000 size=8K phys=0x100000 prot=rw\n",
        # The page was unmapped between the abort and its handling, which gives nothing for writing then.
        "s2 1\nguest = on\nia_bits = 32\n\nmemslot_add slot=0 ipa=0x0 size=2M phys=0x42000000\n"
        "fault ipa=0x1000 access=read\nmemslot_handle\nmemslot_log slot=0 logging=on\nfault ipa=0x1000 access=write\n"
        "unmap ipa=0x1000 size=4K\nmemslot_handle\n",
        # The annotated table of an MMU goes with it.
        "s2 1\nia_bits = 32\npool_pages = 64\n\nm1 = mmu_init vmid=2\nmmu_use mmu=m1\n"
        "set_owner ipa=0x1000 size=4K mc=4 owner=1\nmmu_free mmu=m1\n",
    ],
    ids=["no-memory-before-the-mapped", "unmapped-meanwhile", "annotated-and-freed"],
)
def test_contracts_that_smokes_found_too_strict(text: str) -> None:
    program = parse(text)
    assert not violations(program, Model().observe(program))
