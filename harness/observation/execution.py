"""What an executor tells of a program that it ran, short of the observation: made thousands of times a second."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.observation.calls import Call
from harness.observation.layout import Digest


@dataclass(slots=True)
class Shape:
    """What a program did to the tree, counted while it ran: tables by level (0 to 3, then -1), blocks, and how often a
    block became a table (split) or a table a block (merge)."""

    tables: list[int] = field(default_factory=lambda: [0] * 5)
    blocks: int = 0
    splits: int = 0
    merges: int = 0


class Feedback:
    """What a program did, for whoever steers by it or counts it. The lists have an item for each record, the implicit
    init's first."""

    __slots__ = ("kinds", "levels", "returns", "shape")

    def __init__(self, returns: list[int | None], levels: list[int], kinds: list[frozenset[int]], shape: Shape) -> None:
        self.returns = returns
        """Results; None of the record that ran over budget."""
        self.levels = levels
        """The levels at which entries were written: bit n + 1 for level n."""
        self.kinds = kinds
        """The kinds of its events."""
        self.shape = shape


class Execution:
    """One execution of a program, as `Executor.finish` tells of it."""

    __slots__ = ("digest", "feedback", "new_calls", "witnessed")

    def __init__(
        self,
        digest: Digest,
        feedback: Feedback | None = None,
        new_calls: Sequence[Call] | None = None,
        witnessed: int = 0,
    ) -> None:
        self.digest = digest
        """Of what its observation is."""
        self.feedback = feedback
        """None from an executor that cannot tell without an observation; so is the next."""
        self.new_calls = new_calls
        """Calls of TLB functions in it that the executor did not tell before for a machine and a root like these."""
        self.witnessed = witnessed
        """Accesses of the guest that a stale translation served, in a TLB: `Observation.witnesses` has them."""
