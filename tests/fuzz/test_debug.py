"""`s2fuzz debug`: a kernel really waits for gdb at the op, and goes on when it is told to."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

import pytest
from processes import await_death, await_descendant, start

from fuzz.cli.main import status_of
from fuzz.sides import parse_side, side_to_json
from reference.build.image import build
from reference.build.sources import KernelChoice, prepare
from reference.probe.symbols import Symbols


class Gdb:
    """As much of gdb's remote protocol as a test needs."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)

    def ask(self, command: str, answer: str) -> str:
        """Send a command, and return the body of the first packet that matches `answer`: QEMU also tells unasked why
        it stopped."""
        body = command.encode()
        self.socket.sendall(b"$%s#%02x" % (body, sum(body) % 256))
        received = b""
        while True:
            for packet in re.findall(rb"\$([^#]*)#[0-9a-f]{2}", received):
                if re.fullmatch(answer, packet.decode()):
                    self.socket.sendall(b"+")
                    return str(packet.decode())
            chunk = self.socket.recv(4096)
            assert chunk, f"gdb stub closed the connection after {received!r}"
            received += chunk


def test_kernel_waits_at_the_op_and_goes_on(linux: str, tmp_path: Path) -> None:
    (tmp_path / "p.s2").write_text("s2 1\n\nmap ipa=0x0 size=2M phys=0x80000000 prot=rwx mc=2\nunmap ipa=0x0 size=2M\n")
    run = start("debug", "p.s2", "--op", "2", "--linux", linux, "--seconds", "60", cwd=tmp_path)
    assert run.stdout is not None
    lines = []
    while "gdb" not in (line := run.stdout.readline()) or "-ex" not in line:
        assert run.poll() is None, run.communicate()
        lines.append(line)
    assert "waits before op 2 (unmap)" in "".join(lines)
    assert "tbreak op_unmap" in line
    qemu = await_descendant(run.pid, "qemu-system-aar")
    match = re.search(r"target remote 127\.0\.0\.1:(\d+)", line)
    assert match is not None
    symbols = Symbols(build(prepare(KernelChoice(linux))).elf)
    gdb = Gdb(int(match.group(1)))
    gdb.ask("?", "[ST].*")
    pc = int.from_bytes(bytes.fromhex(gdb.ask("g", "[0-9a-fx]{528,}"))[32 * 8 : 33 * 8], "little")
    place = symbols.place(pc)
    assert place is not None and place.function == "wait_for_debugger"
    address = symbols.address("debugger_released")
    gdb.ask(f"M{address:x},8:0100000000000000", "OK")
    gdb.socket.sendall(b"$c#63")
    stdout, stderr = run.communicate(timeout=60)
    assert run.returncode == 0, stderr
    assert "unmap ipa=0x0 size=2M  => 0" in stdout
    await_death([qemu])


def test_of_a_finding_its_kernel_waits_where_it_shows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The default kernel has neither op."""
    (tmp_path / "program.s2").write_text("s2 1\nmkold ipa=0x0\nis_young ipa=0x0\n")
    sides = {"left": "model:6.1", "right": "kernel:6.1"}
    record = {
        "bucket": "results-is_young-young",
        "configuration": {name: side_to_json(parse_side(side), {}) for name, side in sides.items()},
        "first_differing_record": 2,
        "format": 1,
        "kind": "divergence",
    }
    (tmp_path / "finding.json").write_text(json.dumps(record))
    assert status_of(["debug", str(tmp_path), "--seconds", "0.1"]) == 3, "no debugger comes"
    assert "waits before op 2 (is_young)" in capsys.readouterr().out
