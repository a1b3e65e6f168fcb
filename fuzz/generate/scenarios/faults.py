"""Memory runs out, somebody else writes an entry, another CPU is faster."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import FAULT, RW, RWX, Place, map_op, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.kinds.entries import PLANTED_NAMES
from harness.program.kinds.flags import MAP_FLAG_BITS
from harness.program.ops import op_of


@step(weight=10, uses=("fail_alloc", "map"))
def run_out(at: Place, choice: Random) -> list[Op]:
    """Memory for a table is not there, though the memcache was topped up. The guest faults again."""
    far = at.next(choice.choice((0, at.block, 5 * at.block, at.large)))
    size = choice.choice((at.page, 2 * at.block))
    failed = [
        map_op(far, some_page(far, choice), size, RW, choice),
        op_of("set_owner", ipa=far.ipa, size=at.page, mc=4, owner=1),
    ]
    return [
        op_of("fail_alloc", nth=choice.choice((1, 1, 2))),
        choice.choice(failed),
        map_op(far, far.ipa, at.page, RWX, choice),
    ]


@step(weight=10, uses=("plant", "map"))
def tamper(at: Place, choice: Random) -> list[Op]:
    """Somebody else writes an entry, before the guest faults there."""
    level, ipa = choice.choice(((3, some_page(at, choice)), (3, some_page(at, choice)), (2, at.ipa), (1, at.ipa)))
    value = choice.choice((PLANTED_NAMES["locked"], PLANTED_NAMES["locked"], PLANTED_NAMES["table"], 0, 4))
    table = map_op(at, some_page(at, choice), at.page, RW, choice)
    after = choice.choice((map_op(at, ipa, at.page, RWX, choice), op_of("unmap", ipa=ipa, size=at.page)))
    return [table, op_of("plant", ipa=ipa, level=level, pte=value), after]


_OF_ATTRIBUTES: Final = 0.3
"""How many races are about the attributes of what is mapped already."""


@step(weight=10, uses=("race", "map"))
def race(at: Place, choice: Random) -> list[Op]:
    """Two vCPUs fault on the same page at once; the other is the faster one."""
    page = some_page(at, choice)
    ipa, size = choice.choice(((page, at.page), (page, 2 * at.page), (at.ipa, at.block)))
    value = choice.choice((PLANTED_NAMES["locked"], PLANTED_NAMES["table"], PLANTED_NAMES["table"], 0, 4))
    flags = choice.choice((FAULT, MAP_FLAG_BITS["shared"], MAP_FLAG_BITS["shared"]))
    phys = ipa + at.memory + choice.choice((0, at.large))
    raced = op_of("map", ipa=ipa, size=size, phys=phys, prot=RW, mc=5, flags=flags)
    armed = op_of("race", nth=choice.choice((1, 1, 1, 2, 3)), pte=value)
    after = map_op(at, ipa, at.page, RW, choice)
    if choice.random() < _OF_ATTRIBUTES:
        changes = (op_of("relax_perms", ipa=ipa, prot=RWX), op_of("mkyoung", ipa=ipa))
        return [map_op(at, ipa, at.page, RW, choice), armed, choice.choice(changes), after]
    return [armed, raced, after]


@step(weight=5, uses=("fail_alloc", "hyp_map"), stages=(1,))
def hyp_run_out(at: Place, choice: Random) -> list[Op]:
    """Hyp has no memory for a table, and maps again once it has."""
    far = at.next(choice.choice((0, at.block, at.large)))
    va = some_page(far, choice)
    mapped = op_of("hyp_map", va=va, size=at.page, phys=va + at.memory, prot=RW)
    return [op_of("fail_alloc", nth=choice.choice((1, 1, 2))), mapped, mapped]


@step(weight=5, uses=("plant", "hyp_unmap"), stages=(1,))
def hyp_tamper(at: Place, choice: Random) -> list[Op]:
    """Somebody else writes an entry of hyp's, before that unmaps it."""
    level, va = choice.choice(((3, some_page(at, choice)), (2, at.ipa)))
    value = choice.choice((PLANTED_NAMES["table"], 0, 4))
    return [op_of("plant", ipa=va, level=level, pte=value), op_of("hyp_unmap", va=va, size=at.page)]
