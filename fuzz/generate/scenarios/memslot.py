"""User space gives a VM memory slot by slot, takes it away, and logs what the guest writes."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import RW, Place, map_op, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.guest import STUB, WINDOW
from harness.program.kinds import ACCESS, BACKING, LOGGING, MMU
from harness.program.kinds.flags import PROT_BITS
from harness.program.ops import op_of

_READ, _WRITE, _EXEC = range(len(ACCESS.words))
_ACCESSES: Final = (_READ, _WRITE, _WRITE, _WRITE, _EXEC)
_BACKINGS: Final = tuple(map(BACKING.words.index, ("page", "block", "block", "gigabyte")))
_RX: Final = PROT_BITS["r"] | PROT_BITS["x"]
_MODES: Final = (*range(len(LOGGING.words)), LOGGING.words.index("initially_set"))
_NESTED_BITS: Final = 32
"""Of a nested MMU's addresses: all of them are gone through, and more would take the whole budget."""
_FIRST_VMID: Final = 2
_BEYOND: Final = 0.3
"""How many pages are in the slot's second block, if it has one: of that memory the guest can reach nothing, but it is
mapped."""


@step(weight=60, uses=("memslot_add", "memslot_handle"), guest=True)
def use_memslot(at: Place, choice: Random) -> list[Op]:
    """The guest gets a slot and reaches for it, and the slot goes, moves or is flushed; it may still reach for it."""
    slot, base, size = _slot(at, choice)
    page = _page(at, size, choice)
    ops = [_add(at, slot, base, size, choice), *_reach(page, choice)]
    if choice.random() < 0.4:
        ops += _nested(at, page, choice)
    if choice.random() < 0.4:
        where = base + choice.choice((0, at.page, size, size, at.block))
        ops.append(_add(at, choice.choice((slot, slot + 1, slot + 1)), where, size, choice))
    gone = choice.choice(
        (
            op_of("memslot_remove", slot=slot),
            op_of("memslot_remove", slot=slot),
            op_of("memslot_move", slot=slot, ipa=base + choice.choice((at.block, at.page, size))),
            op_of("memslot_flush", slot=slot),
        )
    )
    return [*ops, gone, *_reach(page, choice), *([op_of("memslot_remove", slot=slot)] if choice.random() < 0.7 else [])]


@step(weight=60, uses=("memslot_add", "memslot_log", "memslot_dirty", "memslot_handle"), guest=True)
def log_memslot(at: Place, choice: Random) -> list[Op]:
    """The guest writes to a slot whose dirty pages are logged, in pages and blocks that it had before or gets then; the
    log is read and cleared, and at last is over."""
    slot, base, size = _slot(at, choice)
    page, beside = _page(at, size, choice), _page(at, size, choice)
    ops = []
    if choice.random() < 0.5:
        mode = choice.randrange(len(LOGGING.words))
        ops.append(op_of("memslot_mode", logging=mode, split=int(choice.random() < 0.3)))
    ops += [_add(at, slot, base, size, choice), *_reach(page, choice)]
    if choice.random() < 0.3:
        ops += _nested(at, page, choice)
    ops += [op_of("memslot_log", slot=slot, logging=1), *_reach(page, choice), *_reach(beside, choice)]
    for _ in range(choice.choice((1, 1, 2))):
        ops.append(op_of("memslot_dirty", slot=slot))
        if choice.random() < 0.3:
            ops += _reach(beside, choice)
        if choice.random() < 0.6:
            ops.append(op_of("memslot_clear", slot=slot))
        ops += _reach(choice.choice((page, beside)), choice)
    if choice.random() < 0.7:
        ops += [op_of("memslot_log", slot=slot, logging=0), *_reach(page, choice)]
    return [*ops, *([op_of("memslot_remove", slot=slot)] if choice.random() < 0.7 else [])]


@step(weight=14, uses=("memslot_add", "memslot_log", "memslot_move"))
def change_memslots(at: Place, choice: Random) -> list[Op]:
    """Slots whose memory is mapped already, in pages and blocks, are logged, moved onto each other, flushed and
    removed. That takes no guest."""
    slot, base, size = choice.choice((0, 1)), at.ipa & -at.block, choice.choice((1, 2, 2)) * at.block
    ops = []
    if choice.random() < 0.4:
        ops.append(op_of("memslot_mode", logging=choice.choice(_MODES), split=int(choice.random() < 0.5)))
    ops.append(_add(at, slot, base, size, choice))
    for _ in range(choice.choice((1, 2))):
        block = base + choice.randrange(size // at.block) * at.block
        page = block + choice.choice((0, at.page, at.block - at.page))
        ops.append(choice.choice((map_op(at, block, at.block, RW, choice), map_op(at, page, at.page, RW, choice))))
    if choice.random() < 0.4:
        ops.append(_add(at, slot + 1, base + size, at.block, choice))
    logged = [op_of("memslot_log", slot=slot, logging=1), op_of("memslot_dirty", slot=slot)]
    gone = (
        op_of("memslot_move", slot=slot, ipa=base + choice.choice((at.page, at.block))),
        op_of("memslot_remove", slot=slot),
        op_of("memslot_flush", slot=slot),
    )
    if choice.random() < 0.6:
        ops += [*logged, *([op_of("memslot_clear", slot=slot)] if choice.random() < 0.5 else [])]
    return [*ops, choice.choice(gone)]


@step(weight=16, uses=("memslot_add", "memslot_unmap", "memslot_handle"), guest=True)
def page_out_memslot(at: Place, choice: Random) -> list[Op]:
    """The host takes memory away that the guest has, mostly while its writes are logged, and the guest comes back."""
    slot, base, size = _slot(at, choice)
    page, beside = _page(at, size, choice), _page(at, size, choice)
    ops = [_add(at, slot, base, size, choice), *_reach(page, choice)]
    if choice.random() < 0.5:
        ops += [op_of("memslot_log", slot=slot, logging=1), *_reach(page, choice)]
    if choice.random() < 0.4:
        ops += _nested(at, page, choice)
    ops += [*_reach(beside, choice), op_of("memslot_unmap", **_range(at, base, size, page, choice))]
    ops += _reach(choice.choice((page, beside)), choice)
    if choice.random() < 0.5:
        ops.append(op_of("memslot_dirty", slot=slot))
    return [*ops, *([op_of("memslot_remove", slot=slot)] if choice.random() < 0.7 else [])]


@step(weight=16, uses=("memslot_add", "memslot_age", "memslot_handle"), guest=True)
def age_memslot(at: Place, choice: Random) -> list[Op]:
    """The host asks which memory the guest uses, and the guest comes back to what has grown old."""
    slot, base, size = _slot(at, choice)
    page, beside = _page(at, size, choice), _page(at, size, choice)
    ops = [_add(at, slot, base, size, choice), *_reach(page, choice), *_reach(beside, choice)]
    if choice.random() < 0.2:
        ops += _nested(at, page, choice)
    for _ in range(choice.choice((1, 1, 2))):
        where = _range(at, base, size, page, choice)
        ops.append(op_of("memslot_age", flush=int(choice.random() < 0.5), **where))
        ops += _reach(choice.choice((page, page, beside)), choice)
        if choice.random() < 0.5:
            ops.append(op_of("memslot_test_age", **where))
    return [*ops, *([op_of("memslot_remove", slot=slot)] if choice.random() < 0.7 else [])]


@step(weight=10, uses=("memslot_add", "memslot_unmap", "memslot_age", "memslot_test_age"))
def notify_memslots(at: Place, choice: Random) -> list[Op]:
    """The host ages memory of one slot or two, mapped in pages and blocks, and takes it away. That takes no guest."""
    slot, base, size = choice.choice((0, 1)), at.ipa & -at.block, choice.choice((1, 2)) * at.block
    ops = [_add(at, slot, base, size, choice)]
    if choice.random() < 0.5:
        ops.append(_add(at, slot + 1, base + size, at.block, choice))
    page = base + choice.choice((0, at.page, at.block - at.page, size - at.page))
    for where in (page, base + size):
        if choice.random() < 0.7:
            ops.append(map_op(at, where, at.page, RW, choice))
        else:
            ops.append(map_op(at, where & -at.block, at.block, RW, choice))
    if choice.random() < 0.3:
        ops += _nested(at, page, choice)[:3]
    asked = (
        op_of("memslot_test_age", **_range(at, base, size, page, choice)),
        op_of("memslot_age", flush=int(choice.random() < 0.5), **_range(at, base, size, page, choice)),
        op_of("memslot_age", flush=int(choice.random() < 0.5), **_range(at, base, size, page, choice)),
        op_of("memslot_unmap", **_range(at, base, size, page, choice)),
    )
    ops += [one for one in asked if choice.random() < 0.7]
    return [*ops, *([op_of("memslot_remove", slot=slot)] if choice.random() < 0.5 else [])]


def _range(at: Place, base: int, size: int, page: int, choice: Random) -> dict[str, int]:
    """What the host names: a page or a huge page around one, mostly; or a slot, or what reaches beyond it."""
    start, length = choice.choice(
        (
            *((page, at.page), (page, at.page), (page & -at.block, at.block), (page & -at.block, at.block)),
            *((page, 2 * at.page), (base, size), (base, size), (base + size - at.page, 2 * at.page)),
        )
    )
    return {"ipa": start, "size": length}


def _slot(at: Place, choice: Random) -> tuple[int, int, int]:
    """A slot, its address and size: mostly the block that all of the guest's pages are in, where blocks fit."""
    base = WINDOW - at.memory & -at.block
    size = choice.choice((at.block, at.block, 2 * at.block, 8 * at.page))
    return choice.choice((0, 0, 0, 1)), base, size


def _add(at: Place, slot: int, base: int, size: int, choice: Random) -> Op:
    return op_of(
        "memslot_add",
        slot=slot,
        ipa=base,
        size=size,
        phys=base + at.memory,
        backing=choice.choice(_BACKINGS),
        logging=int(choice.random() < 0.1),
        readonly=int(choice.random() < 0.05),
    )


def _page(at: Place, size: int, choice: Random) -> int:
    beyond = at.block if size > at.block and choice.random() < _BEYOND else 0
    return WINDOW - at.memory + choice.choice((0, 1, 2, 3)) * at.page + beyond


def _reach(page: int, choice: Random, l1: int = 0) -> list[Op]:
    """An access that the slot's memory is given for where it aborts, and again; mostly a write."""
    access = op_of("fault", ipa=page, access=choice.choice(_ACCESSES))
    again = access if choice.random() < 0.5 else op_of("write", ipa=page, value=choice.getrandbits(16))
    return [access, op_of("memslot_handle", l1=l1), again]


def _nested(at: Place, page: int, choice: Random) -> list[Op]:
    """Another MMU reaches the slot's memory at addresses of its own; what follows goes on in either."""
    number, where = at.make(MMU), some_page(at, choice)
    ops = [
        op_of("mmu_init", vmid=_FIRST_VMID + number, ia_bits=_NESTED_BITS),
        op_of("mmu_use", mmu=number),
    ]
    if choice.random() < 0.5:
        ops += _reach(where, choice, l1=page)
    else:
        ops += [op_of("map", ipa=where, size=at.page, phys=page + at.memory, prot=RW, mc=4)]
    if choice.random() < 0.2:
        ops.append(op_of("map", ipa=STUB, size=at.page, phys=STUB, prot=_RX, mc=4))
    return [*ops, op_of("mmu_first")] if choice.random() < 0.7 else [*ops, map_op(at, where, at.page, RW, choice)]
