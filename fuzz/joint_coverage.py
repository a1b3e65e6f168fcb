"""What the two sides do together, as feedback: an op that returns what it never did at such levels of the tree is
progress, whatever lines it took. Counts only, never times."""

from __future__ import annotations

import ctypes
import errno
from typing import Final

from harness.model import Model
from harness.ops import OPS_BY_NUMBER
from harness.program import Program
from reference.coverage import LOOP, Registration

_RETURNS: Final = {
    ret: number
    for number, ret in enumerate((0, -errno.EINVAL, -errno.ENOMEM, -errno.EAGAIN, -errno.ERANGE, -errno.EPERM, None))
}
"""Return codes that count apart (None: the budget ran out); all others are one."""
_RETURN_COUNT: Final = len(_RETURNS) + 1
_LEVEL_SETS: Final = 1 << 5
_OP_NUMBERS: Final = max(OPS_BY_NUMBER) + 1
_SIZE: Final = _OP_NUMBERS * _RETURN_COUNT * _LEVEL_SETS


class JointCoverage:
    """A counter for every combination of op, return code and the set of levels at which entries were written.

    Taken from the model, and only when the sides agree: then it stands for both. libFuzzer clears the counters.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._counters = (ctypes.c_uint8 * _SIZE)()
        self._places = (ctypes.c_uint64 * (2 * _SIZE))()  # libFuzzer wants an address and flags for each
        for index in range(_SIZE):
            self._places[2 * index] = index + 1
        self._view = memoryview(self._counters).cast("B")

    def registration(self) -> Registration:
        """Where counters and their places lie."""
        counters, places = ctypes.addressof(self._counters), ctypes.addressof(self._places)
        return Registration(counters, counters + _SIZE, places, places + ctypes.sizeof(self._places))

    def note(self, program: Program) -> None:
        """Count what the model has just done with `program`."""
        view, model = self._view, self._model
        for op, ret, levels in zip(program.ops, model.returns[1:], model.levels[1:], strict=False):
            outcome = _RETURNS.get(ret, len(_RETURNS))
            index = (op.definition.number * _RETURN_COUNT + outcome) * _LEVEL_SETS + levels
            if view[index] < LOOP:
                view[index] += 1
