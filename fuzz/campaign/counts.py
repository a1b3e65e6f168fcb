"""What a campaign's processes have run and reached, all together: those of earlier runs, those that ended, and those
that go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from fuzz.campaign.ledger import Ledger
from fuzz.engine.messages import ProcessState
from fuzz.engine.stats import Stats

_RECENT: Final = 12
"""Ticks that rates are taken from."""


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
        """Which of these are a comparison's, as its processes say; and as they said in the run before."""
        self._images_before = ledger.images()
        self._joint = ledger.joint()
        """By comparison and kind: bits of what the sides did together."""
        self._features = dict(ledger.rows("SELECT comparison, max(features) FROM samples GROUP BY comparison"))
        self._recent: deque[tuple[float, int]] = deque(maxlen=_RECENT)
        self._recent_of: dict[int, deque[tuple[float, int]]] = {}
        """By slot, of its present process."""
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
        for kind, reached in state.joint.items():
            self._joint[comparison, kind] = self._joint.get((comparison, kind), 0) | reached

    def note_features(self, comparison: int, features: int) -> None:
        """How many of libFuzzer's features a process of that comparison counts."""
        self._features[comparison] = max(features, self._features.get(comparison) or 0)

    def settle(self, slot: int) -> None:
        """The process in a slot has ended."""
        self._recent_of.pop(slot, None)
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
        """Remember how many there are, for the rates; to be called about once a second."""
        self._recent.append((now, self.executions()))
        for slot, (_, state) in self._present.items():
            recent = self._recent_of.setdefault(slot, deque(maxlen=_RECENT))
            recent.append((now, state.stats.executions))

    @property
    def rate(self) -> float:
        """Executions per second, of late."""
        return _rate(self._recent)

    def rate_of(self, slot: int) -> float:
        """Those of the process in a slot."""
        return _rate(self._recent_of.get(slot, deque()))

    def stats_of(self, comparison: int) -> Stats:
        """What all processes of a comparison counted, ever."""
        present = [state.stats for number, state in self._present.values() if number == comparison]
        return sum(present, self._past[comparison])

    @property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Of every kernel image and side: edges reached, and how many there are."""
        return tuple((reached.bit_count(), of) for _, (reached, of) in sorted(self._coverage.items()))

    def edges_of(self, comparison: int) -> dict[tuple[str, int], tuple[int, int]]:
        """Those of a comparison, by image and side."""
        mine = self._images.get(comparison) or self._images_before.get(comparison, set())
        return {key: (reached.bit_count(), of) for key, (reached, of) in self._coverage.items() if key in mine}

    def joint_of(self, comparison: int) -> dict[str, int]:
        """How much of each kind the sides of a comparison did together."""
        return {kind: bits.bit_count() for (number, kind), bits in self._joint.items() if number == comparison}

    def features_of(self, comparison: int) -> int:
        """libFuzzer's features, of the process of a comparison that ever had most."""
        return self._features.get(comparison) or 0

    def coverage(self) -> Iterator[tuple[str, int, int, int]]:
        """Image, side, bits of the edges reached, and how many there are."""
        for (image, side), (reached, of) in self._coverage.items():
            yield image, side, reached, of

    def joint(self) -> Iterator[tuple[int, str, int]]:
        """Comparison, kind, and bits of what the sides did together."""
        for (comparison, kind), reached in self._joint.items():
            yield comparison, kind, reached


def _rate(recent: Sequence[tuple[float, int]]) -> float:
    if len(recent) < 2:
        return 0.0
    (began, before), (ended, after) = recent[0], recent[-1]
    return (after - before) / (ended - began) if ended > began else 0.0
