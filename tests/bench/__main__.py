"""`make bench`: measure, print one JSON on stdout, and write bench.json and bench.svg to --out."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from fuzz.engine import compiling

# Before anything imports these modules otherwise: what is compared runs the model that fuzzing runs.
compiling.install(compiling.compiled(lambda message: print(message, file=sys.stderr)))

from bench import (  # noqa: E402  (after the modules are put in place)
    bench_boot,
    bench_growth,
    bench_hypothesis,
    bench_memory,
    bench_reference,
    bench_text_driver,
    bench_workers,
    picture,
)
from bench.figure import BENCH, LONG, QUICK, Bench, Figure, Scale  # noqa: E402
from harness.errors import BadInput, ToolFailure  # noqa: E402
from reference.link.console import qemu_version  # noqa: E402

FIGURES: Final[dict[int, Callable[[Bench], Figure]]] = {
    5: bench_boot.measure,  # first, for a child begins as a copy of this process, which will be large
    1: bench_reference.measure,
    2: bench_text_driver.measure,
    3: bench_hypothesis.measure,
    4: bench_workers.measure,
    6: bench_memory.measure,
    7: bench_growth.measure,
}


def main() -> int:
    """The command. Its status says whether it could measure, not whether targets are met: the figures say that."""
    options = _options()
    scale = LONG if options.long else QUICK if options.quick else BENCH
    numbers = [number for number in FIGURES if number in (options.only or FIGURES)]
    try:
        if options.picture:
            picture.check()
        options.out.mkdir(parents=True, exist_ok=True)
        result, figures = _measure(scale, numbers, options.out / "bench.json")
        if options.picture:
            picture.draw(figures, f"s2fuzz, {scale.name}, {result['machine']['processor']}", options.out / "bench.svg")
    except (BadInput, ToolFailure, OSError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 3
    print(json.dumps(result))
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench-out"), help="where the files go (default: bench-out)")
    parser.add_argument("--only", type=int, action="append", choices=FIGURES, help="measure this figure; repeatable")
    parser.add_argument("--no-picture", dest="picture", action="store_false", help="without matplotlib")
    lengths = parser.add_mutually_exclusive_group()
    lengths.add_argument("--quick", action="store_true", help="slices of a second: tries the machinery, means nothing")
    lengths.add_argument("--long", action="store_true", help="longer slices, every planted bug, an hour of memory")
    return parser.parse_args()


def _measure(scale: Scale, numbers: list[int], file: Path) -> tuple[dict[str, Any], dict[int, Figure]]:
    """What `file` says, and the figures. It is written after every figure, for a later one may fail."""
    begun = time.monotonic()
    figures: dict[int, Figure] = {}
    measured: list[dict[str, Any]] = []
    result: dict[str, Any] = {
        "scale": scale.name,
        "seconds": 0.0,
        "machine": {
            "cores": os.cpu_count(),
            "load_before": os.getloadavg()[0],
            "processor": _processor(),
            "python": platform.python_version(),
            "qemu": qemu_version(),
        },
        "figures": measured,
    }
    with tempfile.TemporaryDirectory(prefix="s2fuzz-bench-") as scratch, _progress() as say:
        label = ""
        bench = Bench(scale, Path(scratch), lambda text: say(f"{label}: {text}"))
        for number in numbers:
            label = f"figure {number} of {len(FIGURES)}"
            since = time.monotonic()
            figures[number] = FIGURES[number](bench)
            now = time.monotonic()
            measured.append({**figures[number].to_json(), "seconds": round(now - since, 1)})
            result["seconds"] = round(now - begun, 1)
            file.write_text(json.dumps(result, indent=2) + "\n")
    return result, figures


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Yields what to call with what is under way: a live line on a terminal, elsewhere a line for each figure."""
    console = Console(stderr=True)
    if not console.is_terminal:
        last = ""

        def say(text: str) -> None:
            nonlocal last
            if text.partition(":")[0] != last:
                last = text.partition(":")[0]
                print(text, file=sys.stderr, flush=True)

        yield say
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=console, transient=True
    ) as bar:
        task = bar.add_task("starting")
        yield lambda text: bar.update(task, description=text)


if __name__ == "__main__":
    sys.exit(main())
