"""The two ways in which s2fuzz can fail that are not findings. Exit statuses follow from them."""

from __future__ import annotations


class BadInput(Exception):
    """What the user gave cannot be used (exit status 2): a program, a kernel, a finding, a flag.

    The message says what was wrong, where, and what to do.
    """


class CannotRun(BadInput):
    """A side cannot run a program, which others may; `why` says what it lacks."""

    def __init__(self, why: str) -> None:
        super().__init__(f"{why}, so it cannot run this program")
        self.why = why


class ToolFailure(Exception):
    """s2fuzz or its environment failed (exit status 3): a package is missing, QEMU does not start, the link breaks."""
