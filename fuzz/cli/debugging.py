"""`s2fuzz debug`: a kernel that waits for gdb at one op of a program."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fuzz.cli.chosen import sides_from
from fuzz.cli.options import EXISTING, FINDING, OK, SECONDS, kernel_options
from fuzz.sides import Side
from fuzz.triage.recorded import kernel_of
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import load
from harness.findings.place import is_finding, program_in
from harness.findings.report import observation_text
from harness.observation.executor import TargetDied
from harness.observation.layout import Observation
from harness.program.program import Program
from reference.link.console import ConsoleLink
from reference.link.executor import Reference


def gdb_command(elf: Path, port: int, op: str) -> list[str]:
    """The command that attaches and runs on to the op's entry into the hosted code."""
    gdb = next((name for name in ("gdb-multiarch", "aarch64-linux-gnu-gdb") if shutil.which(name)), "gdb-multiarch")
    steps = (
        f"target remote 127.0.0.1:{port}",
        f"tbreak op_{op}",
        "set var debugger_released = 1",
        "continue",
    )
    return [gdb, *(word for step in steps for word in ("-ex", step)), str(elf)]


def wait_for_debugger(
    program: Program, side: Side, record: int, port: int | None, seconds: float, say: Callable[[str], None]
) -> Observation | None:
    """Run `program` on a kernel that stops before `record`, and wait up to `seconds` for a debugger to let it go on.

    Returns the observation once the program has run to its end, None when the time is up first. Raises BadInput for
    a side that is no kernel or an op that the program does not have.
    """
    if side.kind != "kernel":
        raise BadInput(f"{side.name} is not a kernel; choose one with --linux")
    if not 0 <= record <= len(program.ops):
        raise BadInput(f"the program has ops 1 to {len(program.ops)} (0 is the implicit init), not {record}")
    image = side.image(say, program.machine.granule)
    chosen = _free_port() if port is None else port
    link = ConsoleLink(image.elf, ("-gdb", f"tcp:127.0.0.1:{chosen}"))
    kernel = Reference(image, side.name, link)
    try:
        kernel.stop_at(program, record)
        op = program.ops[record - 1].name if record else "init"
        quoted = " ".join(f"'{word}'" if " " in word else word for word in gdb_command(image.elf, chosen, op))
        if shutil.which(gdb_command(image.elf, chosen, op)[0]) is None:
            say("There is no gdb for arm64 here: apt-get install gdb-multiarch")
        say(f"QEMU (pid {link.pid}) waits before op {record} ({op}). In another terminal:\n\n  {quoted}\n")
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            observation = kernel.wait(1.0)
            if observation is not None:
                return observation
        return None
    finally:
        kernel.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@click.command()
@click.argument("program", type=EXISTING)
@click.option(
    "--op",
    "record",
    type=int,
    help="Stop before this op; 0 is the implicit init.  [default: 1; of a finding, where it shows]",
)
@click.option("--port", type=click.IntRange(1, 65535), help="TCP port for gdb, on 127.0.0.1.  [default: a free one]")
@click.option("--seconds", type=SECONDS, default=3600.0, show_default=True, help="How long to wait for gdb to finish.")
@kernel_options
def debug(program: Path, record: int | None, port: int | None, seconds: float, **kernel: Any) -> int:
    """Run a program in a kernel that waits for gdb at an op.

    Prints the gdb command that attaches, sets a breakpoint on the op and continues to it. Of a finding, the kernel is
    the one that it was found on, unless the options choose another.
    """
    loaded = program_in(program)
    finding = load(program) if is_finding(program) else None
    found_on = kernel_of(finding) if finding is not None and not any(kernel.values()) else None
    side = found_on or sides_from(**kernel)[1]
    if record is None:
        record = 1 if finding is None else finding.record
    try:
        observation = wait_for_debugger(loaded, side, record, port, seconds, click.echo)
    except TargetDied as error:
        click.echo(f"{error.report.kind}: {error.report.headline}\n{error.report.details}")
        return FINDING
    if observation is None:
        raise ToolFailure(f"no debugger let the program go on within {seconds:g} s")
    click.echo(observation_text(loaded, observation), nl=False)
    return OK
