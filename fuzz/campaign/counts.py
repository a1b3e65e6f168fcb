"""What a campaign's processes have run and reached, all together: those of earlier runs, those that ended, and those
that go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from fuzz.campaign.ledger import Ledger
from fuzz.engine.messages import ProcessState


class Counts:
    """Begun from the ledger. `comparisons` is how many there are."""

    def __init__(self, ledger: Ledger, comparisons: int) -> None:
        self._past = [ledger.stats(number) for number in range(comparisons)]
        """Of the processes that have ended, by comparison."""
        self._present: dict[int, tuple[int, ProcessState]] = {}
        """By slot: the comparison of its process, and what that said last."""
        self._coverage = ledger.coverage()
        """By image and side: bits of the edges that were reached, and how many there are."""
        self._images: dict[int, set[tuple[str, int]]] = {}
        """Which of these are a comparison's."""
        self._recent: deque[tuple[float, int]] = deque(maxlen=12)
        self._before = self._programs()

    def note(self, slot: int, comparison: int, state: ProcessState) -> None:
        """What the process in a slot said last. Saying it again makes no difference."""
        if self._present.get(slot) == (comparison, state):
            return
        self._present[slot] = comparison, state
        for side, edges in enumerate(state.edges):
            key = (edges.image, side)
            before, _ = self._coverage.get(key, (0, 0))
            self._coverage[key] = (before | edges.reached, edges.of)
            self._images.setdefault(comparison, set()).add(key)

    def settle(self, slot: int) -> None:
        """The process in a slot has ended."""
        if slot in self._present:
            comparison, state = self._present.pop(slot)
            self._past[comparison] += state.stats

    def executions(self, comparison: int | None = None) -> int:
        """Generated programs, ever; of one comparison, or of all."""
        past = [stats for number, stats in enumerate(self._past) if comparison in (None, number)]
        present = [state.stats for number, state in self._present.values() if comparison in (None, number)]
        return sum(stats.executions for stats in [*past, *present])

    @property
    def has_run(self) -> bool:
        """Whether this run has run any program, those of the corpora among them."""
        return self._programs() > self._before

    def _programs(self) -> int:
        stats = [*self._past, *(state.stats for _, state in self._present.values())]
        return sum(one.executions + one.replayed for one in stats)

    def tick(self, now: float) -> None:
        """Remember how many there are, for the rate; to be called about once a second."""
        self._recent.append((now, self.executions()))

    @property
    def rate(self) -> float:
        """Executions per second, of late."""
        if len(self._recent) < 2:
            return 0.0
        (began, before), (ended, after) = self._recent[0], self._recent[-1]
        return (after - before) / (ended - began) if ended > began else 0.0

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Of every kernel image and side: edges reached, and how many there are."""
        return tuple((reached.bit_count(), of) for _, (reached, of) in sorted(self._coverage.items()))

    def edges_of(self, comparison: int) -> list[dict[str, Any]]:
        """Those of a comparison, as the ledger has them."""
        return [
            {"image": image, "of": of, "reached": reached.bit_count(), "side": side}
            for (image, side), (reached, of) in sorted(self._coverage.items())
            if (image, side) in self._images.get(comparison, ())
        ]

    def coverage(self) -> Iterator[tuple[str, int, int, int]]:
        """Image, side, bits of the edges reached, and how many there are."""
        for (image, side), (reached, of) in self._coverage.items():
            yield image, side, reached, of
