"""What brought a finding, once that was seen: a commit, with it and without it in its parents, or a patch of a series.

Each is a file in the finding's directory, which stays there when the finding is minimised, and a line of its report.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

from harness.errors import BadInput
from harness.findings.finding import REPORT, report_in
from harness.outside import printable, read_plain, shown, write_plain

_MAX_RECORD: Final = 1 << 20
"""Bytes of a cause's file."""


@dataclass(frozen=True, slots=True)
class CommitCause:
    """A commit that has the finding, whose parents have not. Ids in full; `author` is `Name <address>`."""

    commit: str
    subject: str
    author: str
    date: str
    parents: tuple[str, ...]

    FILE: ClassVar[str] = "bisect.json"

    @property
    def line(self) -> str:
        """As the report has it."""
        parents = "parent is" if len(self.parents) == 1 else "parents are"
        return f'brought by commit {self.commit[:12]} ("{self.subject}"); its {parents} without it'


@dataclass(frozen=True, slots=True)
class PatchCause:
    """A patch of a series: with those up to `last`, counted from 1, the finding is there, with those before `first` it
    is not. They are the same patch, unless it cannot be told between them. The subject is that of the last."""

    first: int
    last: int
    of: int
    subject: str

    FILE: ClassVar[str] = "series.json"

    @property
    def line(self) -> str:
        """As the report has it."""
        if self.first < self.last:
            return f"brought by one of the patches {self.first} to {self.last} of {self.of}; which, cannot be told"
        return f"brought by patch {self.last} of {self.of}, {self.subject}; without it, it is not there"


def record(directory: Path, cause: CommitCause | PatchCause) -> None:
    """Keep a cause beside its finding, and say it in the report. Raises OSError, BadInput."""
    text = json.dumps(asdict(cause), indent=2, sort_keys=True)
    _replace(directory / cause.FILE, text.encode() + b"\n")
    tell(directory)


def tell(directory: Path) -> None:
    """Say in a finding's report what brought it, as far as that is known, once. Raises OSError, BadInput."""
    headline, *rest = report_in(directory).splitlines()
    causes = (commit_of(directory), patch_of(directory))
    lines = [cause.line for cause in causes if cause is not None]
    others = [line for line in rest if not line.startswith("brought by ")]
    if lines:
        _replace(directory / REPORT, ("\n".join([headline, *lines, *others]) + "\n").encode())


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}")
    write_plain(new, data)
    os.replace(new, path)


def commit_of(directory: Path) -> CommitCause | None:
    """The commit that brought a finding, where that is known. Raises BadInput, OSError."""
    data = _read(
        directory, CommitCause.FILE, {"author": str, "commit": str, "date": str, "parents": list, "subject": str}
    )
    return (
        None
        if data is None
        else CommitCause(**{**data, "parents": tuple(printable(str(one)) for one in data["parents"])})
    )


def patch_of(directory: Path) -> PatchCause | None:
    """The patch of a series that brought a finding, where that is known. Raises BadInput, OSError."""
    data = _read(directory, PatchCause.FILE, {"first": int, "last": int, "of": int, "subject": str})
    return None if data is None else PatchCause(**data)


def _read(directory: Path, name: str, fields: Mapping[str, type]) -> dict[str, Any] | None:
    """A cause's file, if there is one; it may be somebody else's."""
    path = directory / name
    if not os.path.lexists(path):
        return None
    try:
        data = json.loads(read_plain(path, _MAX_RECORD, "what brought a finding", directory))
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(path)}: not JSON: {error}") from error
    if not isinstance(data, dict) or {key: type(value) for key, value in data.items()} != fields:
        raise BadInput(f"{shown(path)}: malformed; take it away, and look for the cause again")
    return {key: printable(value) if isinstance(value, str) else value for key, value in data.items()}
