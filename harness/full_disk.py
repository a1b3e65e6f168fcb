"""A full disk: no fault of a kernel, a program or a package, whoever noticed. The message says where it is full."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path
from typing import Final

from harness.errors import ToolFailure
from harness.outside import shown

_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT)
_WORDS: Final = "the disk is full"


class DiskFull(ToolFailure):
    """There is no room, or one's share of it is used up: `where` names a file or a folder, `remedy` what to do."""

    def __init__(self, where: Path | str, remedy: str = "make room there") -> None:
        super().__init__(f"{_WORDS}: {shown(where)}: {remedy}")


def is_full(error: OSError) -> bool:
    """Whether that is why something could not be written."""
    return error.errno in _ERRORS


def says_full(text: str) -> bool:
    """Whether a tool complains of that, in English, or one of our messages does."""
    return any(words in text for words in (_WORDS, *map(os.strerror, _ERRORS)))


def explained(error: Exception) -> str:
    """What an error says, for people: one of the operating system's may mean that a disk is full."""
    if not (isinstance(error, OSError) and is_full(error)):
        return str(error)
    where = error.filename if error.filename is not None else f"the working folder, or {tempfile.gettempdir()}"
    return str(DiskFull(where))
