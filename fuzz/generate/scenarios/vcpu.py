"""vCPUs of a VM take turns on its CPUs, under one MMU or under several."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import RW, RWX, Place, map_op, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.guest import WINDOW
from harness.program.kinds import MMU
from harness.program.ops import op_of

_STAYS: Final = 0.3
"""How often a step ends while its vCPU is loaded."""
_FIRST_VMID: Final = 8
"""Of MMUs that are made here: those of other steps have lower ones, mostly."""


@step(weight=5, uses=("vcpu_load_first", "vcpu_put"))
def take_turns(at: Place, choice: Random) -> list[Op]:
    """vCPUs run on one CPU, one after the other, or the same one again; the table changes meanwhile."""
    cpu, vcpu = choice.randrange(at.cpus), choice.randrange(3)
    ops = _all_put(at)
    for _ in range(choice.randint(2, 4)):
        ops += [op_of("vcpu_load_first", cpu=cpu, vcpu=vcpu), *_changes(at, choice), op_of("vcpu_put", cpu=cpu)]
        vcpu = choice.choice((vcpu, vcpu ^ 1, vcpu ^ 1))
    return _ended(at, ops, choice)


@step(weight=60, uses=("vcpu_load_first", "vcpu_put", "vcpu_read"), guest=True)
def read_in_turns(at: Place, choice: Random) -> list[Op]:
    """vCPUs on one CPU read through their own stage 1, at one virtual address, which is another page of memory for
    each."""
    cpu, page = choice.randrange(at.cpus), WINDOW - at.memory + choice.choice((0, 1, 2)) * at.page
    vcpus = choice.choice(((0, 1), (0, 1), (1, 0), (2, 3), (1, 3)))
    pages = [page ^ (vcpus[0] ^ vcpu) << 30 for vcpu in vcpus]
    ops = [op_of("mmu_first"), *_all_put(at)]
    ops += [
        op_of("map", ipa=one, size=at.page, phys=page + at.memory + place * at.page, prot=RW, mc=5)
        for place, one in enumerate(pages)
    ]
    for _ in range(choice.randint(2, 4)):
        which = choice.randrange(2)
        ops += [op_of("vcpu_load_first", cpu=cpu, vcpu=vcpus[which]), op_of("vcpu_read", ipa=pages[which])]
        ops += [*_changes(at, choice), op_of("vcpu_put", cpu=cpu)]
    return _ended(at, ops, choice)


@step(weight=4, uses=("vcpu_load_first", "vcpu_put"))
def migrate(at: Place, choice: Random) -> list[Op]:
    """A vCPU goes to another CPU and comes back; in the meantime, perhaps, another one ran where it was."""
    here, vcpu = choice.randrange(at.cpus), choice.randrange(3)
    there = (here + 1) % at.cpus
    ops = _all_put(at) + _turn(here, vcpu) + _turn(there, vcpu)
    if choice.random() < 0.5:
        ops += _turn(choice.choice((here, there)), vcpu ^ 1)
    return _ended(at, [*ops, *_changes(at, choice), *_turn(here, vcpu)], choice)


@step(weight=4, uses=("vcpu_load", "vcpu_load_first", "vcpu_put", "mmu_init", "mmu_share"))
def change_regime(at: Place, choice: Random) -> list[Op]:
    """A guest hypervisor's vCPUs run under the VM's first MMU and under another one, on the same CPUs. That has a table
    of its own, or shares one."""
    number, cpu, vcpu = at.make(MMU), choice.randrange(at.cpus), choice.randrange(2)
    ops = [*_all_put(at), op_of(choice.choice(("mmu_init", "mmu_share")), vmid=_FIRST_VMID + number)]
    for _ in range(choice.randint(2, 5)):
        ops += _turn(cpu, vcpu, choice.choice((None, number, number)))
        ops += _changes(at, choice) if choice.random() < 0.3 else []
        cpu, vcpu = choice.choice((cpu, cpu, (cpu + 1) % at.cpus)), choice.choice((vcpu, vcpu ^ 1))
    if choice.random() < 0.3:
        ops += [op_of("mmu_use", mmu=number), *_changes(at, choice)]
    if choice.random() < 0.3:
        ops.append(op_of("mmu_free", mmu=number))
    return _ended(at, ops, choice)


@step(weight=7, uses=("vcpu_load", "vcpu_load_first", "vcpu_put", "mmu_init", "vmid_update"), vmids=True)
def run_with_allocated_vmids(at: Place, choice: Random) -> list[Op]:
    """vCPUs run under MMUs that get their VMIDs as they are run, until these run out."""
    number, cpu, vcpu = at.make(MMU), choice.randrange(at.cpus), choice.randrange(2)
    ops = [*_all_put(at), op_of("mmu_init", vmid=choice.getrandbits(16))]
    for _ in range(choice.randint(2, 4)):
        ops += _turn(cpu, vcpu, choice.choice((None, number, choice.randint(0, number))))
        if choice.random() < 0.4:
            ops.append(op_of("vmid_update", cpu=choice.randrange(at.cpus), owner=choice.randrange(8)))
        cpu, vcpu = choice.choice((cpu, choice.randrange(at.cpus))), choice.choice((vcpu, vcpu ^ 1))
    return _ended(at, ops, choice)


def _turn(cpu: int, vcpu: int, mmu: int | None = None) -> list[Op]:
    """A vCPU runs on a CPU for a while, under an MMU or the first one."""
    if mmu is None:
        load = op_of("vcpu_load_first", cpu=cpu, vcpu=vcpu)
    else:
        load = op_of("vcpu_load", cpu=cpu, vcpu=vcpu, mmu=mmu)
    return [load, op_of("vcpu_put", cpu=cpu)]


def _changes(at: Place, choice: Random) -> list[Op]:
    page = some_page(at, choice)
    if choice.random() < 0.5:
        return []
    ops = [map_op(at, page, at.page, choice.choice((RW, RWX)), choice)]
    return ops if choice.random() < 0.5 else [*ops, op_of("unmap", ipa=page, size=at.page)]


def _all_put(at: Place) -> list[Op]:
    """What earlier steps have left loaded is put."""
    ops = [op_of("vcpu_put", cpu=cpu) for cpu in sorted(at.loaded)]
    at.loaded.clear()
    return ops


def _ended(at: Place, ops: list[Op], choice: Random) -> list[Op]:
    """The last vCPU may stay: what follows finds it."""
    if ops[-1].name != "vcpu_put" or choice.random() >= _STAYS:
        return ops
    at.loaded.add(ops[-1].value("cpu"))
    return ops[:-1]
