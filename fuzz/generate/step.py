"""A step of a scenario: a few operations that belong together, as a host, a guest or hyp causes them.

A family's steps stand in `fuzz/generate/scenarios/<family>.py`, each a function with `@step(...)` before it.
Nothing else lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

from fuzz.generate.place import Place
from harness.program.definition import Op

Play = Callable[[Place, Random], list[Op]]


@dataclass(frozen=True, slots=True)
class Step:
    """`play` makes the ops. `weight` is how often scenarios choose it, out of all weights of a stage; `uses` are the
    operations that it is nothing without: where a side lacks one, it is left out. `dear` ones fill whole tables, which
    costs as much as all the rest of a scenario, those with `guest` are played only where one runs, and those with
    `vmids` only where these are allocated."""

    name: str
    play: Play
    weight: int
    uses: Sequence[str]
    stages: Sequence[int]
    dear: bool
    guest: bool
    vmids: bool


def step(
    weight: int,
    uses: Sequence[str],
    stages: Sequence[int] = (2,),
    dear: bool = False,
    guest: bool = False,
    vmids: bool = False,
) -> Callable[[Play], Step]:
    """Make a step of a function, which gives it its name."""

    def make(play: Play) -> Step:
        return Step(play.__name__, play, weight, uses, stages, dear, guest, vmids)

    return make
