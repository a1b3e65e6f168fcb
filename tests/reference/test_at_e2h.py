"""Why hVHE's tables can be probed as nVHE's are: this QEMU's AT S1E2R reads EL2's registers as HCR_EL2.E2H says."""

from __future__ import annotations

import subprocess
from pathlib import Path

from reference.link.console import qemu_words
from reference.tools import find_toolchain

SOURCE = Path(__file__).parent / "at_e2h.S"
SECONDS = 60


def test_at_s1e2r_heeds_e2h(tmp_path: Path) -> None:
    tools, built = find_toolchain(), tmp_path / "at_e2h"
    subprocess.run(
        [tools.clang, "--target=aarch64-linux-gnu", "-c", "-o", f"{built}.o", str(SOURCE)], check=True, timeout=SECONDS
    )
    subprocess.run([tools.lld, "-Ttext=0x40200000", "-o", str(built), f"{built}.o"], check=True, timeout=SECONDS)
    said = subprocess.run(
        [
            *qemu_words(),
            *("-M", "virt,virtualization=on,secure=on", "-cpu", "max", "-semihosting", "-nodefaults"),
            *("-display", "none", "-serial", "stdio", "-kernel", str(built)),
        ],
        check=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=SECONDS,
    ).stdout
    assert said == "0110", "then hVHE's tables must be left out (`walkable_hyp` in reference/kernel/ops/guest.c)"
