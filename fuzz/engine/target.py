"""What libFuzzer calls: the target and the mutators, over a worker. Nothing here imports Atheris."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from fuzz.engine.worker import Handover, Worker
from fuzz.generate import mutation
from fuzz.generate.fresh import fresh

MutateBytes = Callable[[bytes, int], bytes]
"""libFuzzer's own mutator: changes data, up to a size."""


class Target:
    """Runs and makes inputs as `worker` does its assignment. Deterministic by the seeds that libFuzzer hands in."""

    def __init__(self, worker: Worker, mutate_bytes: MutateBytes) -> None:
        self.worker = worker
        self._mutate_bytes = mutate_bytes

    @classmethod
    def in_place_of(cls, left: Handover, mutate_bytes: MutateBytes) -> Target:
        """One that goes on where another one's worker `left` off. Raises as `Worker.in_place_of` does."""
        return cls(Worker.in_place_of(left), mutate_bytes)

    def run(self, data: bytes) -> None:
        """Run an input."""
        self.worker.run_one(data)

    def breed(self, data: bytes, max_size: int, seed: int) -> bytes:
        """Another input, from this one or from nothing."""
        worker = self.worker
        if worker.inbox:  # libFuzzer keeps it if it is something new here, too
            return worker.inbox.popleft()[:max_size]
        # Atheris' own counters cannot be cleared, so libFuzzer may have kept an input that diverged.
        if hash(data) in worker.diverging:
            return fresh(Random(seed), worker.dialect, worker.assignment.stages)[:max_size]
        return self._mutate(data, max_size, seed)

    def cross(self, first: bytes, second: bytes, max_size: int, seed: int) -> bytes:
        """The beginning of one input and the end of another."""
        return mutation.crossover(first, second, Random(seed), self.worker.dialect)[:max_size]

    def _mutate(self, data: bytes, max_size: int, seed: int) -> bytes:
        """Changes op by op; else libFuzzer's own, of one argument's bytes, or, half the time, a scenario or random
        choices, so that a run does not stay with its first finds. The assignment's stages are
        those of the latter."""
        choice, dialect = Random(seed), self.worker.dialect
        kind = choice.random()
        if kind < 0.45:
            return mutation.mutate(data, choice, dialect)[:max_size]
        if kind < 0.5:
            return mutation.mutate_bytes(data, choice, self._mutate_bytes, dialect)[:max_size]
        return fresh(choice, dialect, self.worker.assignment.stages)[:max_size]
