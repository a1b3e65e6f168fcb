"""The ways to record owners that seed 000 weighs, held against the contracts that all kernels are held against."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest
from contract_cases import NO_FWB, PAGES, program_of

from harness.model.executor import MODELLED, Model
from harness.observation.events import DCACHE, each_event
from harness.program.text import read
from harness.verdict.contracts.families import violations
from pgtable import OWNERSHIPS

SEEDS: Final = Path(__file__).parents[2] / "corpora" / "seeds"
PROGRAMS: Final = tuple(
    SEEDS / f"owner_{name}.s2"
    for name in ("across_blocks", "given_back", "handover", "page_taken_back", "zero_or_unmap")
)
TRANSLATES: Final = {"an-owned-range-translates-nothing"}
FORGETS: Final = {"annotations-outlive-what-does-not-name-them", "outside-its-range-memory-only-goes"}
"""An owner of a block is forgotten where one page of it is taken back."""
BROKEN: Final[Mapping[str, set[str]]] = {
    **dict.fromkeys(("prot-none", "flag", "minus-one", "minus-one-advanced"), FORGETS),
    **dict.fromkeys(("unmap-by-owner", "unmap-by-owner-cleaned", "bit-63", "bit-63-unchecked"), FORGETS),
    "nonzero-unmap": FORGETS,
    "nonzero": FORGETS | TRANSLATES,
}


@pytest.mark.parametrize("way", OWNERSHIPS)
def test_what_a_way_breaks(way: str) -> None:
    model = Model(f"6.12+{way}")
    broken = {
        one.contract.name for program in map(read, PROGRAMS) for one in violations(program, model.observe(program))
    }
    assert broken == BROKEN.get(way, set())


@pytest.mark.parametrize("way", OWNERSHIPS)
def test_what_unmap_leaves_unclean(way: str) -> None:
    """The thread: with the right cache maintenance unmap could be re-expressed by set_owner(0). It keeps its promises
    then, but for the tables that it does not free."""
    program = program_of(f"{NO_FWB}{PAGES}unmap ipa=0x0 size=8K\n")
    broken = {one.contract.name for one in violations(program, Model(f"6.12+{way}").observe(program))}
    unclean = {"unmap-leaves-memory-clean"} if way == "unmap-by-owner" else set()
    tables = {"unmap-frees-tables-that-it-empties"} if OWNERSHIPS[way].unmaps_by_owner else set()
    assert broken == unclean | tables


@pytest.mark.parametrize("version", MODELLED)
def test_without_fwb_unmap_has_cleaned_and_owner_0_has_not(version: str) -> None:
    for op, cleaned in (("unmap ipa=0x0 size=8K", 2), ("set_owner ipa=0x0 size=8K mc=4 owner=0", 0)):
        program = program_of(f"{NO_FWB}{PAGES}{op}\n")
        last = Model(version).observe(program).records[-1]
        assert last.ret == 0
        assert sum(event.kind == DCACHE for event in each_event(last.events)) == cleaned
