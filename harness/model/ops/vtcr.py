"""How VTCR_EL2 is chosen, and what it means."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from pgtable import root_size, vtcr_for

if TYPE_CHECKING:
    from harness.model.run import ProgramRun


def get_vtcr(run: ProgramRun, mmfr0: int, mmfr1: int, phys_shift: int) -> int:
    run.outs.append(vtcr_for(mmfr0, mmfr1, phys_shift, run.fixed.features, run.fixed.geometry, run.version))
    return 0


def pgd_size(run: ProgramRun, vtcr: int) -> int:
    size = root_size(vtcr, run.fixed.geometry)
    if size is None:
        return -errno.EINVAL
    run.outs.append(size)
    return 0
