"""Memory of a guest is mapped, handed over and back, logged, aged, split and merged, and goes."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import RW, RWX, Place, map_op, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.kinds.flags import PROT_BITS
from harness.program.ops import op_of

_LEAVES: Final = (0, 0x7DB, 0x75B, 0x7D9, 1 << 54 | 0x7DB, 1 << 55 | 0x7C7, 1 << 2)
"""Entries: none, a page, a read-only one, a block, a page that is not executable, one of a device with a software bit,
and an owner's."""


@step(weight=20, uses=("map",))
def boot(at: Place, choice: Random) -> list[Op]:
    """The guest has its first memory, in blocks."""
    size = choice.choice((at.block, 2 * at.block, at.large if at.fits_large else at.block))
    return [map_op(at, at.ipa, size, RWX, choice)]


@step(weight=5, uses=("destroy", "init"), stages=(1, 2))
def restart(at: Place, choice: Random) -> list[Op]:
    """The table goes, mostly, and there is a new one."""
    at.mapped.clear()
    return [op_of("destroy"), op_of("init")] if choice.random() < 0.8 else [op_of("init")]


@step(weight=30, uses=("map",))
def fault(at: Place, choice: Random) -> list[Op]:
    """A vCPU faults on some pages."""
    prot = choice.choice((RWX, RW, RW | PROT_BITS["device"], PROT_BITS["r"]))
    return [map_op(at, some_page(at, choice), choice.choice((1, 1, 2, 4)) * at.page, prot, choice)]


@step(weight=20, uses=("map",))
def fault_twice(at: Place, choice: Random) -> list[Op]:
    """Two vCPUs fault on the same page: the second comes too late, perhaps with more permissions."""
    page, size = some_page(at, choice), choice.choice((1, 1, 3)) * at.page
    return [map_op(at, page, size, RW, choice), map_op(at, page, size, choice.choice((RW, RW, RWX)), choice)]


@step(weight=20, uses=("map",))
def migrate(at: Place, choice: Random) -> list[Op]:
    """The host has moved the memory behind a page or a block, and it faults back in."""
    size = choice.choice((at.page, at.page, at.block))
    ipa = some_page(at, choice) if size == at.page else at.ipa
    gone = [op_of("unmap", ipa=ipa, size=size)] if choice.random() < 0.5 else []
    return [*gone, op_of("map", ipa=ipa, size=size, phys=ipa + at.memory + at.large, prot=RWX, mc=4, flags=0)]


@step(weight=20, uses=("set_owner",))
def share(at: Place, choice: Random) -> list[Op]:
    """Some pages get another owner."""
    size = choice.choice((1, 2, 3)) * at.page
    return [op_of("set_owner", ipa=some_page(at, choice), size=size, mc=5, owner=1)]


@step(weight=20, uses=("set_owner", "map"))
def reclaim(at: Place, choice: Random) -> list[Op]:
    """The host takes a page back, and maps it."""
    page = some_page(at, choice)
    return [op_of("set_owner", ipa=page, size=at.page, mc=5, owner=0), map_op(at, page, at.page, RWX, choice)]


@step(weight=20, uses=("map",))
def log(at: Place, choice: Random) -> list[Op]:
    """Dirty logging splits a block: one page is mapped inside it."""
    return [map_op(at, at.ipa, at.block, RW, choice), map_op(at, some_page(at, choice), at.page, RW, choice)]


@step(weight=20, uses=("map",))
def merge(at: Place, choice: Random) -> list[Op]:
    """Logging is over: a block takes the place of a table."""
    big = at.fits_large and choice.random() < 0.3
    return [map_op(at, at.ipa, at.large if big else at.block, RWX, choice)]


@step(weight=20, uses=("unmap",))
def shrink(at: Place, choice: Random) -> list[Op]:
    """The guest gives memory back."""
    size = choice.choice((at.page, 4 * at.page, at.block, 2 * at.block))
    return [op_of("unmap", ipa=choice.choice((at.ipa, some_page(at, choice))), size=size)]


@step(weight=20, uses=("wrprotect",))
def protect(at: Place, choice: Random) -> list[Op]:
    """The log is read: everything is write-protected, and some pages are written to again."""
    size = choice.choice((16 * at.page, at.block, 2 * at.block))
    ops = [op_of("wrprotect", ipa=at.ipa, size=size)]
    if choice.random() < 0.5:
        ops.append(op_of("tlb_flush_vmid_range", ipa=at.ipa, size=size))
    return ops + [_relax(at, choice) for _ in range(choice.randint(0, 2))]


def _relax(at: Place, choice: Random) -> Op:
    prot = choice.choice((RW, RWX, PROT_BITS["x"] | PROT_BITS["r"]))
    return op_of("relax_perms", ipa=some_page(at, choice), prot=prot)


@step(weight=10, uses=("map", "relax_perms"))
def permit(at: Place, choice: Random) -> list[Op]:
    """A page with few permissions gets more, fault by fault."""
    page = some_page(at, choice)
    return [map_op(at, page, at.page, PROT_BITS["r"], choice), *(_relax(at, choice) for _ in range(2))]


@step(weight=20, uses=("test_clear_young",))
def age(at: Place, choice: Random) -> list[Op]:
    """Memory is looked at for accesses, and accessed."""
    size = choice.choice((at.page, 16 * at.page, at.block, 2 * at.block))
    old = op_of("test_clear_young", ipa=at.ipa, size=size, mkold=int(choice.random() < 0.7))
    touched = [op_of("mkyoung", ipa=some_page(at, choice)) for _ in range(choice.randint(0, 2))]
    return [old, *touched, op_of("test_clear_young", ipa=some_page(at, choice), size=at.page)]


@step(weight=20, uses=("mkold",))
def age_one(at: Place, choice: Random) -> list[Op]:
    """The same page by page."""
    page = some_page(at, choice)
    ops = [op_of("mkold", ipa=page), op_of("mkyoung", ipa=choice.choice((page, some_page(at, choice))))]
    return [*ops[: choice.randint(1, 2)], op_of("is_young", ipa=page)]


@step(weight=10, uses=("flush",))
def clean(at: Place, choice: Random) -> list[Op]:
    """The guest switches its caches on or off."""
    return [op_of("flush", ipa=some_page(at, choice), size=choice.choice((at.page, 4 * at.page, at.block)))]


@step(weight=5, uses=("pte_prot",))
def read_permissions(at: Place, choice: Random) -> list[Op]:
    """pKVM looks at a page's state: at an entry, and what it permits."""
    return [op_of("get_leaf", ipa=some_page(at, choice)), op_of("pte_prot", pte=choice.choice(_LEAVES))]


@step(weight=1, uses=("split",), dear=True)
def split(at: Place, choice: Random) -> list[Op]:
    """Blocks are split before dirty logging asks for it, mostly once they are write-protected."""
    size = choice.choice((at.page, at.block, at.block + at.page, 2 * at.block))
    ops = [op_of("split", ipa=some_page(at, choice), size=size, mc=choice.choice((1, 1, 2, 2, 3)))]
    if choice.random() < 0.5:
        ops.insert(0, op_of("wrprotect", ipa=at.ipa, size=at.block))
    if choice.random() < 0.4:
        ops.insert(0, map_op(at, at.ipa, at.block, choice.choice((RWX, RW | PROT_BITS["device"])), choice))
    return ops
