"""What a figure is, how long a benchmark measures, and what its modules share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any, Final

from harness.errors import ToolFailure
from harness.program.codec import decode
from harness.program.program import Program
from reference.build.image import Image, build
from reference.build.sources import KernelChoice, prepare

ROOT: Final = Path(__file__).resolve().parent.parent.parent
_SMOKE_STATUSES: Final = (0, 1, 130)
"""Nothing found, a finding, ended by SIGINT."""


@dataclass(frozen=True)
class Figure:
    """One figure. `values` holds the rates that a ratio was made of beside it; `plots` is for the picture only."""

    number: int
    name: str
    value: float | dict[str, float]
    target: str
    met: bool
    values: dict[str, Any]
    how: str
    plots: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Without the plots, rounded to what can be read."""
        return {
            "figure": self.number,
            "name": self.name,
            "value": rounded(self.value),
            "target": self.target,
            "met": self.met,
            "values": rounded(self.values),
            "how": self.how,
        }


def rounded(value: Any) -> Any:
    """The same with four significant digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: rounded(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(one) for one in value]
    return value


@dataclass(frozen=True)
class Scale:
    """How long to measure. Every time is in seconds."""

    name: str
    slice: float
    rounds: int
    bug_limit: float
    """How long either side may look for one planted bug."""
    bug_seeds: int
    bugs_total: float | None
    """How long both may look for all of them; those not come to are named as left out. None for as long as it takes."""
    boots: int
    memory: float
    growth_slice: float
    growth_rounds: int


QUICK: Final = Scale("quick", 1.0, 1, 1.0, 1, 6.0, 2, 3.0, 0.1, 1)
BENCH: Final = Scale("bench", 5.0, 6, 10.0, 3, 240.0, 20, 60.0, 0.4, 4)
LONG: Final = Scale("long", 20.0, 8, 60.0, 3, None, 100, 3600.0, 2.0, 8)


@dataclass(frozen=True)
class Bench:
    """One run: its scale, a folder for scratch files, and whom to tell what is under way."""

    scale: Scale
    scratch: Path
    say: Callable[[str], None]

    @cached_property
    def image(self) -> Image:
        """The default kernel's image."""
        return build(prepare(KernelChoice()), progress=self.say)

    @cached_property
    def inputs(self) -> list[bytes]:
        """What the fuzzer generates with guidance `both`, in order."""
        self.say("recording inputs")
        path = self.scratch / "inputs"
        self.smoke(self.scale.slice * 1.5, "--guidance", "both", "--inputs", str(path), "--keep-going")
        inputs = [bytes.fromhex(line) for line in path.read_text().split("\n") if line]
        if not inputs:
            raise ToolFailure("the fuzzer generated no inputs")
        return inputs

    @cached_property
    def programs(self) -> list[Program]:
        """A sample of these inputs' programs, spread over the run and none empty."""
        programs = [program for program in map(decode, self.inputs) if program.ops]
        return programs[:: max(1, len(programs) // 1000)]

    def smoke(
        self, seconds: float, *arguments: str, seed: int = 1, environment: dict[str, str] | None = None
    ) -> dict[str, Any]:
        """`s2fuzz smoke`, on generated programs only; its JSON. Raises ToolFailure when it fails."""
        with self.start_smoke(seconds, *arguments, seed=seed, environment=environment) as run:
            out, err = run.communicate(timeout=seconds + 300)
        if run.returncode not in _SMOKE_STATUSES or not out:
            raise ToolFailure(f"s2fuzz smoke ended with status {run.returncode}:\n{err[-2000:]}")
        result: dict[str, Any] = json.loads(out.splitlines()[-1])
        return result

    def start_smoke(
        self, seconds: float, *arguments: str, seed: int = 1, environment: dict[str, str] | None = None
    ) -> subprocess.Popen[str]:
        """The same, started."""
        command = [sys.executable, "-c", "from fuzz.cli.main import main; main()", "smoke", "--no-corpora", "--json"]
        command += ["--seconds", str(seconds), "--seed", str(seed), "--out", str(self.scratch / "out"), *arguments]
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def run_for(seconds: float, step: Callable[[], object]) -> tuple[int, float]:
    """Call `step` until the time is up, at least once. (calls, seconds)."""
    begun = time.monotonic()
    calls = 0
    while (passed := time.monotonic() - begun) < seconds or not calls:
        step()
        calls += 1
    return calls, passed


def endlessly(programs: Sequence[Program]) -> Iterator[Program]:
    """One after the other, and again."""
    while True:
        yield from programs


def middle(values: Sequence[float]) -> float:
    """The median."""
    return float(median(values))


def spread(values: Sequence[float]) -> dict[str, Any]:
    """A sample's median, least and greatest, and the sample."""
    return {"median": middle(values), "least": min(values), "greatest": max(values), "samples": list(values)}
