"""Which fuzzing process of a smoke does what, in which worker's time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from fuzz.engine.assignment import Assignment

MOST_OPEN: Final = 4
"""Processes that a worker has at once, of which one is at work, and the others are ready for their turn. Each keeps
some 150 MB of memory."""


def plan(assignments: Sequence[Assignment], workers: int, shares: Sequence[float] = ()) -> list[list[Assignment]]:
    """What the processes of each worker are to do. A fuzzing process stays with one kernel image, so several
    `assignments`, which differ in that, have their `shares` of all the workers' time (the same, where none are given),
    and those that do not fit into one worker's go on at the next one's.

    Every process has a seed of its own, counted from that of the assignments in the order of the plan. The run's
    seconds, a worker's time, and executions, of all together, are those of the first assignment; every process has at
    least one execution, where there are enough. The first process of each assignment replays the corpora, for which
    it has all of the run's seconds; one that would have to wait too long among too many does that alone, and another
    one then generates.
    """
    whole = assignments[0]
    pieces = _pieces(len(assignments), workers, shares or [1.0] * len(assignments))
    executions = _split(whole.executions, [piece.share for piece in pieces])
    lanes: list[list[Assignment]] = [[] for _ in range(workers)]
    replayed: set[int] = set()
    for number, (piece, count) in enumerate(zip(pieces, executions, strict=True)):
        replays = piece.assignment not in replayed and bool(whole.corpora)
        replayed.add(piece.assignment)
        assignment = replace(
            assignments[piece.assignment],
            seed=whole.seed + number,
            seconds=None if whole.seconds is None else piece.share * workers * whole.seconds,
            executions=count,
            corpora=whole.corpora if replays else (),
            corpora_seconds=whole.seconds if replays else None,
        )
        lane = lanes[piece.worker]
        if replays and len(lane) >= MOST_OPEN - 1:
            lane.append(replace(assignment, executions=0))
            assignment = replace(assignment, corpora=(), corpora_seconds=None)
        if count != 0 or assignment.corpora:
            lane.append(assignment)
    return lanes


def turns(lane: Sequence[Assignment]) -> list[int]:
    """In which order a worker's processes, by their numbers, do what they are to do: first all replay their corpora,
    then all generate. One that does both waits in between."""
    replaying = [number for number, one in enumerate(lane) if one.corpora]
    return replaying + [number for number, one in enumerate(lane) if one.executions != 0]


@dataclass(frozen=True, slots=True)
class _Piece:
    """A process to come: of which assignment and worker, and its share of all workers' time."""

    assignment: int
    worker: int
    share: float


_NEGLIGIBLE: Final = 1e-6
"""From adding up shares."""


def _pieces(assignments: int, workers: int, shares: Sequence[float]) -> list[_Piece]:
    """The assignments in a row, cut where a worker's time is over."""
    pieces: list[_Piece] = []
    worker, taken = 0, 0.0
    for assignment in range(assignments):
        left = shares[assignment] / sum(shares) * workers
        while left > _NEGLIGIBLE and worker < workers:
            time = min(left, 1.0 - taken)
            pieces.append(_Piece(assignment, worker, time / workers))
            left, taken = left - time, taken + time
            if taken > 1.0 - _NEGLIGIBLE:
                worker, taken = worker + 1, 0.0
    return pieces


def _split(total: int | None, shares: Sequence[float]) -> list[int | None]:
    """`total` by these shares, which add up to 1: whole numbers that add up to it, none of them 0 unless it is smaller
    than their number; then the largest shares have something. None: no limit for any."""
    if total is None:
        return [None] * len(shares)
    ranks = sorted(range(len(shares)), key=lambda number: -shares[number])
    if total < len(shares):
        return [int(number in ranks[:total]) for number in range(len(shares))]
    parts = [max(1, int(total * share + _NEGLIGIBLE)) for share in shares]
    while (rest := total - sum(parts)) != 0:
        for number in ranks[: abs(rest)]:
            parts[number] += 1 if rest > 0 else -(parts[number] > 1)
    return [*parts]
