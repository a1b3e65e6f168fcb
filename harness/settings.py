"""Values that people give: on the command line, in our environment variables.

An empty one is mostly a shell's variable that is not set. Taken for "nothing was said", it would choose the default,
and a run would say that nothing was found, of another kernel than the one that was meant. So it is refused everywhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Final

from harness.errors import BadInput
from harness.outside import shown

PREFIX: Final = "S2FUZZ_"
"""Of the names of all our environment variables."""
_WITH_VALUE: Final = re.compile(r"(--?[A-Za-z][A-Za-z0-9-]*)=\s*")


def setting(name: str) -> str | None:
    """The value of an environment variable of ours; None where it is not set. Raises BadInput for an empty one."""
    value = os.environ.get(name)
    if value is not None:
        refuse_empty(name, value)
    return value


def refuse_empty(name: str, value: str) -> None:
    """Raise BadInput where the value that was given for `name` is empty."""
    if not value.strip():
        raise BadInput(f"{shown(name)}: the value is empty (a variable that is not set?); give one, or leave it out")


def refuse_empty_words(words: Sequence[str]) -> None:
    """Raise BadInput for an empty word on a command line, or an option with an empty value behind its =."""
    before = "the command line"
    for word in words:
        refuse_empty(before, word)
        if with_value := _WITH_VALUE.fullmatch(word):
            refuse_empty(with_value[1], "")
        before = word


def refuse_empty_variables() -> None:
    """Raise BadInput for any environment variable of ours that is set, but empty."""
    for name in sorted(os.environ):
        if name.startswith(PREFIX):
            setting(name)
