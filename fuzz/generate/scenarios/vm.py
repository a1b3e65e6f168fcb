"""A VM has several stage-2 MMUs: a guest hypervisor's guests run under others than the guest hypervisor itself. And
there are several VMs."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import RW, RWX, Place, map_op, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.kinds import MMU
from harness.program.ops import op_of

_FIRST_VMID: Final = 2
"""The machine's own is 1, mostly."""
_ANY_VMID: Final = 0.1
_NARROWER: Final = 0.2
"""How many MMUs have fewer bits of address than the VM."""
_OF_OTHER_BITS: Final = 0.3
"""How many VMs have bits of address of their own."""
_OF_ANOTHER: Final = 0.4
"""How many shared tables are not the first MMU's."""
_BACK: Final = 0.7
"""How often the first MMU is in use again when a step ends."""


@step(weight=8, uses=("mmu_init", "mmu_use", "mmu_first", "mmu_free"))
def nest(at: Place, choice: Random) -> list[Op]:
    """Another MMU gets a table of its own, and what happens to that happens beside the first one's."""
    number, page = at.make(MMU), some_page(at, choice)
    ia_bits = choice.choice((32, 36, 39)) if choice.random() < _NARROWER else 0
    ops = [op_of("mmu_init", vmid=_vmid(number, choice), ia_bits=ia_bits)]
    if choice.random() < 0.5:
        ops.append(map_op(at, page, at.page, RW, choice))
    ops += [op_of("mmu_use", mmu=number), *_changes(at, page, choice)]
    if choice.random() < 0.3:
        ops += [op_of("mmu_first"), op_of("unmap", ipa=page, size=at.page), op_of("mmu_use", mmu=number)]
    if choice.random() < 0.3:
        ops += [op_of("mmu_free", mmu=number), map_op(at, page, at.page, RW, choice)]
    return [*ops, *_back(choice)]


@step(weight=8, uses=("mmu_share", "mmu_use", "mmu_first", "mmu_free"))
def share_root(at: Place, choice: Random) -> list[Op]:
    """Another MMU shares the table of the one in use, which is changed under either, until one of them goes: the one
    that came later, or the one whose it was first."""
    page, ops, goes = some_page(at, choice), list[Op](), list[int]()
    if choice.random() < _OF_ANOTHER:
        goes.append(at.make(MMU))
        ops += [op_of("mmu_init", vmid=_vmid(goes[0], choice)), op_of("mmu_use", mmu=goes[0])]
    number = at.make(MMU)
    ops += [map_op(at, page, at.page, RW, choice), op_of("mmu_share", vmid=_vmid(number, choice))]
    ops += _changes(at, page, choice)
    if choice.random() < 0.5:
        ops += [op_of("mmu_use", mmu=number), *_changes(at, page, choice)]
    if choice.random() < 0.5:
        ops += [op_of("mmu_free", mmu=choice.choice((number, *goes))), *_changes(at, page, choice)]
    return [*ops, *_back(choice)]


@step(weight=2, uses=("mmu_again", "destroy"))
def start_again(at: Place, choice: Random) -> list[Op]:
    """An MMU is initialised again: it has a table, or has lost it."""
    ops = [op_of("mmu_again")]
    if choice.random() < 0.5:
        ops = [op_of("destroy"), *ops, map_op(at, some_page(at, choice), at.page, RWX, choice)]
    return ops


@step(weight=14, uses=("vm_create", "vm_end", "mmu_use", "mmu_first", "mmu_init"))
def two_vms(at: Place, choice: Random) -> list[Op]:
    """Another VM is made, and both do the same with the same addresses: tables, slots, vCPUs, and MMUs beside their
    first ones. Then one ends, mostly, and what the other has goes on; a VMID may be asked for again."""
    number, page = at.make(MMU), some_page(at, choice)
    ia_bits = choice.choice((32, 36, 39, 40, 40, 44)) if choice.random() < _OF_OTHER_BITS else 0
    ops = [map_op(at, page, at.page, RW, choice), op_of("vm_create", vmid=_vmid(number, choice), ia_bits=ia_bits)]
    home = at.make(MMU) if choice.random() < 0.5 else None
    if home is not None:
        ops.append(op_of("mmu_share", vmid=_vmid(home, choice)))
    ops += _slots(at, page, choice)
    if choice.random() < 0.5:
        ops += _vcpus(at, number, choice)
    ops += [op_of("mmu_use", mmu=number), *_changes(at, page, choice), *_slots(at, page, choice)]
    named = number
    if choice.random() < 0.5:
        named = at.make(MMU)
        kind = choice.choice(("mmu_init", "mmu_share"))
        ops += [op_of(kind, vmid=_vmid(named, choice)), op_of("mmu_use", mmu=named), *_changes(at, page, choice)]
        ops += [op_of("mmu_first"), *_changes(at, page, choice)] if choice.random() < 0.5 else []
    if home is not None:
        ops += [op_of("mmu_use", mmu=home), op_of("mmu_first"), *_slots(at, page, choice), *_changes(at, page, choice)]
    if choice.random() < 0.2:
        ops.append(op_of("mmu_again"))
    if choice.random() < 0.8:
        ops.append(op_of("vm_end", mmu=choice.choice((number, named))))
        ops += _slots(at, page, choice)
        if choice.random() < 0.5:
            again = at.make(MMU)
            made = choice.choice(("vm_create", "mmu_init", "mmu_share"))
            ops.append(op_of(made, vmid=_FIRST_VMID + choice.choice((number, named, again))))
    return [*ops, *_changes(at, page, choice)]


def _slots(at: Place, page: int, choice: Random) -> list[Op]:
    """The VM in use has a slot there, which may be logged, or goes."""
    if choice.random() < 0.5:
        return []
    base = page & -at.block
    ops = [op_of("memslot_add", slot=0, ipa=base, size=at.block, phys=base + at.memory)]
    if choice.random() < 0.5:
        ops.append(map_op(at, page, at.page, RW, choice))
    gone = (op_of("memslot_log", slot=0, logging=1), op_of("memslot_flush", slot=0), op_of("memslot_remove", slot=0))
    return [*ops, choice.choice(gone), *([op_of("memslot_dirty", slot=0)] if choice.random() < 0.3 else [])]


def _vcpus(at: Place, number: int, choice: Random) -> list[Op]:
    """vCPUs of the VM in use and of another, which an MMU is of, run at once or take turns; one may stay."""
    ops = [op_of("vcpu_put", cpu=cpu) for cpu in sorted(at.loaded)]
    at.loaded.clear()
    cpu, vcpu = choice.randrange(at.cpus), choice.randrange(2)
    ops += [op_of("mmu_first"), op_of("vcpu_load_first", cpu=cpu, vcpu=vcpu)]
    other = (cpu + 1) % at.cpus
    load = op_of("vcpu_load", cpu=other, vcpu=choice.choice((vcpu, vcpu, vcpu ^ 1)), mmu=number)
    put = [op_of("vcpu_put", cpu=cpu), op_of("vcpu_put", cpu=other)]
    if choice.random() < 0.3:
        at.loaded.add(other)
        return [*ops, load, put[0]]
    return [*ops, load, *put] if choice.random() < 0.7 else [*ops, put[0], load, put[1]]


def _vmid(number: int, choice: Random) -> int:
    return choice.getrandbits(16) if choice.random() < _ANY_VMID else _FIRST_VMID + number


def _changes(at: Place, page: int, choice: Random) -> list[Op]:
    """What leaves something to be invalidated, mostly."""
    block = page & -at.block
    gone = choice.choice((op_of("unmap", ipa=page, size=at.page), op_of("unmap", ipa=block, size=at.block)))
    changed = choice.choice((op_of("wrprotect", ipa=block, size=at.block), map_op(at, block, at.block, RWX, choice)))
    return [
        map_op(at, page, at.page, choice.choice((RW, RWX)), choice),
        *choice.choice(([gone], [gone], [changed, gone], [changed])),
    ]


def _back(choice: Random) -> list[Op]:
    return [op_of("mmu_first")] if choice.random() < _BACK else []
