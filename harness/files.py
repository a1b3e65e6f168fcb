"""Which files of a kernel's tree code was made of: as text, a line for each, and what differs between two of them.

A kernel's identity says so under HOSTED_FILES, the model's under VERIFIED_FILES: of the kernel that it was verified
against.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

HOSTED_FILES: Final = "hosted_files"
VERIFIED_FILES: Final = "verified_against_files"
_LONG: Final = (HOSTED_FILES, VERIFIED_FILES)
DIGITS: Final = 12
"""Of each sha256, that are kept."""
_CODE: Final = "arch/arm64/"
"""Where a file that is not known at all counts, too: one in place of another, or one that is new."""


def file_lines(files: Mapping[str, str]) -> list[str]:
    """Names and sha256s: a line for each file, with the first digits."""
    return [f"{name} {digest[:DIGITS]}" for name, digest in sorted(files.items())]


def parse_files(text: str) -> dict[str, str]:
    """The digits of each file, from lines, or lines joined by commas. What is no such line is left out."""
    pairs = (line.rpartition(" ") for line in re.split(r", |\n", text))
    return {name: digits for name, _, digits in pairs if name and len(digits) == DIGITS}


def brief(identity: Mapping[str, str]) -> dict[str, str]:
    """An identity without what is too long to be read."""
    return {key: value for key, value in identity.items() if key not in _LONG}


def unlike_verified(verified: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """The files of a kernel that are not those that the model was verified against."""
    return sorted(
        name for name, digits in here.items() if verified.get(name, "" if name.startswith(_CODE) else digits) != digits
    )


def same_code(one: Mapping[str, str], other: Mapping[str, str]) -> bool | None:
    """Whether two kernels were made of the same files, by those that are known of both; None where there are none."""
    common = one.keys() & other.keys()
    return all(one[name] == other[name] for name in common) if common else None
