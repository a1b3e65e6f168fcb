"""Contracts against every bug that is planted in the kernel: how many they flag with no second side, and whom a report
blames where there is one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from planted import Mutant, load_all, sides_of

from fuzz.generate.fresh import fresh
from harness.errors import CannotRun
from harness.findings.promises import blamed
from harness.observation.executor import Executor
from harness.program.codec import decode, dialect_for
from harness.program.granule import granule_named
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Suspicion

PROGRAMS = 200
"""Generated, for each bug: few, for some take thousands to show."""
DIVERGENCES = 3
"""Looked at, of each bug."""
NAMES = ("model", "kernel")


class Came(NamedTuple):
    """What came of one planted bug: what the kernel alone was flagged for, and who was blamed for a divergence, how
    often."""

    flagged: str
    blamed: Counter[str]


def programs(mutant: Mutant, sides: tuple[Executor, Executor]) -> Iterator[Program]:
    if mutant.shown_by is not None:
        yield parse(mutant.shown_by.lstrip())
    dialect = dialect_for(sides[0].capabilities & sides[1].capabilities, granule_named(mutant.granule))
    for seed in range(PROGRAMS):
        yield decode(fresh(Random(seed), dialect), dialect)


def flagged_alone(judge: Judge, program: Program) -> str:
    seen = judge.suspect(program)
    return seen.what if isinstance(seen, Suspicion) else ""


def blamed_for(judge: Judge, program: Program) -> str | None:
    """Whom the report blames for how the sides differ, "nobody" where it is none; None where they do not."""
    whole = judge.differing(program)
    verdict = None if whole is None or whole.death is not None else judge.quick(program, "divergence")
    if verdict is None or verdict.kind != "divergence":
        return None
    return "".join(blamed(program, verdict, NAMES)) or "nobody"


def what_comes_of(mutant: Mutant, work: Path) -> Came:
    left, right = sides_of(mutant, work)
    flagged, names = "", Counter[str]()
    with closing(left.open()) as model, closing(right.open_for(granule_named(mutant.granule))) as kernel:
        alone, both = Judge(kernel, kernel), Judge(model, kernel)
        for program in programs(mutant, (model, kernel)):
            try:
                flagged = flagged or flagged_alone(alone, program)
                if names.total() < DIVERGENCES and (name := blamed_for(both, program)) is not None:
                    names[name] += 1
            except CannotRun:
                continue
            if flagged and names.total() == DIVERGENCES:
                break
    return Came(flagged, names)


@pytest.mark.mutants
def test_contracts_alone_flag_half_of_the_bugs_and_blame_the_kernel(tmp_path: Path) -> None:
    came: dict[str, Came] = {}
    for mutant in load_all():
        if not mutant.is_in_model:
            (work := tmp_path / mutant.name).mkdir()
            one = came[mutant.name] = what_comes_of(mutant, work)
            print(f"{mutant.name}: {one.flagged or 'not flagged'}; blamed: {dict(one.blamed)}", flush=True)
    flagged = [one for one in came.values() if one.flagged]
    print(f"{len(flagged)} of {len(came)} flagged by contracts alone")
    assert len(flagged) * 2 >= len(came)
    assert not [name for name, one in came.items() if one.blamed.keys() - {"kernel", "nobody"}]
    both = [one for one in flagged if one.blamed]
    named = sum("kernel" in one.blamed for one in both)
    print(f"of {len(both)} that contracts flag and that differ from the model, the report names the kernel in {named}")
    assert named * 3 >= len(both) * 2
