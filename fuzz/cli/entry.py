"""The way into the command. It takes no time to import, so that a signal finds somebody from the first moment on."""

from __future__ import annotations

import gc
import os
import signal
from types import FrameType
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NEW_OBJECTS = 10_000
"""After so many, Python looks for garbage. Importing makes more than that, and none of it is: by default, looking it
through sixty times would take a twelfth of the time."""


def enter() -> None:
    """Run the command line, and exit with its status."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as in the background of a script
            signal.signal(number, _leave)
    gc.set_threshold(_NEW_OBJECTS)
    from fuzz.cli.main import main  # noqa: PLC0415 (it is what takes the time)

    main()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End at once: nothing has begun. An exception would come out of whatever is being imported."""
    os.write(2, b"interrupted\n")
    os._exit(130)
