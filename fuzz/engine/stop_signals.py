"""SIGINT and SIGTERM, counted instead of raised, for runs that end in order."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType
from typing import Any, Final

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context in which the signals only count."""

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self._before = {number: signal.signal(number, self._stop) for number in _NUMBERS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.count += 1
