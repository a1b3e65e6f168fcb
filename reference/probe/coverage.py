"""Coverage of the hosted files: clang's inline 8-bit counters, read in place in the guest RAM that we map."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from reference.guest_ram import GuestRam
from reference.memory_map import RAM_BASE
from reference.probe.symbols import Symbols

LOOP: Final = 8
"""Repetitions of an edge that still count as something new."""
_LEVELLED: Final = bytes(min(count, LOOP) for count in range(256))
_TAKEN: Final = bytes(min(count, 1) for count in range(256))
_DIGITS: Final = bytes(range(0x30, 0x100)).ljust(256, b"1")


@dataclass(frozen=True, slots=True)
class Registration:
    """Addresses in this process, as libFuzzer's __sanitizer_cov_8bit_counters_init and …_pcs_init take them."""

    counters_start: int
    counters_stop: int
    pcs_start: int
    pcs_stop: int


class HostedCoverage:
    """The counters of the kernel with these symbols that runs in `ram`; `image` names it. They stay where they are when
    it restarts."""

    def __init__(self, symbols: Symbols, ram: GuestRam, image: str) -> None:
        self._ram = ram
        address = symbols.address
        self._counters = (address("__start___sancov_cntrs"), address("__stop___sancov_cntrs"))
        self._pcs = (address("__start___sancov_pcs"), address("__stop___sancov_pcs"))
        self._view = memoryview(self._ram.memory)[self._counters[0] - RAM_BASE : self._counters[1] - RAM_BASE]
        self.taken = 0
        """Of every counter, one after the other, a byte: 1 once it was seen to count."""
        self.image = image
        """Which kernel's edges these are."""

    def registration(self) -> Registration:
        """Where counters and PCs lie in this process."""
        return Registration(*map(self._ram.host_address, (*self._counters, *self._pcs)))

    def note(self) -> bool:
        """Add what the last executions reached to what was ever reached, and level the counters, before libFuzzer reads
        and clears them: above `LOOP`, how often an edge was taken says how much a program does, not what. Whether an
        edge was never taken before."""
        levelled = self._view.tobytes().translate(_LEVELLED)
        self._view[:] = levelled
        taken = int.from_bytes(levelled.translate(_TAKEN), "little")
        before, self.taken = self.taken, self.taken | taken
        return self.taken != before

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """What runs within leaves the counters as they are: nobody is steered by it."""
        before = bytes(self._view)
        try:
            yield
        finally:
            self._view[:] = before

    def forget(self) -> None:
        """Clear the counters, so that libFuzzer sees nothing new in the last execution and does not keep it."""
        self._view[:] = bytes(len(self._view))

    def take(self) -> bytes:
        """How often each edge was taken since the last time, levelled."""
        self.note()
        counts = bytes(self._view)
        self.forget()
        return counts

    @property
    def edges(self) -> int:
        """How many counters there are."""
        return len(self._view)

    @property
    def reached(self) -> int:
        """Which of them were ever seen to count: a bit for each."""
        taken = self.taken.to_bytes(len(self._view), "big")
        return int(taken.translate(_DIGITS) or b"0", 2)
