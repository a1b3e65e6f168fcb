"""The operations, by family: each module here is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from harness.program.definition import Definitions, Op, OpDef
from harness.program.ops import faults, guest, hyp, memslot, table, tlb, unlinked, vcpu, vm, vmid, vtcr, walk

FAMILIES: Final[Mapping[str, tuple[OpDef, ...]]] = {
    module.__name__.rpartition(".")[2]: module.OPS
    for module in (table, walk, unlinked, faults, tlb, vtcr, hyp, guest, vm, vmid, memslot, vcpu)
}
STANDARD: Final = Definitions(op for family in FAMILIES.values() for op in family)
"""All of them."""
OPS: Final = STANDARD.ops
"""In the order of their numbers."""
OPS_BY_NAME: Final = STANDARD.by_name
OPS_BY_NUMBER: Final = STANDARD.by_number
INIT: Final = OPS_BY_NAME["init"]


def op_of(name: str, **args: int) -> Op:
    """An op by name; arguments left out take their defaults. KeyError names what is unknown or missing."""
    return STANDARD.op(name, **args)
