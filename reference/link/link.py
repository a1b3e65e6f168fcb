"""What carries messages to a test kernel and back. The console is one such link; callers know only this protocol."""

from __future__ import annotations

from typing import Protocol

from reference.protocol import Message


class LinkTimeout(Exception):
    """Nothing came in time: the kernel hangs, or the machine is very slow."""


class LinkClosed(Exception):
    """The other end is gone: QEMU ended or was killed."""


class LinkGarbage(Exception):
    """The other end says much that is no message, or no more after a message that was damaged."""


class Link(Protocol):
    """A running test kernel that messages can be sent to."""

    has_monitor: bool
    """Whether the machine has EL3, and our monitor there: from the next start on."""

    def start(self) -> None:
        """Boot a kernel and await its greeting. Raises ToolFailure when it does not come."""

    def send(self, message: Message) -> None:
        """Send one message. Raises LinkClosed."""

    @property
    def pace(self) -> float:
        """How many times as long as usual this machine takes for the same work, by what the last boot took; at least
        1. It does not count how busy the machine is."""

    def receive(self, timeout: float, work: float | None = None) -> Message:
        """The next intact message. Raises LinkClosed, LinkGarbage, and LinkTimeout: after `timeout` seconds; or, where
        `work` says how many seconds of CPU time the kernel may take, after these, and after `timeout` seconds in which
        it took next to none."""

    def program_counters(self) -> list[int]:
        """Where a kernel that does not answer is: PC, then return addresses as far as they are known."""

    def transcript(self) -> str:
        """The last text for people that the kernel printed, made safe for a terminal."""

    def close(self) -> None:
        """End the kernel. Idempotent; `start` may follow."""
