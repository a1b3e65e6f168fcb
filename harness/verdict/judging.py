"""Which programs the hardware judges: what that costs is several times what a program does."""

from __future__ import annotations

import enum
import zlib
from array import array
from typing import Final

from harness.program.program import Program

SAMPLE: Final = 256
"""One program in so many is judged, whatever it comes to."""


class Judging(enum.Enum):
    """How many programs the hardware judges: all; those that bring new coverage, those of the corpora, and of the rest
    a sample; or none."""

    ALL = "all"
    SAMPLE = "sample"
    NONE = "none"


def is_sampled(program: Program) -> bool:
    """Whether a program is one of the sample: by what it is, so that it is everywhere and every time."""
    words = array("Q", program.machine.values)
    for op in program.ops:
        words.append(op.definition.number)
        words.extend(op.args)
    return zlib.crc32(words) % SAMPLE == 0
