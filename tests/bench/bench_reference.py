"""Figure 1: what the reference costs. The fuzzing process with both sides, against the same with the kernel off."""

from __future__ import annotations

import json
from typing import Any, Final

from bench.figure import ROOT, Bench, Figure, middle
from harness.errors import ToolFailure

NAME: Final = "differential exec/s over the same target with the reference off"
TARGET: Final = 0.85
_LIMIT: Final = 600.0
"""Seconds that a slice may take at most; the process is ended when it has run its inputs."""
_INSIDE: Final = ROOT / "tests/bench/inside"
_MODES: Final = [(guidance, reference) for guidance in ("both", "kernel") for reference in (True, False)]


def measure(bench: Bench) -> Figure:
    inputs = bench.inputs
    executions = max(100, len(inputs) * 2 // 3)
    taken: dict[tuple[str, bool], list[dict[str, float]]] = {mode: [] for mode in _MODES}
    for number in range(bench.scale.rounds):
        for mode in _MODES if number % 2 == 0 else reversed(_MODES):
            bench.say(f"round {number + 1}: guidance {mode[0]}, reference {'on' if mode[1] else 'off'}")
            taken[mode].append(_run(bench, executions, *mode))
    values: dict[str, Any] = {"inputs_per_slice": executions, "slices_per_mode": bench.scale.rounds}
    ratios = {}
    for guidance in ("both", "kernel"):
        on, off = taken[guidance, True], taken[guidance, False]
        pairs = [_rate(one) / _rate(other) for one, other in zip(on, off, strict=True)]
        ratios[guidance] = middle(pairs)
        values[guidance] = {
            "exec_per_s": middle(list(map(_rate, on))),
            "exec_per_s_reference_off": middle(list(map(_rate, off))),
            "ratios": pairs,
            "cpu_us_per_execution": {side: _cpu(on, side) for side in ("python", "qemu")},
            "cpu_us_per_execution_reference_off": _cpu(off, "python"),
        }
    return Figure(
        1,
        NAME,
        ratios,
        f"both: at least {TARGET}; kernel, the default mode, beside it",
        ratios["both"] >= TARGET,
        values,
        "`s2fuzz smoke` with the whole fuzzing process at work, its mutator included, on the same recorded inputs in "
        "the same order; reference off: start() does nothing and finish() gives the model's digest. Four modes in "
        "alternating order, medians of paired slices; CPU time from /proc/PID/stat.",
    )


def _rate(slice_: dict[str, float]) -> float:
    return slice_["executions"] / slice_["seconds"]


def _cpu(slices: list[dict[str, float]], side: str) -> float:
    """Microseconds per execution."""
    return middle([one[f"{side}_cpu"] / one["executions"] * 1e6 for one in slices])


def _run(bench: Bench, executions: int, guidance: str, reference: bool) -> dict[str, float]:
    out = bench.scratch / "measured.json"
    out.unlink(missing_ok=True)
    recorded = bench.scratch / "inputs"
    plan = {"executions": executions, "inputs": str(recorded), "out": str(out), "reference": reference}
    bench.smoke(
        _LIMIT,
        *("--guidance", guidance, "--keep-going"),
        environment={"PYTHONPATH": f"{_INSIDE}:{ROOT}:{ROOT / 'tests'}", "S2FUZZ_BENCH": json.dumps(plan)},
    )
    if not out.exists():
        raise ToolFailure("the fuzzing process ended before it had run all that is measured")
    taken: dict[str, float] = json.loads(out.read_text())
    return taken
