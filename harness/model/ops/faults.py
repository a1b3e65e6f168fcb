"""What goes wrong while the kernel works: no memory, and others who write entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.model.run import ProgramRun


def fail_alloc(run: ProgramRun, nth: int) -> int:
    run.boundary.allocs_to_failure = nth
    return 0


def plant(run: ProgramRun, ipa: int, level: int, pte: int) -> int:
    ret, pa = run.pgt.locate(ipa, level)
    return ret or run.boundary.plant(pa, level, pte)


def race(run: ProgramRun, nth: int, pte: int) -> int:
    run.boundary.race = nth, pte
    return 0
