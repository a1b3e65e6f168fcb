"""Which side breaks which promise: what each side's observation of a program breaks, set beside the other's."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from harness.observation.executor import Executor
from harness.observation.layout import Observation
from harness.program.program import Program
from harness.verdict.contracts.contract import Violation
from harness.verdict.contracts.families import violations
from harness.verdict.contracts.listed import Entry, kernel_of, listed, read_listed

KNOWN: Final = Path(__file__).resolve().parents[3] / "corpora" / "violations"
"""What is known of Linux; an installed s2fuzz has none."""


class Blame(NamedTuple):
    """Violations of the left side alone, of the right one alone, and of both."""

    left: tuple[Violation, ...]
    right: tuple[Violation, ...]
    both: tuple[Violation, ...]


def blame(program: Program, left: Observation, right: Observation) -> Blame:
    """Who breaks what in a program. A promise that both break in the same op is broken by both, wherever pages lie."""
    mine, theirs = violations(program, left), violations(program, right)
    keys = {_key(one) for one in mine} & {_key(one) for one in theirs}
    return Blame(
        tuple(one for one in mine if _key(one) not in keys),
        tuple(one for one in theirs if _key(one) not in keys),
        tuple(one for one in mine if _key(one) in keys),
    )


def _key(one: Violation) -> tuple[str, int]:
    return one.contract.name, one.record


def unlisted(several: Iterable[Violation], sides: Sequence[Executor]) -> list[Violation]:
    """Those that all of these sides commit, and of which no entry of `corpora/violations` knows that their kernels do.
    Proposed contracts are nobody's fault, and left out."""
    kernels = [kernel_of(side.identity) for side in sides]
    return [one for one in several if not one.contract.proposed and listed(one, kernels, known_entries()) is None]


def entry_of(violation: Violation) -> Entry | None:
    """The entry that knows of a violation, on whatever kernel."""
    return next((one for one in known_entries() if any(part.covers(violation) for part in one.breaks)), None)


def counts(violation: Violation) -> bool:
    """Whether who breaks a promise is to be blamed for it: not where it is only proposed, nor where Linux is known to
    break it, for then the other side may have mended it."""
    return not violation.contract.proposed and entry_of(violation) is None


def mended(path: Path, program: Program, side: Executor) -> str:
    """Where the program is an entry's of corpora/violations, which is for this side's kernel: what that no longer does,
    for people; else nothing. Raises TargetDied."""
    entry = next((one for one in known_entries() if one.program == path.resolve()), None)
    if entry is None or kernel_of(side.identity) not in entry.kernels:
        return ""
    found = violations(program, side.observe(program))
    if any(part.covers(one) for part in entry.breaks for one in found):
        return ""
    return f"known violation {entry.name}: {side.name} no longer breaks what its entry in corpora/violations names"


@functools.cache
def known_entries() -> tuple[Entry, ...]:
    """What is known. Raises BadInput where the files are damaged."""
    return read_listed(KNOWN)
