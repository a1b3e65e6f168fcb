"""What the programs of a run came to, in numbers."""

from __future__ import annotations

import errno
from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any, Final

from harness.observation.execution import Feedback
from harness.program.probing import PROBE
from harness.program.program import Program
from harness.verdict.verdicts import Judged

_MASKING_SHARE: Final = 0.03
_MASKING_LEAST: Final = 10
ACCESSES: Final = {0: "succeeded", -errno.EFAULT: "aborted", -errno.ENXIO: "no_memory", None: "cut"}
"""What an access comes to, by its result; all others are of machines without a guest, or whose table is not walked."""
_MAX_COUNTED_OPS: Final = 256


@dataclass
class Stats:
    """What the executed programs came to, in numbers. Counts only."""

    executions: int = 0
    replayed: int = 0
    skipped: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    """Why: what a side said that could not run them."""
    unconfirmed: int = 0
    inconclusive: int = 0
    """Programs whose budget cut the sides at different events, with nothing wrong before."""
    hangs: int = 0
    """Executions in which a side hung, those replayed among them, and how long these took, fresh kernels included."""
    hang_seconds: float = 0.0
    unreplayed: int = 0
    """Programs of the corpora that were not looked at, since hangs had taken all of the run's time."""
    granules: Counter[str] = field(default_factory=Counter)
    """Programs run, those replayed among them; then programs of the corpora that are for other granules."""
    other_granules: Counter[str] = field(default_factory=Counter)
    sizes: Counter[int] = field(default_factory=Counter)
    ops: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)
    programs_succeeded: Counter[str] = field(default_factory=Counter)
    over_budget: int = 0
    tables: list[int] = field(default_factory=lambda: [0] * 5)
    blocks: int = 0
    splits: int = 0
    merges: int = 0
    buckets: Counter[str] = field(default_factory=Counter)
    """Of the programs on which the sides differed, those replayed among them."""
    known: Counter[str] = field(default_factory=Counter)
    """What is known to be wrong, by its key in `harness.verdict.known`: different calls, or translations."""
    mended: Counter[str] = field(default_factory=Counter)
    """Lines of what is known to be wrong and is so no more, by granule."""
    accesses: Counter[str] = field(default_factory=Counter)
    """What a guest's accesses came to, by ACCESSES."""
    probed: int = 0
    """Programs that the hardware judged, replayed ones among them; then those that it could not translate for, by
    why."""
    unprobed: Counter[str] = field(default_factory=Counter)
    judged_accesses: int = 0
    """Accesses in programs that the hardware judged, and those of them that may go through what a TLB still holds."""
    maybe_stale: int = 0

    def masking(self) -> list[str]:
        """Buckets so common that they hide what lies behind them: a program that falls into one shows nothing else."""
        executions = self.executions + self.replayed
        return sorted(
            bucket
            for bucket, count in self.buckets.items()
            if count >= _MASKING_LEAST and count >= _MASKING_SHARE * executions
        )

    def count(self, program: Program, feedback: Feedback | None) -> None:
        """Add one generated program and, where a side told, what it did."""
        self.executions += 1
        self.granules[program.machine.granule.name] += 1
        self.sizes[min(len(program.ops), _MAX_COUNTED_OPS)] += 1
        if feedback is None:
            return
        names = [op.name for op in program.ops]
        self.ops.update(names[: len(feedback.returns) - 1])
        good = [name for name, ret in zip(names, feedback.returns[1:], strict=False) if ret == 0]
        self.succeeded.update(good)
        self.programs_succeeded.update(set(good))
        self._count_accesses(program, feedback)
        self.over_budget += feedback.returns[-1] is None
        shape = feedback.shape
        for level, tables in enumerate(shape.tables):
            self.tables[level] += tables
        self.blocks += shape.blocks
        self.splits += shape.splits
        self.merges += shape.merges

    def _count_accesses(self, program: Program, feedback: Feedback) -> None:
        for op, ret in zip(program.ops, feedback.returns[1:], strict=False):
            if op.definition.asks_hardware and op.definition is not PROBE:
                self.accesses[ACCESSES.get(ret, "no_guest")] += 1

    def count_judged(self, judged: Judged, is_chosen: bool) -> None:
        """Add a program that the hardware judged; one that was not chosen for it was not to be probed either."""
        if is_chosen:
            self._count_probed(judged.unprobed)
        self.judged_accesses += judged.accesses
        self.maybe_stale += judged.maybe_stale

    def _count_probed(self, unprobed: str | None) -> None:
        if unprobed is None:
            self.probed += 1
        else:
            self.unprobed[unprobed] += 1

    def to_json(self) -> dict[str, Any]:
        """Everything counted, for another process."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Stats:
        """What `to_json` made, after a passage through JSON, whose keys are text."""
        stats = cls()
        for name, value in data.items():
            setattr(stats, name, Counter(value) if isinstance(value, dict) else value)
        stats.sizes = Counter({int(size): count for size, count in data["sizes"].items()})
        return stats

    def __add__(self, other: Stats) -> Stats:
        """Both together."""
        total = Stats()
        for name, value in self.to_json().items():
            more = getattr(other, name)
            both = [a + b for a, b in zip(value, more, strict=True)] if isinstance(value, list) else value + more
            setattr(total, name, both)
        return total

    def median_ops(self) -> int:
        """The median number of ops per generated program."""
        half, seen = (self.executions + 1) // 2, 0
        for size in sorted(self.sizes):
            seen += self.sizes[size]
            if seen >= half:
                return size
        return 0

    def summary(self) -> dict[str, Any]:
        """As JSON, keys sorted."""
        total, good = sum(self.ops.values()), sum(self.succeeded.values())
        return {
            "buckets": dict(sorted(self.buckets.items())),
            "executions": self.executions,
            "inconclusive": self.inconclusive,
            "granules": dict(sorted(self.granules.items())),
            "hangs": {"count": self.hangs, "seconds": round(self.hang_seconds, 3)},
            "hardware": {
                "accesses": dict(sorted(self.accesses.items())),
                "judged_accesses": self.judged_accesses,
                "maybe_stale": self.maybe_stale,
                "not_probed": dict(sorted(self.unprobed.items())),
                "probed": self.probed,
            },
            "known": dict(sorted(self.known.items())),
            "lacking": dict(sorted(self.lacking.items())),
            "mended": sorted(self.mended),
            "median_ops": self.median_ops(),
            "op": {
                name: {
                    "count": count,
                    "programs_succeeded": self.programs_succeeded[name],
                    "succeeded": round(self.succeeded[name] / count, 4),
                }
                for name, count in sorted(self.ops.items())
            },
            "ops": total,
            "ops_succeeded": round(good / total, 4) if total else 0.0,
            "masking": self.masking(),
            "other_granules": sorted(self.other_granules.keys() - self.granules.keys()),
            "over_budget": self.over_budget,
            "replayed": self.replayed,
            "skipped": self.skipped,
            "trees": {
                "blocks": self.blocks,
                "merges": self.merges,
                "splits": self.splits,
                "tables_by_level": self.tables,
            },
            "unconfirmed": self.unconfirmed,
            "unreplayed": self.unreplayed,
        }
