"""The console link: one QEMU, its lines, and what reaches neither end whole."""

from __future__ import annotations

import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sample_programs import BUSY, largest_program

from harness.errors import ToolFailure
from harness.model.executor import Model
from harness.program.machine import MAX_POOL_PAGES
from harness.program.program import Program
from reference.build.image import Image
from reference.link import console
from reference.link.console import ConsoleLink, printable
from reference.link.executor import Reference
from reference.link.link import LinkClosed, LinkTimeout
from reference.memory_map import RAM_SIZE
from reference.protocol import GREETING, Message, decode_digest, encode_frame, encode_program, encode_scaled

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
"""Seconds; a bound for what takes milliseconds."""


@pytest.fixture
def link(image: Image) -> Iterator[ConsoleLink]:
    """A link with a kernel that has booted."""
    with closing(ConsoleLink(image.elf)) as started:
        started.start()
        yield started


def ask(link: ConsoleLink, kind: str, payload: bytes = b"") -> Message:
    link.send(Message(kind, 5, payload))
    return link.receive(PATIENCE)


def alive(pid: int) -> bool:
    """Whether the process runs; one that its parent has yet to ask for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def wait_until_gone(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


def test_requests_are_answered(link: ConsoleLink) -> None:
    assert ask(link, "H") == Message("H", 5, GREETING.encode())
    reply = ask(link, "D", encode_program(BUSY))
    model = Model()
    model.start(BUSY)
    assert (reply.type, reply.seq, decode_digest(reply)) == ("D", 5, (model.finish().digest, 0))


@pytest.mark.parametrize(
    ("kind", "payload", "complaint"),
    [
        ("Z", b"", b"unknown request"),
        ("F", b"", b"malformed program"),
        ("D", b"\x00\xfe", b"malformed program"),
        ("D", b"\x00\x02\x00", b"malformed program"),
        ("D", b"\x02" + encode_scaled(MAX_POOL_PAGES + 1), b"malformed program"),
    ],
    ids=["no such type", "empty", "no such op", "missing arguments", "too many pool pages"],
)
def test_what_is_no_request_is_refused(link: ConsoleLink, kind: str, payload: bytes, complaint: bytes) -> None:
    assert ask(link, kind, payload) == Message("E", 5, complaint)
    assert ask(link, "H").type == "H"


def test_a_damaged_request_is_never_misread(link: ConsoleLink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever byte is changed into whatever: the kernel refuses the line, or gives the right answer."""
    request = encode_frame(Message("D", 5, encode_program(BUSY)))
    expected = ask(link, "D", encode_program(BUSY))
    harmful = (b"\n", console._MONITOR_TOGGLE[:1])
    rng = random.Random(9)
    refused = 0
    for _ in range(300):
        at, byte = rng.randrange(1, len(request) - 1), bytes([rng.randrange(256)])
        if byte in harmful:
            continue
        monkeypatch.setattr(
            console, "encode_frame", lambda _, at=at, byte=byte: request[:at] + byte + request[at + 1 :]
        )
        reply = ask(link, "D")
        if reply != expected:
            assert (reply.type, reply.seq) == ("E", 0xFFFF)
            refused += 1
    assert refused > 200


def test_text_between_lines_is_skipped(link: ConsoleLink, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = encode_frame(Message("H", 5, b""))
    rng = random.Random(10)
    noise = rng.randbytes(3000).translate(None, delete=b"\x01>")
    monkeypatch.setattr(console, "encode_frame", lambda _: noise + b"\n" + frame)
    assert ask(link, "H").payload == GREETING.encode()


def test_the_largest_program(link: ConsoleLink) -> None:
    program = largest_program()
    model = Model()
    model.start(program)
    assert decode_digest(ask(link, "D", encode_program(program))) == (model.finish().digest, 0)


def test_signals_do_not_cut_a_request(link: ConsoleLink) -> None:
    """A write that a signal interrupts reports how far it came."""
    program = Program(largest_program().ops[:1200])
    request, seen = encode_program(program), 0

    def count(*_: object) -> None:
        nonlocal seen
        seen += 1

    expected = ask(link, "D", request)
    previous = signal.signal(signal.SIGALRM, count)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.003, 0.003)
        reply = ask(link, "D", request)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert reply == expected
    assert seen > 3


@pytest.mark.parametrize("seconds", [0.2, 0.0])
def test_nothing_comes_unasked(link: ConsoleLink, seconds: float) -> None:
    """No time is left where a kernel went on talking until then."""
    with pytest.raises(LinkTimeout):
        link.receive(seconds)


def test_a_kernel_with_other_definitions_is_refused(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "GREETING", "s2fuzz 1 0123456789abcdef")
    with closing(ConsoleLink(image.elf)) as link:
        with pytest.raises(ToolFailure, match="speaks another protocol") as caught:
            link.start()
        assert GREETING in str(caught.value)
        assert link.pid is None


def test_something_that_is_no_test_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(console, "BOOT_TIMEOUT", 0.5)
    other = tmp_path / "kernel.elf"
    other.write_bytes(bytes(4096))
    with closing(ConsoleLink(other)) as link, pytest.raises(ToolFailure, match="did not boot"):
        link.start()


def test_an_option_that_qemu_refuses(image: Image) -> None:
    with closing(ConsoleLink(image.elf, ("-no-such-option",))) as link:
        with pytest.raises(ToolFailure, match="did not boot") as caught:
            link.start()
        assert "no-such-option" in str(caught.value)


def test_no_qemu(image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with closing(ConsoleLink(image.elf)) as link, pytest.raises(ToolFailure, match="cannot be started"):
        link.start()
    with pytest.raises(ToolFailure, match="not installed"):
        console.qemu_version()


def test_another_qemu_can_be_named(image: Image, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With words before and after it, and a name that a shell has to quote; PATH leads to none."""
    qemu = tmp_path / "it's QEMU"
    qemu.symlink_to(str(shutil.which(console.QEMU)))
    monkeypatch.setenv(console.QEMU_SETTING, shlex.join(["/usr/bin/env", "-u", "NOTHING", str(qemu), "-name", "other"]))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert console.qemu_version().startswith("QEMU emulator version")
    with closing(ConsoleLink(image.elf)) as link:
        link.start()
        assert Path(f"/proc/{link.pid}/cmdline").read_bytes().startswith(f"{qemu}\0-name\0other\0-M\0".encode())


def test_a_qemu_is_asked_once_for_its_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A fuzzing process tells it with each message."""
    qemu = tmp_path / "qemu"
    qemu.write_text(f'#!/bin/sh\necho asked >> {tmp_path}/log\necho "QEMU emulator version 0"\n')
    qemu.chmod(0o755)
    monkeypatch.setenv(console.QEMU_SETTING, str(qemu))
    assert [console.qemu_version() for _ in range(2)] == ["QEMU emulator version 0"] * 2
    assert (tmp_path / "log").read_text() == "asked\n"


@pytest.mark.parametrize(
    ("setting", "said"), [("/nowhere/qemu", "/nowhere/qemu is not installed; S2FUZZ_QEMU"), ("'qemu", "cannot be read")]
)
def test_a_qemu_that_is_named_in_vain(setting: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(console.QEMU_SETTING, setting)
    with pytest.raises(ToolFailure, match=said):
        console.qemu_version()


def test_a_qemu_that_is_gone(link: ConsoleLink) -> None:
    os.kill(link.pid, signal.SIGKILL)
    with pytest.raises(LinkClosed):
        ask(link, "H")
    link.start()
    assert ask(link, "H").type == "H"


def test_closing_ends_qemu(link: ConsoleLink) -> None:
    pid = link.pid
    assert alive(pid)
    link.close()
    link.close()
    assert link.pid is None
    assert not alive(pid)
    with pytest.raises(LinkClosed):
        ask(link, "H")


def test_starting_again_ends_the_first(link: ConsoleLink) -> None:
    pid = link.pid
    link.start()
    assert not alive(pid)
    assert alive(link.pid)


def test_where_a_sleeping_kernel_is(link: ConsoleLink, kernel: Reference) -> None:
    places = [kernel.symbols.place(counter) for counter in link.program_counters()]
    assert places[0] is not None and places[0].file.endswith("console.c")


def test_qemu_is_confined(link: ConsoleLink) -> None:
    """Its own seccomp sandbox, no new privileges, and bounds on what a guest could make it take."""
    status = Path(f"/proc/{link.pid}/status").read_text().splitlines()
    assert {"Seccomp:\t2", "NoNewPrivs:\t1"} <= set(status)
    limits = Path(f"/proc/{link.pid}/limits").read_text()
    found = {name: re.search(rf"^{name} +(\w+) +(\w+)", limits, re.MULTILINE) for name in LIMITED}
    assert {name: match.groups() for name, match in found.items() if match} == LIMITED
    arguments = Path(f"/proc/{link.pid}/cmdline").read_bytes().decode().split("\0")
    assert "-nodefaults" in arguments and arguments[arguments.index("-nic") + 1] == "none"


LIMITED = {
    "Max address space": ("2147483648", "2147483648"),
    "Max file size": (str(RAM_SIZE), str(RAM_SIZE)),
    "Max core file size": ("0", "0"),
}


def test_printable() -> None:
    assert printable(b"\x1b[31mred\xff\r\n\x00\ttab\x7f") == "?[31mred?\n??tab?"


OPEN_A_KERNEL = """
import os, sys, time
from harness.program.program import Program
from reference.build.image import build
from reference.link.executor import Reference
from reference.build.sources import KernelChoice, prepare
kernel = Reference(build(prepare(KernelChoice())), "kernel")
kernel.start(Program(()))
kernel.finish()
if sys.argv[1] == "held" and not os.fork():
    sys.stdin.read()
    os._exit(0)
print(kernel.link.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("console", ["closed", "held"])
def test_qemu_dies_with_its_parent(console: str) -> None:
    """Even where another process still holds our end of the console, so that QEMU sees no end of it."""
    command = [sys.executable, "-c", OPEN_A_KERNEL, console]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) as parent:
        try:
            pid = int(parent.stdout.readline())
            assert alive(pid)
            parent.kill()
            parent.wait(PATIENCE)
            assert wait_until_gone(pid)
        finally:
            parent.kill()


def test_a_parent_that_dies_at_once() -> None:
    """Between fork and prctl there is a moment in which the parent's death would go unnoticed."""
    helper = "from harness.parent_death import die_with; import time; die_with(1 << 30); time.sleep(600)"
    result = subprocess.run([sys.executable, "-c", helper], cwd=ROOT, timeout=PATIENCE, check=False)
    assert result.returncode == 1
