"""Programs that a command takes one by one: one that is malformed neither hides the others nor goes unnamed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from fuzz.cli.options import say
from harness.errors import BadInput
from harness.findings.place import program_in
from harness.program.program import Program


@dataclass(slots=True)
class Several:
    """The programs that could be read, in order, and what is wrong with the others, which was said."""

    programs: list[tuple[Path, Program]] = field(default_factory=list)
    malformed: list[tuple[Path, BadInput]] = field(default_factory=list)


def read_each(paths: Iterable[Path]) -> Several:
    """The programs in files or findings' directories. Says on stderr what is wrong with those that are none."""
    found = Several()
    for path in paths:
        try:
            found.programs.append((path, program_in(path)))
        except BadInput as error:
            say(str(error))
            found.malformed.append((path, error))
    return found
