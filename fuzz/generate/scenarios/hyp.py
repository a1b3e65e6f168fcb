"""Hyp's own addresses: text, data, devices and pages of guests are mapped, change their state, and go."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import RW, Place, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.kinds.flags import PROT_BITS
from harness.program.ops import op_of

_PROTS: Final = (RW, RW, PROT_BITS["r"] | PROT_BITS["x"], PROT_BITS["r"], RW | PROT_BITS["device"])
_LEAVES: Final = (0, 0x703, 0x783, 1 << 54 | 0x703, 1 << 55 | 0x703)
"""Entries: none, a page, a read-only one, one that is not executable, one with a software bit."""


def _map(at: Place, va: int, size: int, prot: int) -> Op:
    return op_of("hyp_map", va=va, size=size, phys=va + at.memory, prot=prot)


@step(weight=60, uses=("hyp_map",), stages=(1,))
def hyp_map(at: Place, choice: Random) -> list[Op]:
    """Memory is mapped."""
    if at.fits_large and choice.random() < 0.1:
        place = at.ipa, at.large
    elif choice.random() < 0.4:
        place = at.ipa, choice.choice((1, 1, 2)) * at.block
    else:
        place = some_page(at, choice), choice.choice((1, 1, 2, 4)) * at.page
    at.mapped.append(place)
    return [_map(at, *place, choice.choice(_PROTS))]


@step(weight=40, uses=("hyp_unmap",), stages=(1,))
def hyp_unmap(at: Place, choice: Random) -> list[Op]:
    """What was mapped goes, or less or more of it."""
    if not at.mapped:
        return []
    va, size = at.mapped.pop(choice.randrange(len(at.mapped)))
    size = choice.choice((size, size, size, size, at.page, size + at.page, 2 * size))
    return [op_of("hyp_unmap", va=va + choice.choice((0, 0, 0, 0, at.page)), size=size)]


@step(weight=40, uses=("hyp_map",), stages=(1,))
def hyp_change_state(at: Place, choice: Random) -> list[Op]:
    """pKVM changes the state of a page: its software bits. Whatever else would change is refused."""
    if not at.mapped:
        return []
    va, size = choice.choice(at.mapped)
    state = choice.choice((0, PROT_BITS["sw0"], PROT_BITS["sw1"], PROT_BITS["sw0"] | PROT_BITS["sw3"]))
    prot = choice.choice((RW, choice.choice(_PROTS)))
    return [_map(at, va, choice.choice((size, size, at.page)), prot | state)]


@step(weight=5, uses=("hyp_pte_prot",), stages=(1,))
def hyp_read_permissions(at: Place, choice: Random) -> list[Op]:
    """pKVM looks at the state of a page of its own: at an entry, and what it permits."""
    return [op_of("get_leaf", ipa=some_page(at, choice)), op_of("hyp_pte_prot", pte=choice.choice(_LEAVES))]
