"""Contracts: each can be broken and says by what, asks nothing where its premise does not hold, and is silent on what
Linux does, but for what is listed."""

from __future__ import annotations

import pytest
from contract_cases import CASES, program_of

from harness.model.executor import Model
from harness.verdict.contracts.contract import Contract, Coverage
from harness.verdict.contracts.families import CONTRACTS, violations

each_contract = pytest.mark.parametrize("contract", CONTRACTS.all, ids=lambda one: one.name)


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
