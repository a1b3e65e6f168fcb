"""Figure 6: the memory of a worker with its QEMU, and whether it grows."""

from __future__ import annotations

import time
from typing import Final

from bench.figure import Bench, Figure, middle
from bench.processes import QEMU, descendants, proportional_mb, resident_mb
from harness.errors import ToolFailure

NAME: Final = "resident megabytes of a worker with its QEMU, and how they grow"
LIMIT: Final = 250.0
GROWTH: Final = 1.05


def measure(bench: Bench) -> Figure:
    series = _series(bench)
    if len(series) < 5:
        raise ToolFailure("the fuzzing process ended too soon to measure its memory")
    fifth = len(series) // 5
    resident = [worker + qemu for _, worker, qemu, _ in series]
    growth = middle(resident[-fifth:]) / middle(resident[fifth : 2 * fifth])
    peak = max(resident)
    return Figure(
        6,
        NAME,
        {"resident_mb": peak, "growth": growth},
        f"below {LIMIT:g} MB; growth at most {GROWTH} (over an hour: bench-long)",
        peak < LIMIT and growth <= GROWTH,
        {
            "worker_mb": max(one[1] for one in series),
            "qemu_mb": max(one[2] for one in series),
            "without_counting_shared_pages_twice_mb": max(one[3] for one in series),
            "seconds": series[-1][0],
            "samples": len(series),
        },
        "peak of VmRSS of the fuzzing process plus VmRSS of its QEMU during `s2fuzz smoke` (the guest's RAM, which "
        "both map, counts twice); growth: median of the last fifth over that of the second.",
        {"seconds": [one[0] for one in series], "resident_mb": resident},
    )


def _series(bench: Bench) -> list[tuple[float, float, float, float]]:
    """(seconds, worker, QEMU, both without counting twice), now and then while it fuzzes."""
    seconds = bench.scale.memory
    series: list[tuple[float, float, float, float]] = []
    with bench.start_smoke(seconds, "--keep-going") as run:
        begun: float | None = None
        while run.poll() is None:
            time.sleep(min(1.0, seconds / 20))
            below = list(descendants(run.pid))
            qemus = [pid for pid, name in below if name.startswith(QEMU)]
            workers = [pid for pid, name in below if not name.startswith(QEMU)]
            if len(qemus) != 1 or len(workers) != 1:
                continue  # it starts, ends, or restarts its kernel
            try:
                both = proportional_mb(workers[0]) + proportional_mb(qemus[0])
                sizes = resident_mb(workers[0]), resident_mb(qemus[0])
            except OSError:
                continue
            begun = time.monotonic() if begun is None else begun
            series.append((time.monotonic() - begun, *sizes, both))
            bench.say(f"{series[-1][0]:.0f}/{seconds:g} s: {sum(sizes):.0f} MB")
        run.communicate()
    return series
