"""Hyp's own stage 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pgtable import hyp_leaf_prot

if TYPE_CHECKING:
    from harness.model.run import ProgramRun


def hyp_map(run: ProgramRun, va: int, size: int, phys: int, prot: int) -> int:
    return run.hyp.map(va, size, phys, prot)


def hyp_unmap(run: ProgramRun, va: int, size: int) -> int:
    run.outs.append(run.hyp.unmap(va, size))
    return 0


def hyp_pte_prot(run: ProgramRun, pte: int) -> int:
    run.outs.append(hyp_leaf_prot(pte, run.fixed.features.hvhe))
    return 0
