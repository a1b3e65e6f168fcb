"""All contracts, by family: each module named here is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.observation.layout import Observation
from harness.program.program import Program
from harness.verdict.contracts import (
    accounting,
    guest,
    hyp,
    maintenance,
    memslot,
    ownership,
    table,
    unlinked,
    vcpu,
    vm,
    vmid,
    vtcr,
    walk,
)
from harness.verdict.contracts.contract import Contract, Contracts, Coverage, Violation
from harness.verdict.contracts.replay import transitions
from harness.verdict.tlb.judge import Judgement

FAMILIES: Final[Mapping[str, tuple[Contract, ...]]] = {
    module.__name__.rpartition(".")[2]: tuple(one for one in vars(module).values() if isinstance(one, Contract))
    for module in (accounting, ownership, table, maintenance, walk, unlinked, vtcr, guest, hyp, vm, vmid, memslot, vcpu)
}
CONTRACTS: Final = Contracts([one for family in FAMILIES.values() for one in family])


def violations(
    program: Program,
    observation: Observation,
    coverage: Coverage | None = None,
    judgement: Judgement | None = None,
) -> list[Violation]:
    """What one side broke while it ran a program, in order. `coverage` counts what was asked; `judgement` is that of
    the observation, if there is one already."""
    steps = transitions(program, observation, judgement)
    return [broken for transition in steps for broken in CONTRACTS.broken(transition, coverage)]
