"""All contracts, by family: each module named here is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.observation.layout import Observation
from harness.program.program import Program
from harness.verdict.contracts import accounting, guest, hyp, maintenance, ownership, table, unlinked, vmid, vtcr, walk
from harness.verdict.contracts.contract import Contract, Contracts, Coverage, Violation
from harness.verdict.contracts.replay import transitions

FAMILIES: Final[Mapping[str, tuple[Contract, ...]]] = {
    module.__name__.rpartition(".")[2]: tuple(one for one in vars(module).values() if isinstance(one, Contract))
    for module in (accounting, ownership, table, maintenance, walk, unlinked, vtcr, guest, hyp, vmid)
}
CONTRACTS: Final = Contracts([one for family in FAMILIES.values() for one in family])


def violations(program: Program, observation: Observation, coverage: Coverage | None = None) -> list[Violation]:
    """What one side broke while it ran a program, in order. `coverage` counts what was asked."""
    return [
        broken for transition in transitions(program, observation) for broken in CONTRACTS.broken(transition, coverage)
    ]
