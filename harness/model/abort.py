"""What a vCPU keeps of a guest's access that stage 2 aborted."""

from __future__ import annotations

from typing import NamedTuple


class Abort(NamedTuple):
    """A stage-2 abort: the syndrome, as `fault` yields it, and the page of IPA."""

    esr: int
    ipa: int
