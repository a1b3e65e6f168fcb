"""Whether a campaign still comes upon anything new, of which kind, and since when it does not: without processes, files
or clocks. `at` is seconds of campaign, `executions` how many there were by then."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from fuzz.engine.stats import Stats

WHAT: Final[Mapping[str, str]] = {
    "edges": "kernel edges",
    "lines": "model lines",
    "results": "results (op, code, levels)",
    "events": "events (op, kinds)",
    "features": "counts (how often each)",
    "inputs": "inputs kept",
    "buckets": "buckets found",
}
"""What may grow. `edges` are of the hosted files, of every kernel image; `results` and `events` combinations that the
sides did together (fuzz/coverage/joint.py); `features` libFuzzer's: each of these, and how often, in five steps."""
_TELLING: Final = ("edges", "lines", "results", "events", "features")
"""Of these, what the sides have been seen to do."""
_JUDGED_FROM: Final = 10_000
"""Executions before which nothing is called flat."""
_SLOW: Final = 100.0
"""Executions per second and worker, below which a run is called slow."""
_SLOWED: Final = 1 / 3
"""Of its best rate, below which a run is called slower than it was."""

_MANY: Final = 2
"""Inputs for each of libFuzzer's features, above which that is said: a process keeps one for each at most."""

Values = Mapping[str, tuple[int, int | None]]
"""How many, and of how many where that is known, under the names of `WHAT`."""


@dataclass(frozen=True, slots=True)
class Grown:
    """How far something has come, of how much, and when that was new."""

    value: int
    of: int | None
    at: float
    executions: int

    def is_flat(self, executions: int) -> bool:
        """Whether half of all executions, or more, have brought nothing new."""
        return executions >= _JUDGED_FROM and 2 * self.executions <= executions


class Growth:
    """Told now and then how far everything is; begun anew, told everything that was, it says the same."""

    def __init__(self) -> None:
        self.of: dict[str, Grown] = {}
        """By what grows."""
        self.best_rate = 0.0
        """Executions per second, of all workers."""

    def note(self, at: float, executions: int, values: Values, rate: float = 0.0) -> None:
        """How far it is. What has become less was tidied up, which is nothing new."""
        self.best_rate = max(self.best_rate, rate)
        for name, (value, of) in values.items():
            before = self.of.get(name)
            if before is None or value > before.value:
                self.of[name] = Grown(value, of, at, executions)
            elif (value, of) != (before.value, before.of):
                self.of[name] = Grown(value, of, before.at, before.executions)

    def replay(self, samples: Iterable[Sample]) -> None:
        """Be told what the ledger has, in order of time."""
        for at, together in groupby(samples, key=lambda one: one.at):
            rows = list(together)
            self.note(at, sum(one.executions for one in rows), values_of(rows), max(one.rate for one in rows))


@dataclass(frozen=True, slots=True)
class Sample:
    """How far a comparison was at a moment; `corpus` are the inputs in its `store`, `edges` its (reached, of) by kernel
    image and side, `joint` how much of each kind the sides did together. `rate` and `model_lines` are of the whole
    campaign."""

    at: float
    comparison: int
    executions: int
    rate: float
    store: str
    corpus: int
    edges: Mapping[tuple[str, int], tuple[int, int]]
    model_lines: tuple[int, int]
    buckets: int
    joint: Mapping[str, int]
    features: int


def values_of(samples: Sequence[Sample]) -> Values:
    """How far all comparisons are together, and, as `edges:NUMBER`, each of them. What they share counts once."""
    edges: dict[tuple[str, int], tuple[int, int]] = {}
    values: dict[str, tuple[int, int | None]] = {}
    for one in samples:
        for image, (reached, of) in one.edges.items():
            edges[image] = (max(reached, edges.get(image, (0, 0))[0]), of)
        values[f"edges:{one.comparison}"] = _added(one.edges.values())
    stores = {one.store: one.corpus for one in samples}
    return {
        "edges": _added(edges.values()),
        "lines": max(one.model_lines for one in samples),
        "results": (sum(one.joint.get("results", 0) for one in samples), None),
        "events": (sum(one.joint.get("events", 0) for one in samples), None),
        "features": (sum(one.features for one in samples), None),
        "inputs": (sum(stores.values()), None),
        "buckets": (sum(one.buckets for one in samples), None),
        **values,
    }


def _added(edges: Iterable[tuple[int, int]]) -> tuple[int, int]:
    pairs = list(edges)
    return sum(reached for reached, _ in pairs), sum(of for _, of in pairs)


@dataclass(frozen=True, slots=True)
class Masking:
    """A bucket that so many of a comparison's executions (a share of 1) fall into that it hides what lies behind it."""

    comparison: int
    label: str
    bucket: str
    share: float


def maskings(labels: Sequence[str], stats: Sequence[Stats]) -> list[Masking]:
    """Those of every comparison, which has a label and what its programs came to; the most common first."""
    found = [
        Masking(number, label, bucket, one.buckets[bucket] / max(1, one.executions + one.replayed))
        for number, (label, one) in enumerate(zip(labels, stats, strict=True))
        for bucket in one.masking()
    ]
    return sorted(found, key=lambda one: -one.share)


def remarks(
    at: float, executions: int, growth: Growth, rates: Sequence[float], masked: Iterable[Masking]
) -> Iterator[str]:
    """What whoever looks at a campaign should know, a line each; `rates` are those of the workers that are fuzzing,
    none where it is not running."""
    for one in masked:
        yield (
            f"masked: {one.share:.0%} of executions ({one.label}) are {one.bucket}, which hides what lies behind it; "
            "mend it before you go on"
        )
    total = sum(rates)
    if rates and total / len(rates) < _SLOW:
        yield f"slow: {total / len(rates):,.0f}/s a worker; is the machine busy, was it --no-compile, do programs hang?"
    elif rates and total < growth.best_rate * _SLOWED:
        yield f"slow: {total:,.0f}/s, and {growth.best_rate:,.0f}/s at its best; is the machine busy?"
    if executions < _JUDGED_FROM:
        return
    inputs, features = (growth.of[name].value if name in growth.of else 0 for name in ("inputs", "features"))
    if features and inputs > _MANY * features:
        yield f"many inputs: {inputs:,}, most not needed any more; between runs, `s2fuzz corpus cmin` keeps the rest"
    growing = [name for name in _TELLING if name in growth.of and not growth.of[name].is_flat(executions)]
    last = last_new(growth.of)
    if last is None or not last.executions:
        yield f"odd: nothing new in {executions:,} executions; is it this code that the programs run?"
    elif not growing:
        yield (
            f"flat: nothing new for {duration(at - last.at)}, {executions - last.executions:,} executions; another "
            "granule, object or kernel will show more than more time"
        )
    elif "edges" not in growing:
        yield f"kernel edges are flat; still new: {', '.join(WHAT[name] for name in growing)}"


def last_new(growth: Mapping[str, Grown]) -> Grown | None:
    """Of what the sides have been seen to do, what was new last."""
    return max((growth[name] for name in _TELLING if name in growth), key=lambda one: one.at, default=None)


def growth_rows(growth: Mapping[str, Grown], at: float, executions: int) -> Iterator[tuple[str, str, str, str, str]]:
    """For people: what may grow, how far it is, how long ago and how many executions ago it last was new, and whether
    it is flat. Edges of no kernel are left out."""
    for name, what in WHAT.items():
        one = growth.get(name)
        if one is not None and one.of != 0:
            count = f"{one.value:,}" if one.of is None else f"{one.value:,} of {one.of:,}"
            flat = "flat" if name in _TELLING and one.is_flat(executions) else ""
            if one.value:
                yield what, count, duration(at - one.at), f"{executions - one.executions:,}", flat
            else:
                yield what, count, "never", f"{executions:,}", flat


def duration(seconds: float) -> str:
    """As people say it: `3:07:12` is hours, minutes and seconds."""
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
