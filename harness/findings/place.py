"""Where a program is: in a file, or in a finding's directory. Without all that reads the rest of a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from harness.errors import BadInput
from harness.outside import shown
from harness.program.program import Program
from harness.program.text import read

PROGRAM: Final = "program.s2"
RECORD: Final = "finding.json"


def is_finding(path: Path) -> bool:
    """Whether `path` looks like a finding's directory."""
    return (path / RECORD).is_file()


def program_in(path: Path) -> Program:
    """The program in a file, or in a finding's directory: a finding may stand wherever a program may.

    Raises BadInput.
    """
    return read(file_of(path))


def file_of(path: Path) -> Path:
    """The file that holds the program: `path` itself, or a finding's. Raises BadInput for another directory."""
    if path.is_dir() and not is_finding(path):
        raise BadInput(f"{shown(path)}: a directory, but not a finding (it has no {RECORD})")
    return path / PROGRAM if path.is_dir() else path
