"""The driver: kernels that panic, hang or babble, QEMUs that are killed, messages that are damaged."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
from altered_tree import HANGS_SOON
from sample_programs import BUSY, ONE_PAGE, random_programs
from thinning import every

from harness.errors import BadInput, ToolFailure
from harness.observation.executor import CrashReport, TargetDied
from harness.observation.layout import Digest
from harness.program.program import Program
from reference.build.image import Image
from reference.link import console
from reference.link.console import ConsoleLink
from reference.link.executor import Reference, describe_esr
from reference.protocol import Message

SHORT = 1.0
"""Seconds to wait for an answer that does not come."""


def digest(kernel: Reference, program: Program = BUSY) -> Digest:
    kernel.start(program)
    return kernel.finish().digest


@pytest.fixture(scope="module")
def expected(kernel: Reference) -> Digest:
    return digest(kernel)


def death(kernel: Reference, how: str) -> CrashReport:
    with pytest.raises(TargetDied) as caught:
        kernel.misbehave(how)
    return caught.value.report


def registers(report: CrashReport) -> dict[str, int]:
    return {name: int(value, 16) for name, value in re.findall(r"\b(x\d+|sp) ([0-9a-f]{16})\b", report.details)}


# Kernels that go wrong


@pytest.mark.parametrize("how", every(2, "nxsb"))
def test_after_a_crash_the_next_program_is_right(own_kernel: Reference, expected: Digest, how: str) -> None:
    assert digest(own_kernel) == expected
    report = death(own_kernel, how)
    assert report.kind == "crash"
    assert "misbehave" in report.headline
    assert re.search(r"at misbehave \(main\.c:\d+\)", report.details)
    assert len(registers(report)) == 32
    assert own_kernel.boots == 1
    assert digest(own_kernel) == expected
    assert own_kernel.observe(BUSY).digest == expected
    assert own_kernel.boots == 2


def test_a_null_access(own_kernel: Reference) -> None:
    report = death(own_kernel, "n")
    assert report.headline == "synchronous exception (data abort on write) in misbehave"
    assert "FAR 0x8\n" in report.details


def test_a_write_to_text(own_kernel: Reference) -> None:
    report = death(own_kernel, "x")
    assert report.headline == "synchronous exception (data abort on write) in misbehave"
    assert f"FAR {own_kernel.symbols.address('kernel_main'):#x}\n" in report.details


def test_a_lost_stack_is_reported_from_the_emergency_stack(own_kernel: Reference) -> None:
    report = death(own_kernel, "s")
    assert registers(report)["sp"] == 4096
    assert "FAR 0xff0\n" in report.details


def test_lines_and_registers_are_those_of_the_crash(own_kernel: Reference) -> None:
    """And what the ordinary stack holds is untouched: it leads back to where the kernel was entered."""
    reports = [death(own_kernel, how) for how in "nxs"]
    assert len({re.search(r"main\.c:\d+", report.details)[0] for report in reports}) == 3
    low, high = (own_kernel.symbols.address(name) for name in ("stack_start", "stack_end"))
    assert low <= registers(reports[0])["x29"] < high
    callers = re.findall(r"called from (0x[0-9a-f]+)", reports[0].details)
    start, after = (own_kernel.symbols.address(name) for name in ("_start", "vectors"))
    assert start < int(callers[-1], 16) < after


def test_babble_does_not_hide_the_crash(own_kernel: Reference) -> None:
    report = death(own_kernel, "b")
    assert report.headline == "asked to (no exception) in misbehave"
    said = own_kernel.link.transcript()
    assert "garbage" in said
    for text in (said, report.details, report.headline):
        assert all(character == "\n" or " " <= character <= "~" for character in text)
    assert len(said) <= 16384


def test_a_hang(own_kernel: Reference, expected: Digest) -> None:
    own_kernel.work = HANGS_SOON
    assert digest(own_kernel) == expected
    report = death(own_kernel, "h")
    assert report.kind == "hang"
    assert re.fullmatch(r"no answer within \S+ s of CPU time, in misbehave", report.headline)
    assert re.match(r"misbehave \(main\.c:\d+\)\nkernel_main \(main\.c:\d+\)\n0x[0-9a-f]+$", report.details)
    assert digest(own_kernel) == expected
    assert own_kernel.boots == 2


def test_one_death_after_the_other(own_kernel: Reference, expected: Digest) -> None:
    for how in "nnbxs":
        death(own_kernel, how)
    assert digest(own_kernel) == expected
    assert own_kernel.boots == 6


def test_exceptions_in_words() -> None:
    assert describe_esr(0x96000046) == "data abort on write"
    assert describe_esr(0x96000006) == "data abort on read"
    assert describe_esr(0x17 << 26) == "exception class 0x17"


# The environment's doing: QEMU ends


def test_qemu_killed_between_programs(own_kernel: Reference, expected: Digest) -> None:
    assert digest(own_kernel) == expected
    for boots in (2, 3):
        os.kill(own_kernel.link.pid, signal.SIGKILL)
        assert digest(own_kernel) == expected
        assert own_kernel.boots == boots


def test_qemu_killed_during_a_program(own_kernel: Reference, expected: Digest) -> None:
    assert digest(own_kernel) == expected
    for boots in (2, 3):
        pid = own_kernel.link.pid
        os.kill(pid, signal.SIGSTOP)  # so that it cannot have answered
        own_kernel.start(BUSY)
        os.kill(pid, signal.SIGKILL)
        assert own_kernel.finish().digest == expected
        assert own_kernel.boots == boots


def test_qemu_killed_at_any_moment(own_kernel: Reference) -> None:
    """No program is lost, whatever the moment."""
    programs = random_programs(seed=70, count=30)
    before = [digest(own_kernel, program) for program in programs]
    after = []
    for index, program in enumerate(programs):
        own_kernel.start(program)
        if index % 3 == 0:
            os.kill(own_kernel.link.pid, signal.SIGKILL)
        after.append(own_kernel.finish().digest)
    assert after == before
    assert 1 < own_kernel.boots <= 11  # an answer may have been there already; then the next program restarts it


def test_an_observation_survives_a_kill(own_kernel: Reference, expected: Digest) -> None:
    digest(own_kernel)
    os.kill(own_kernel.link.pid, signal.SIGKILL)
    assert own_kernel.observe(BUSY).digest == expected


class Doomed(ConsoleLink):
    """A link whose QEMU is killed whenever something is sent."""

    def send(self, message: Message) -> None:
        os.kill(self.pid, signal.SIGKILL)
        super().send(message)


def test_a_qemu_that_always_ends(image: Image) -> None:
    with closing(Reference(image, "kernel:doomed", Doomed(image.elf))) as kernel:
        with pytest.raises(ToolFailure, match=r"kernel:doomed: QEMU failed 3 times \(LinkClosed\)"):
            digest(kernel)
        assert kernel.boots == 3
        assert kernel.link.pid is None


def test_a_debugged_qemu_that_ends(own_kernel: Reference) -> None:
    own_kernel.stop_at(BUSY, 2)
    assert own_kernel.wait(0.1) is None
    os.kill(own_kernel.link.pid, signal.SIGKILL)
    with pytest.raises(ToolFailure, match="QEMU ended"):
        own_kernel.wait(10)


# Messages that are damaged on the way


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, int, int], list[bytes]]]:
    """`damage(function, times, at)` flips a bit, `times` times, in what goes through the console's frame function.
    It returns a list of what was damaged."""

    def run(function: str, times: int, at: int) -> list[bytes]:
        real, seen = getattr(console, function), []

        def flip(line: bytes) -> bytes:
            if len(seen) == times:
                return line
            seen.append(line)
            return line[:at] + bytes([line[at] ^ 4]) + line[at:][1:]

        if function == "encode_frame":
            monkeypatch.setattr(console, function, lambda message: flip(real(message)))
        else:
            monkeypatch.setattr(console, function, lambda line: real(flip(line)))
        return seen

    return run


PLACES = {"type": 1, "sequence": 4, "payload": 9, "checksum": -3}


@pytest.mark.parametrize("place", PLACES)
def test_a_damaged_request_is_sent_again(console_kernel: Reference, expected: Digest, damage, place: str) -> None:
    digest(console_kernel)
    seen = damage("encode_frame", 1, PLACES[place])
    assert digest(console_kernel) == expected
    assert len(seen) == 1
    assert console_kernel.boots == 1


@pytest.mark.parametrize("place", ["payload", "checksum"])
def test_a_damaged_reply_is_asked_for_again(console_kernel: Reference, expected: Digest, damage, place: str) -> None:
    digest(console_kernel)
    console_kernel.silence = 2 * SHORT
    seen = damage("decode_frame", 1, PLACES[place])
    assert digest(console_kernel) == expected
    assert len(seen) == 1
    assert console_kernel.boots == 2


def test_requests_that_always_arrive_damaged(console_kernel: Reference, damage) -> None:
    digest(console_kernel)
    seen = damage("encode_frame", 100, 9)
    with pytest.raises(ToolFailure, match="requests arrive damaged"):
        digest(console_kernel)
    assert len(seen) > 2


# Using it


def test_a_reply_that_nobody_took(own_kernel: Reference, expected: Digest) -> None:
    """As when the other side of a comparison failed: the next program gets its own answer."""
    own_kernel.start(ONE_PAGE)
    assert digest(own_kernel) == expected
    own_kernel.start(ONE_PAGE)
    assert own_kernel.observe(BUSY).digest == expected
    assert own_kernel.boots == 1


def test_more_programs_than_sequence_numbers(own_kernel: Reference, expected: Digest) -> None:
    own_kernel._seq = 0xFFFB
    assert [digest(own_kernel) for _ in range(8)] == [expected] * 8
    assert own_kernel.boots == 1


def test_refresh_and_close(own_kernel: Reference, expected: Digest) -> None:
    own_kernel.refresh()
    assert digest(own_kernel) == expected
    own_kernel.refresh()
    assert own_kernel.link.pid is None
    assert digest(own_kernel) == expected
    assert own_kernel.boots == 2


def test_a_program_that_requires_more(own_kernel: Reference) -> None:
    with pytest.raises(BadInput, match="lacks nested"):
        own_kernel.start(Program((), requires=("stage2", "nested")))
    assert own_kernel.boots == 0
