"""How much of what is promised the seeds and generated programs ask for: each contract, and each relation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import islice
from random import Random
from typing import Final, NamedTuple

from seeds import SEEDS, refusal

from fuzz.generate.fresh import fresh
from harness.model.executor import MODELLED, Model
from harness.program.codec import decode, dialect_for
from harness.program.granule import GRANULES
from harness.program.program import Program
from harness.program.text import read
from harness.verdict.contracts.contract import Coverage
from harness.verdict.contracts.families import violations
from harness.verdict.contracts.metamorphic import RELATIONS
from harness.verdict.contracts.replay import transitions

EACH: Final = 50
"""Generated programs for each modelled version and granule; their seeds are the numbers from 0 on."""
GENERATED: Final = EACH * len(MODELLED) * len(GRANULES)


class Exercised(NamedTuple):
    """What was asked in some programs; `related` are programs of which a relation made others, by its name."""

    contracts: Coverage
    related: Counter[str]


def _exercised(programs: Iterator[tuple[Model, Program]]) -> Exercised:
    found = Exercised(Coverage(), Counter())
    for model, program in programs:
        seen = model.observe(program)
        violations(program, seen, found.contracts)
        steps = [*transitions(program, seen)]
        for relation in RELATIONS:
            found.related[relation.name] += any(islice(relation.make(program, steps), 1))
    return found


@cache
def by_generated() -> Exercised:
    """Of inputs from nothing, as a run without corpora begins with."""
    return _exercised(_generated())


@cache
def by_seeds() -> Exercised:
    """Of corpora/seeds, on each version that can run them."""
    return _exercised(_seeds())


def _generated() -> Iterator[tuple[Model, Program]]:
    for version in MODELLED:
        model = Model(version)
        for granule in GRANULES:
            dialect = dialect_for(model.capabilities, granule)
            for seed in range(EACH):
                yield model, decode(fresh(Random(seed), dialect), dialect)


def _seeds() -> Iterator[tuple[Model, Program]]:
    for version in MODELLED:
        model = Model(version)
        for path in SEEDS:
            program = read(path)
            if refusal(model, program) is None:
                yield model, program
