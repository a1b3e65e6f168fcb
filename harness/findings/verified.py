"""A note on kernels that are made of other files than those that the model was verified against."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from harness.amounts import number
from harness.files import HOSTED_FILES, VERIFIED_FILES, parse_files, unlike_verified

MAX_FILES: Final = 8
"""Files that a note names."""


def verified_against(identities: Sequence[Mapping[str, str]]) -> list[str]:
    """Lines on each kernel that was made of other files than the one that the model among the sides was verified
    against: their names, and what they are by their hashes."""
    model = next((one[VERIFIED_FILES] for one in identities if VERIFIED_FILES in one), None)
    lines = []
    for identity in identities:
        if model is None or HOSTED_FILES not in identity:
            continue
        verified, here = parse_files(model), parse_files(identity[HOSTED_FILES])
        unlike = unlike_verified(verified, here)
        if unlike:
            lines += [
                "note: the model was verified against other files than those of this kernel,",
                f"  {identity.get('source', 'unknown')}:",
                *(f"    {name}  {verified.get(name, 'none')}, here {here[name]}" for name in unlike[:MAX_FILES]),
            ]
            if len(unlike) > MAX_FILES:
                lines.append(f"    and {number(len(unlike) - MAX_FILES)} more")
    return lines
