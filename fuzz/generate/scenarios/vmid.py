"""VMs come, run, and go on several CPUs, until VMIDs run out.

These steps are played where VMIDs are few and allocated (`vmid_scenario`)."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import Place
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.kinds.small import VMID_OWNERS
from harness.program.ops import op_of

_ENDS: Final = 0.05
"""How many times KVM ends in the middle, when VMIDs are allocated."""


def _cpu(at: Place, choice: Random) -> int:
    return choice.randrange(at.cpus)


def _owner(choice: Random) -> int:
    return choice.randrange(VMID_OWNERS)


@step(weight=1, uses=("vmid_init", "vmid_free"), vmids=True)
def allocate(_at: Place, choice: Random) -> list[Op]:
    """KVM starts, though it may have; or it does not start after all."""
    return [op_of("vmid_free" if choice.random() < _ENDS else "vmid_init")]


@step(weight=20, uses=("vmid_update", "vmid_clear_active", "vmid_look"), vmids=True)
def switch(at: Place, choice: Random) -> list[Op]:
    """A CPU's vCPU is scheduled out, perhaps, and one of another VM or the same runs there or on another CPU."""
    cpu, owner = _cpu(at, choice), _owner(choice)
    ops = [op_of("vmid_update", cpu=cpu, owner=owner)]
    draw = choice.random()
    if draw < 0.3:
        ops.insert(0, op_of("vmid_clear_active", cpu=cpu))
    elif draw < 0.4:
        ops.append(op_of("vmid_clear_active", cpu=cpu))
    elif draw < 0.5:
        ops.append(op_of("vmid_look", cpu=_cpu(at, choice), owner=_owner(choice)))
    return ops


@step(weight=14, uses=("vmid_new", "vmid_update"), vmids=True)
def use_up(at: Place, choice: Random) -> list[Op]:
    """VMs are made and run on one CPU, one after the other, while others go on running what they run."""
    cpu, first = _cpu(at, choice), _owner(choice)
    ops = []
    for number in range(choice.randint(1, 5)):
        owner = (first + number) % VMID_OWNERS
        ops += [op_of("vmid_new", owner=owner), op_of("vmid_update", cpu=cpu, owner=owner)]
    return ops


@step(weight=10, uses=("vmid_race", "vmid_update"), vmids=True)
def roll_over_meanwhile(at: Place, choice: Random) -> list[Op]:
    """A CPU switches between VMs, and in the middle of it another CPU takes the last VMID."""
    cpu = _cpu(at, choice)
    other = (cpu + choice.randrange(1, at.cpus)) % at.cpus if at.cpus > 1 else cpu
    return [
        op_of("vmid_race", nth=choice.choice((1, 1, 1, 2)), cpu=other, owner=_owner(choice)),
        op_of("vmid_update", cpu=cpu, owner=_owner(choice)),
        op_of("vmid_update", cpu=cpu, owner=_owner(choice)),
    ]
