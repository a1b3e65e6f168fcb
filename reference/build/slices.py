"""Some functions of a file of the tree, as they stand there: where the rest of it needs the whole of a kernel."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

_FUNCTION: Final = r"^(?:[A-Za-z_][\w \t*]*[ \t*])?{name}\([^;{{}}]*\)\n\{{\n(?:(?!\}}).*\n)*\}}\n"
"""In the kernel's coding style: from the first column to a brace in the first column."""
_MACRO: Final = r"^#[ \t]*define[ \t]+{name}\b(?:[^\n]*\\\n)*[^\n]*\n"


def slice_of(text: str, names: Iterable[str], path: str) -> str:
    """The functions and macros of these names that a file's text has, in its order, with what tells the compiler where
    they stand in the file at `path`. One that it lacks is left out: trees differ, and the linker names what is
    missing."""
    found = sorted(
        match.span()
        for name in names
        for form in (_FUNCTION, _MACRO)
        for match in re.finditer(form.format(name=re.escape(name)), text, re.MULTILINE)
    )
    return "".join(f'#line {text.count(chr(10), 0, start) + 1} "{path}"\n{text[start:end]}\n' for start, end in found)
