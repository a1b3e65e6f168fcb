"""What the two sides do together, as feedback: an op that returns what it never did at such levels of the tree is
progress, whatever lines it took. Counts only, never times."""

from __future__ import annotations

import ctypes
import errno
from typing import Any, Final

from harness.observation.execution import Feedback
from harness.program.ops import OPS_BY_NUMBER
from harness.program.program import Program
from reference.probe.coverage import LOOP, Registration

_RETURNS: Final = {
    ret: number
    for number, ret in enumerate((0, -errno.EINVAL, -errno.ENOMEM, -errno.EAGAIN, -errno.ERANGE, -errno.EPERM, None))
}
"""Return codes that count apart (None: the budget ran out); all others are one."""
_RETURN_COUNT: Final = len(_RETURNS) + 1
_LEVEL_SETS: Final = 1 << 5
_KIND_SETS: Final = 61
"""Sets of event kinds share so many counters; few ops come near."""
_OP_NUMBERS: Final = max(OPS_BY_NUMBER) + 1
_KINDS_FROM: Final = _OP_NUMBERS * _RETURN_COUNT * _LEVEL_SETS
_SIZE: Final = _KINDS_FROM + _OP_NUMBERS * _KIND_SETS
RESULTS: Final = "results"
EVENTS: Final = "events"
_PARTS: Final = {RESULTS: (0, _KINDS_FROM), EVENTS: (_KINDS_FROM, _SIZE)}
"""From which counter to which."""


Memory = tuple[Any, Any, bytearray]
"""Counters and their places, which libFuzzer reads; and a digit for each counter: 1 once it has counted."""


def _new_memory() -> Memory:
    """Of places libFuzzer wants an address and flags for each counter."""
    places = (ctypes.c_uint64 * (2 * _SIZE))()
    for index in range(_SIZE):
        places[2 * index] = index + 1
    return (ctypes.c_uint8 * _SIZE)(), places, bytearray(b"0" * _SIZE)


class JointCoverage:
    """A counter for every combination of op, return code and the set of levels at which entries were written, and for
    every combination of op and the set of kinds of its events.

    Taken from the side that tells (the model), and only when the sides agree: then it stands for both. libFuzzer clears
    the counters. So there are so many and no more, each counts to `LOOP`, and a run comes to an end of what is new.
    """

    def __init__(self, memory: Memory | None = None) -> None:
        """`memory` is that of another one, in whose place this is: libFuzzer goes on reading it where it is."""
        self.memory = _new_memory() if memory is None else memory
        self._counters, self._places, self._ever = self.memory
        self._view = memoryview(self._counters).cast("B")

    def registration(self) -> Registration:
        """Where counters and their places lie."""
        counters, places = ctypes.addressof(self._counters), ctypes.addressof(self._places)
        return Registration(counters, counters + _SIZE, places, places + ctypes.sizeof(self._places))

    def note(self, program: Program, feedback: Feedback) -> bool:
        """Count what `program` did, and tell whether any of it never counted before."""
        is_new = False
        for op, ret, levels, kinds in zip(
            program.ops, feedback.returns[1:], feedback.levels[1:], feedback.kinds[1:], strict=False
        ):
            number, outcome = op.definition.number, _RETURNS.get(ret, len(_RETURNS))
            is_new |= self._count((number * _RETURN_COUNT + outcome) * _LEVEL_SETS + levels)
            is_new |= self._count(_KINDS_FROM + number * _KIND_SETS + hash(kinds) % _KIND_SETS)
        return is_new

    @property
    def reached(self) -> dict[str, int]:
        """Which counters ever counted, a bit for each: those of `RESULTS` (op, return code and levels), and those of
        `EVENTS` (op and kinds of events)."""
        return {name: int(self._ever[begin:end], 2) for name, (begin, end) in _PARTS.items()}

    def take(self) -> bytes:
        """The counters since the last time."""
        counts = bytes(self._view)
        ctypes.memset(self._counters, 0, _SIZE)
        return counts

    def _count(self, index: int) -> bool:
        """Whether that counter counts for the first time."""
        is_first = self._ever[index] != 0x31
        if self._view[index] < LOOP:
            self._view[index] += 1
            self._ever[index] = 0x31
        return is_first
