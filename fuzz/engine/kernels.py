"""The kernels that a run's processes need: what they begin with is built first, the others while those fuzz."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Self

from fuzz.engine.assignment import Assignment
from fuzz.sides import Side
from harness.errors import BadInput
from harness.program.granule import GRANULE_4K, Granule, granule_named
from reference.build.progress import Progress, silent


class Kernels:
    """Kernels of the sides that assignments name, each for one granule. To be used as a context."""

    def __init__(self) -> None:
        self._behind = ThreadPoolExecutor(1, "kernels")
        self._built: dict[tuple[Side, Granule], Future[None] | None] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._behind.shutdown(wait=False, cancel_futures=True)

    def build(self, assignments: Iterable[Assignment], progress: Progress) -> None:
        """Build what these need. Raises as `Side.open` does."""
        for side, granule in _needed(assignments):
            if (side, granule) not in self._built:
                _build(side, granule, progress)
                self._built[side, granule] = None

    def build_behind(self, assignments: Iterable[Assignment]) -> None:
        """Begin to build what these need, in their order, in another thread."""
        for needed in _needed(assignments):
            if needed not in self._built:
                self._built[needed] = self._behind.submit(_build, *needed)

    def are_there(self, assignment: Assignment) -> bool:
        """Whether its kernels are built, so that `wait_for` does not wait, nor raise."""
        futures = [self._built.get(needed) for needed in _needed([assignment])]
        return all(future is None or (future.done() and future.exception() is None) for future in futures)

    def wait_for(self, assignment: Assignment) -> None:
        """Return once its kernels are there. Raises as `Side.open` does, late for those behind."""
        for needed in _needed([assignment]):
            if (future := self._built.get(needed)) is not None:
                future.result()


def _needed(assignments: Iterable[Assignment]) -> Iterator[tuple[Side, Granule]]:
    for assignment in assignments:
        for side in assignment.sides:
            yield side, granule_named(assignment.granule)


def _build(side: Side, granule: Granule, progress: Progress = silent) -> None:
    try:
        side.open(progress, [granule]).close()
    except BadInput as error:
        if granule == GRANULE_4K:
            raise
        raise BadInput(f"for pages of {granule.name}: {error}") from error
