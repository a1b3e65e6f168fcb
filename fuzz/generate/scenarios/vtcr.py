"""The shape of a VM's table is decided."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import Place
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.ops import op_of

_VMID_BITS: Final = 4
"""Where ID_AA64MMFR1_EL1 says how many there are."""
_SL0: Final = 6
"""Where VTCR_EL2 says at which level walks start."""


@step(weight=5, uses=("get_vtcr", "pgd_size"))
def shape(_at: Place, choice: Random) -> list[Op]:
    """A VM is made: its VTCR_EL2 follows from the CPU and the addresses asked for, its root's size from that."""
    vtcr = op_of(
        "get_vtcr",
        mmfr0=choice.randrange(8),
        mmfr1=choice.choice((0, 2)) << _VMID_BITS,
        phys_shift=choice.randint(32, 52),
    )
    return [vtcr, op_of("pgd_size", vtcr=choice.randint(12, 32) | choice.randrange(4) << _SL0)]
