"""Inputs from nothing: scenarios, and random choices. Deterministic by the generator passed in."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from fuzz.generate.at_random import random_machine, random_op
from fuzz.generate.handles import Handles
from fuzz.generate.scenario import hyp_scenario, vm_scenario, vmid_scenario, whole_block_scenario
from harness.program.codec import FULL, Dialect, header_of
from harness.program.parts import Parts

_RANDOM_OPS: Final = (6, 24)
"""The fewest and the most that an input made of random choices has."""
_HYP_SHARE: Final = 0.15
"""Of inputs from nothing, those for stage 1: it has less code than stage 2."""
_WHOLE_BLOCKS: Final = 1 / 20_000
"""Of inputs from nothing, those that split a whole block of level 1: each takes as long as some hundred others."""

_VMIDS: Final = 0.06
"""Of inputs from nothing, those in which VMIDs are allocated."""


def fresh(choice: Random, dialect: Dialect = FULL, stages: Sequence[int] = ()) -> bytes:
    """An input from nothing, for one of these stages or any."""
    stage = choice.choice(stages) if stages else 1 if choice.random() < _HYP_SHARE else 2
    if not dialect.capabilities.has("stage"):
        stage = 2
    draw = choice.random()
    if draw < _WHOLE_BLOCKS and stage == 2 and dialect.granule.has_large_blocks and dialect.capabilities.has("split"):
        return whole_block_scenario(choice, dialect)
    if draw < _VMIDS and stage == 2 and dialect.capabilities.has("vmid_init", "vmid_update"):
        return vmid_scenario(choice, dialect)
    if draw < 0.5:
        return hyp_scenario(choice, dialect) if stage == 1 else vm_scenario(choice, dialect)
    return random_input(choice, dialect, stage)


def random_input(
    choice: Random, dialect: Dialect = FULL, stage: int = 2, count: tuple[int, int] = _RANDOM_OPS
) -> bytes:
    """Random choices all the way, but that ops use what others made where they can. `count` is the fewest and the most
    that there are of them."""
    header = header_of(random_machine(choice, dialect, stage), dialect)
    ops = [random_op(choice, dialect, stage) for _ in range(choice.randint(*count))]
    parts = Parts(header, stage, ops, dialect)
    Handles().settle(parts, choice)
    return parts.join()
