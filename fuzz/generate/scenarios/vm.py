"""A VM has several stage-2 MMUs: a guest hypervisor's guests run under others than the guest hypervisor itself."""

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
