"""What a report says of promises: which one is broken, and where the sides differ, who breaks one that the other side
keeps. Then it is known which of them is wrong."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from typing import Final

from harness.program.program import Program
from harness.verdict.contracts.blame import blame, counts, entry_of
from harness.verdict.contracts.contract import Violation
from harness.verdict.verdicts import BOTH_SIDES, Verdict

_WIDTH: Final = 100
_MOST: Final = 3
"""Broken promises of a side that are told: what follows from one breaks others."""


def promises(program: Program, verdict: Verdict, names: tuple[str, str]) -> list[str]:
    """Lines on who breaks what; none where a side died, or went on and on."""
    if verdict.broken is not None:
        return ["", *_told(verdict.blamed, [verdict.broken])]
    if verdict.difference is None or verdict.left is None or verdict.right is None:
        return []
    if verdict.kind != "divergence":
        return []
    found = blame(program, verdict.left, verdict.right)
    lines = [*_told(names[0], found.left), *_told(names[1], found.right)]
    if not lines:
        lines = ["  Neither side breaks a promise that the other keeps (docs/contracts.md): a change of behaviour."]
    return ["", *lines]


def blamed(program: Program, verdict: Verdict, names: tuple[str, str]) -> tuple[str, ...]:
    """The sides that break a promise which the other keeps, by their names; or whom the verdict blames. What is
    only proposed blames nobody, nor does what Linux is known to break."""
    if verdict.blamed:
        return (verdict.blamed,)
    if verdict.kind != "divergence" or verdict.left is None or verdict.right is None:
        return ()
    found = blame(program, verdict.left, verdict.right)
    sides = zip(names, (found.left, found.right), strict=True)
    return tuple(name for name, several in sides if any(map(counts, several)))


def _told(who: str, several: Iterable[Violation]) -> Iterator[str]:
    for number, one in enumerate(several):
        if number == _MOST:
            break
        entry = entry_of(one)
        proposed = " (proposed)" if one.contract.proposed else ""
        if entry is not None:
            proposed += f" (as Linux is known to: corpora/violations/{entry.name})"
        verb = "break" if who == BOTH_SIDES else "breaks"
        yield from _wrapped(f"{who} {verb} a promise{proposed}, {one.contract.name}: {one.sentence}", "  ")
        yield from _wrapped(one.contract.promise, "    ")
        yield from _wrapped(one.contract.source, "    ")


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, _WIDTH, initial_indent=indent, subsequent_indent=f"{indent}  ", break_on_hyphens=False)
