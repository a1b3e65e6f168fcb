"""What steps that take a while tell of themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

Progress = Callable[[str], None]
"""Is told of such steps, in lines. A step may follow its line with how far it is, as often as it likes."""


def silent(_message: str) -> None:
    """Progress that nobody hears of."""


class HowFar(str):
    """A line that says how far a step is. Many come, one in place of the other: which of them are shown is for those
    who show them.

    `done` of so many, counted in `unit`; without one it is a share.
    """

    is_last: bool

    def __new__(cls, what: str, done: int, of: int, unit: str = "") -> Self:
        line = super().__new__(cls, f"{what}: " + (f"{done} of {of} {unit}" if unit else f"{100 * done // of} %"))
        line.is_last = done >= of
        return line
