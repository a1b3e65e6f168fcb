"""The memory link: what is particular to it. That it drives a kernel like the console does, test_driver shows."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from harness.observation.executor import TargetDied
from harness.observation.layout import Digest
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.text import parse, read
from reference.guest_ram import GuestRam
from reference.link import ram
from reference.link.executor import Reference
from reference.link.ram import RamLink
from reference.memory_map import RAM_BASE, REQUEST_SIZE
from reference.protocol import Message

ROOT = Path(__file__).parents[2]
PROGRAM = Program((op_of("map", ipa=0, size=1 << 21, phys=1 << 31, prot=7, mc=3), op_of("unmap", ipa=0, size=4096)))


def digest(kernel: Reference) -> Digest:
    kernel.start(PROGRAM)
    return kernel.finish().digest


@pytest.fixture
def expected(kernel: Reference) -> Digest:
    return digest(kernel)


def flip(link: RamLink, offset: int) -> None:
    """Change one bit of guest memory."""
    link.ram.memory[offset] ^= 4


def test_a_request_damaged_in_memory_is_sent_again(
    memory_kernel: tuple[Reference, RamLink], expected: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, link = memory_kernel
    assert digest(kernel) == expected
    ring, rings = link.console.ring, []

    def ring_once_damaged() -> None:
        if not rings:
            flip(link, ram._REQUEST + ram._HEADER.size + 1)
        rings.append(None)
        ring()

    monkeypatch.setattr(link.console, "ring", ring_once_damaged)
    assert digest(kernel) == expected
    assert len(rings) == 2
    assert kernel.boots == 1


def test_a_reply_damaged_in_memory_costs_a_restart(
    memory_kernel: tuple[Reference, RamLink], expected: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel, link = memory_kernel
    assert digest(kernel) == expected
    hear, heard = link.console.hear, []

    def hear_once_damaged(timeout: float, work: float | None) -> Message | None:
        message = hear(timeout, work)
        if message is None and not heard:
            words = ram._HEADER.unpack_from(link.ram.memory, ram._REPLY)[3]
            flip(link, ram._REPLY + ram._HEADER.size + 8 * words)
            heard.append(None)
        return message

    monkeypatch.setattr(link.console, "hear", hear_once_damaged)
    assert digest(kernel) == expected
    assert heard
    assert kernel.boots == 2


def test_a_digest_made_here_is_the_consoles(
    memory_kernel: tuple[Reference, RamLink], console_kernel: Reference
) -> None:
    """Of pages that are left in place, and of those that end with a table that still lives."""
    kernel, _ = memory_kernel
    for text in (
        "s2 1\nmap ipa=0x0 size=12K phys=0x80000000 prot=rw mc=3\n",
        "s2 1\nt1 = create_unlinked phys=0x80000000 level=1 prot=rwx mc=4 force_pte=on\n",
    ):
        program = parse(text)
        told = []
        for one in (kernel, console_kernel):
            one.start(program)
            told.append(one.finish().digest)
        assert told[0] == told[1] == Digest.of(kernel.observe(program).words)


def test_memory_stays_where_it_is_across_restarts(memory_kernel: tuple[Reference, RamLink], expected: Digest) -> None:
    kernel, link = memory_kernel
    counters = kernel.symbols.address("__start___sancov_cntrs")
    size = kernel.symbols.address("__stop___sancov_cntrs") - counters
    at = counters - RAM_BASE
    assert digest(kernel) == expected
    address = link.ram.host_address(counters)
    assert any(link.ram.memory[at : at + size]), "the hosted file's coverage is seen in place"
    os.kill(link.pid or 0, signal.SIGKILL)
    link.ram.memory[at : at + size] = bytes(size)
    assert digest(kernel) == expected
    assert kernel.boots == 2
    assert link.ram.host_address(counters) == address
    assert any(link.ram.memory[at : at + size])


def test_one_memory_serves_successive_kernels(kernel: Reference, expected: Digest) -> None:
    shared = GuestRam()
    for _ in range(2):
        link = RamLink(kernel.image.elf, shared)
        one = Reference(kernel.image, "kernel:successive", link)
        try:
            assert digest(one) == expected
        finally:
            one.close()


def test_a_panic_comes_over_the_console(memory_kernel: tuple[Reference, RamLink], expected: Digest) -> None:
    kernel, _ = memory_kernel
    with pytest.raises(TargetDied, match="data abort"):
        kernel.misbehave("n")
    assert digest(kernel) == expected


def test_what_does_not_fit_the_mailbox_is_refused(memory_kernel: tuple[Reference, RamLink]) -> None:
    _, link = memory_kernel
    with pytest.raises(ValueError, match="does not fit"):
        link.send(Message("D", 1, bytes(REQUEST_SIZE)))


def touched(shared: GuestRam) -> int:
    """Bytes of the guest's memory that take the host's."""
    return os.fstat(shared._file.fileno()).st_blocks * 512


def test_memory_is_taken_as_it_is_used(kernel: Reference, expected: Digest) -> None:
    """Room for a million events and for hundreds of tables is nobody's who does not ask for it."""
    shared = GuestRam()
    one = Reference(kernel.image, "kernel:small", RamLink(kernel.image.elf, shared))
    try:
        assert digest(one) == expected
        before = touched(shared)
        assert before < 16 << 20
        one.start(read(ROOT / "corpora" / "seeds" / "split_whole_block_1g.s2"))
        one.finish()
        assert touched(shared) > before + 16 * 786432, "two thirds of the events' area, and the tables"
        assert digest(one) == expected
    finally:
        one.close()


def test_a_large_budget_may_take_its_time(kernel: Reference) -> None:
    program = read(ROOT / "corpora" / "seeds" / "split_whole_block_1g.s2")
    hasty = Reference(kernel.image, "kernel:hasty", work=0.001)
    try:
        hasty.start(program)
        assert hasty.finish().digest.words > 3 * 786432
    finally:
        hasty.close()
