"""Figure 5: boot to ready, and restart after a crash, beside what starting anything costs on this machine."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Final

from bench.figure import Bench, Figure, middle, spread
from harness.observation.executor import TargetDied
from harness.program.program import Program
from reference.link.console import QEMU
from reference.link.executor import Reference
from reference.link.ram import RamLink

NAME: Final = "milliseconds from boot to ready, and from a crash to the next program's digest"
BOOT: Final = 60.0
RESTART: Final = 120.0

_EMPTY_QEMU: Final = (QEMU, "-M", "none", "-nodefaults", "-display", "none", "-monitor", "stdio")
_EMPTY_PYTHON: Final = (sys.executable, "-I", "-c", "pass")


def measure(bench: Bench) -> Figure:
    link = RamLink(bench.image.elf)
    with closing(Reference(bench.image, "kernel:6.12")) as kernel, closing(link):

        def restart() -> None:
            with suppress(TargetDied):
                kernel.misbehave("n")
            kernel.start(Program(()))
            kernel.finish()

        restart()  # reads the symbols, which a worker does once
        steps: dict[str, Callable[[], object]] = {
            "boot": link.start,
            "restart": restart,
            "empty_qemu": lambda: subprocess.run(_EMPTY_QEMU, input=b"quit\n", stdout=subprocess.DEVNULL, check=True),
            "python_pass": lambda: subprocess.run(_EMPTY_PYTHON, check=True),
        }
        samples: dict[str, list[float]] = {name: [] for name in steps}
        for number in range(bench.scale.boots):
            bench.say(f"boot {number + 1}")
            for name, step in steps.items():
                link.close()
                begun = time.monotonic()
                step()
                samples[name].append((time.monotonic() - begun) * 1000)
    medians = {name: middle(values) for name, values in samples.items()}
    return Figure(
        5,
        NAME,
        {"boot_ms": medians["boot"], "restart_ms": medians["restart"]},
        f"boot below {BOOT:g}, restart below {RESTART:g}",
        medians["boot"] < BOOT and medians["restart"] < RESTART,
        {
            "boot_over_empty_qemu": medians["boot"] / medians["empty_qemu"],
            "boot_over_python_pass": medians["boot"] / medians["python_pass"],
            "restart_over_empty_qemu": medians["restart"] / medians["empty_qemu"],
            "restart_over_python_pass": medians["restart"] / medians["python_pass"],
            "milliseconds": {name: spread(values) for name, values in samples.items()},
        },
        f"medians of {bench.scale.boots} each, one of every kind in turn. Boot: from starting QEMU to the kernel's "
        "greeting. Restart: from the request that crashes the kernel (a NULL access) over its report, symbolised, and "
        "a new QEMU, to the digest of an empty program. The two constants are QEMU without a machine, and "
        "`python -I -c pass`.",
    )
