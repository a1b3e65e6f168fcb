"""Figure 4: two workers against one."""

from __future__ import annotations

import os
from typing import Final

from bench.figure import Bench, Figure, middle

NAME: Final = "exec/s of two workers over one"
TARGET: Final = 1.6


def measure(bench: Bench) -> Figure:
    rates: dict[int, list[float]] = {1: [], 2: []}
    for number in range(bench.scale.rounds):
        for workers in (1, 2) if number % 2 == 0 else (2, 1):
            bench.say(f"round {number + 1}: {workers} worker{'s'[: workers - 1]}")
            result = bench.smoke(bench.scale.slice, "--workers", str(workers), "--keep-going", seed=number + 1)
            rates[workers].append(result["executions"] / result["seconds"])
    ratios = [two / one for one, two in zip(rates[1], rates[2], strict=True)]
    return Figure(
        4,
        NAME,
        middle(ratios),
        f"at least {TARGET} on two cores",
        middle(ratios) >= TARGET,
        {
            "exec_per_s_one": middle(rates[1]),
            "exec_per_s_two": middle(rates[2]),
            "ratios": ratios,
            "cores": os.cpu_count(),
        },
        f"`s2fuzz smoke --workers 1` and `2` in turn, {bench.scale.rounds} slices of {bench.scale.slice:g} s each, "
        "the same first seed in a pair.",
    )
