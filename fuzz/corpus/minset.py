"""The smallest corpus that reaches all that a corpus reaches, on both sides.

What an input reaches: edges of every kernel's hosted file, by how often they are taken; what the sides do together
(op, return code, levels and kinds of event); and lines of the model. All inputs are run twice, once to choose and once
to see that nothing is lost; only then does the smaller corpus take the place of the other.
"""

from __future__ import annotations

import heapq
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.corpus.store import Store, beside, check_whole, stamp_of
from fuzz.coverage.joint import JointCoverage
from fuzz.coverage.model_lines import Line, following, forget
from fuzz.sides import Side
from harness.durable import exchange, sync_folder
from harness.errors import ToolFailure
from harness.observation.executor import TargetDied
from harness.outside import shown
from harness.program.program import Program
from reference.link.executor import Reference

Feature = tuple[object, ...]
Told = Callable[[int, int], None]

_LEVELS: Final = (0, 1, 2, 3, 4, 4, 4, 4, 5)
"""Counts that are taken for the same, as libFuzzer does."""


class Meter:
    """Runs programs on two sides, opened for one granule, and says what they reach. To be closed."""

    def __init__(self, sides: tuple[Side, Side], store: Store) -> None:
        self._sides = sides
        with ExitStack() as stack:
            self._executors = [side.open_for(store.dialect.granule) for side in sides]
            for executor in self._executors:
                stack.callback(executor.close)
            self._kernels = [
                side.coverage() for side in self._executors if isinstance(side, Reference) and side.image.has_counters
            ]
            self._joint = JointCoverage()
            self._closing = stack.pop_all()

    def close(self) -> None:
        """It cannot be used afterwards."""
        self._closing.close()

    def reached(self, program: Program) -> frozenset[Feature]:
        """What a program reaches. Raises TargetDied, BadInput where a side cannot run it."""
        self._take()  # what is there of a program that did not come to its end
        for side in self._executors:
            side.start(program)
        told = [side.finish().feedback for side in self._executors]
        found: set[Feature] = set(self._lines(program))
        feedback = next((one for one in told if one is not None), None)
        if feedback is not None:
            self._joint.note(program, feedback)
        for number, counts in enumerate(self._take()):
            found.update((number, at, _LEVELS[count]) for at, count in enumerate(counts) if count)
        return frozenset(found)

    def _lines(self, program: Program) -> set[Line]:
        """Of a model that remembers no other program: what it has at hand for the next one takes other lines."""
        models = [side.open_for(program.machine.granule) for side in self._sides if not side.is_kernel]
        if not models:
            return set()
        forget()
        with following() as lines:
            models[0].start(program)
            models[0].finish()
        return lines

    def _take(self) -> list[bytes]:
        return [*(kernel.take() for kernel in self._kernels), self._joint.take()]


@dataclass(frozen=True, slots=True)
class Saved:
    """What came of it: inputs and bytes, before and after; and how many things the inputs reach."""

    inputs: int
    size: int
    inputs_before: int
    size_before: int
    features: int
    lost: tuple[str, ...]
    """Inputs on which a side died: they are kept."""


def cmin(store: Store, comparisons: Sequence[tuple[Side, Side]], told: Told) -> Saved:
    """Put the smallest corpus into the place of `store`'s, on which all comparisons were run. `told` hears how many of
    how many inputs were run.

    Raises BadInput where the store is damaged, ToolFailure where a side fails or the smaller corpus does not reach as
    much; then everything is as it was.
    """
    for path in sorted(store.folder.iterdir()):
        check_whole(path)
    names = store.names()
    before, lost = measure(store, names, comparisons, lambda ran: told(ran, len(names)))
    sizes = {name: len(store.read(name)) for name in names}
    chosen = cover(before, sizes)
    folder = beside(store.folder)
    _remove(folder)
    smaller = Store.open(folder, store.scratch, store.dialect)
    try:
        smaller.add(store.read(name) for name in chosen)
        after, _ = measure(smaller, chosen, comparisons, lambda ran: told(len(names) + ran, len(names) + len(chosen)))
        missing = _all(before) - _all(after)
        if missing or smaller.names() != sorted(chosen):
            raise ToolFailure(
                f"{shown(store.folder)}: left as it was, since the smaller corpus did not reach {len(missing)} of "
                f"{len(_all(before))} features when it was run again"
            )
        exchange(folder, store.folder)
        sync_folder(store.folder.parent)
    finally:
        _remove(folder)
    return Saved(
        len(chosen), sum(sizes[name] for name in chosen), len(names), sum(sizes.values()), len(_all(before)), lost
    )


def measure(
    store: Store, names: Sequence[str], comparisons: Sequence[tuple[Side, Side]], told: Callable[[int], None]
) -> tuple[dict[str, frozenset[Feature]], tuple[str, ...]]:
    """What each input reaches in any of the comparisons; and those on which a side died, which reach something that no
    other does."""
    found: dict[str, frozenset[Feature]] = {name: frozenset() for name in names}
    lost: list[str] = []
    ran = 0
    for number, sides in enumerate(comparisons):
        meter = Meter(sides, store)
        try:
            for name in names:
                program = store.program(name)
                try:
                    reached = meter.reached(program)
                except TargetDied:
                    reached = frozenset({("died", name)})
                    lost.append(name)
                found[name] |= {(number, *feature) for feature in reached}
                ran += 1
                told(ran // len(comparisons))
        finally:
            meter.close()
    return found, tuple(dict.fromkeys(lost))


def cover(reached: Mapping[str, frozenset[Feature]], sizes: Mapping[str, int]) -> list[str]:
    """Few and short inputs that together reach all: greedily, the one that adds most first, and then without those that
    the others made superfluous."""
    left = set(_all(reached))
    # What an input adds only ever becomes less, so one that still adds what it did last time is the best.
    queue = [(-len(features), sizes[name], name) for name, features in reached.items()]
    heapq.heapify(queue)
    chosen: list[str] = []
    while left and queue:
        _, size, name = heapq.heappop(queue)
        adds = len(reached[name] & left)
        if adds and (not queue or (-adds, size, name) <= queue[0]):
            chosen.append(name)
            left -= reached[name]
        elif adds:
            heapq.heappush(queue, (-adds, size, name))
    return _without_superfluous(chosen, reached, sizes)


def _without_superfluous(
    chosen: Sequence[str], reached: Mapping[str, frozenset[Feature]], sizes: Mapping[str, int]
) -> list[str]:
    times: dict[Feature, int] = {}
    for name in chosen:
        for feature in reached[name]:
            times[feature] = times.get(feature, 0) + 1
    kept = set(chosen)
    for name in sorted(chosen, key=lambda one: (-sizes[one], one)):
        if all(times[feature] > 1 for feature in reached[name]):
            kept.remove(name)
            for feature in reached[name]:
                times[feature] -= 1
    return sorted(kept)


def _all(reached: Mapping[str, frozenset[Feature]]) -> frozenset[Feature]:
    return frozenset().union(*reached.values())


def _remove(folder: Path) -> None:
    """With its stamp. It is a part of a corpus, or one whose place a smaller one has taken."""
    if folder.exists():
        shutil.rmtree(folder)
    stamp_of(folder).unlink(missing_ok=True)
