"""What is wrong with a choice of a kernel, or with the machine that is to have it."""

from __future__ import annotations

from harness.errors import BadInput, ToolFailure


class BadKernelChoice(BadInput):
    """A kernel that cannot be had; the message says what was wrong, where, and what to do."""


class MissingSource(ToolFailure):
    """The machine lacks what a correct choice needs: a package, a tool, room in the cache."""
