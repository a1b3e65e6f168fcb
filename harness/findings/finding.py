"""A finding on disk: one directory that holds everything needed to look at it and to run it again.

    README         how to run it again, and what exactly ran
    program.s2     the program, minimised where that was done
    original.s2    the program as it was found, once it has been minimised
    report.txt     what is wrong, for people
    left.txt right.txt     both sides' observations with every event, up to the op where they part (not of a side that
                           died)
    finding.json   kind, bucket, reliability, configuration, identities, and the command that replays it from there
    test_*.py      a pytest test that fails while the bug is there
    reproducer.c   the program as a KUnit test case
    kernel/        copies of the --patch and --pgtable files that the run was given

No path in it leads out of it but to a tree of the user's own, which a kernel is named by. So it may be moved.

A directory is written under another name and renamed, or exchanged with the one it replaces, so one that exists is
whole. What is read back may be somebody else's: it is data, sizes are bounded, and text is made fit for a terminal.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.durable import sync_all, sync_folder
from harness.errors import BadInput
from harness.findings.place import RECORD, program_in
from harness.outside import printable, read_plain, read_plain_text, shown
from harness.program.program import Program

FORMAT: Final = 1
REPORT: Final = "report.txt"
ORIGINAL: Final = "original.s2"
SIDES: Final = {"left": "left.txt", "right": "right.txt"}
"""The files with what either side observed."""
_MAX_RECORD: Final = 1 << 20
"""Bytes of a finding.json."""
_MAX_REPORT: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding that was read back. `configuration` is what was written (`writing.Contents`); it is data from a file,
    unchecked but for what is not printable in its texts. `reliability` is on how many fresh pairs of targets it was
    seen, of how many: (0, 0) where it does not say. `minimised` says whether it was."""

    directory: Path
    program: Program
    kind: str
    bucket: str
    configuration: Mapping[str, Any]
    reliability: tuple[int, int] = (0, 0)
    minimised: bool = False
    identities: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Of what was on the `left` and the `right`."""
    record: int = 0
    """Of the op where it shows; 0 is the implicit init."""
    blamed: tuple[str, ...] = ()
    """Who breaks a promise that the other side keeps, or whom the judge of one side objects to, as it was found."""

    @property
    def is_flaky(self) -> bool:
        """Whether it did not happen every time."""
        seen, of = self.reliability
        return seen < of


def report_in(directory: Path) -> str:
    """The report in a finding's directory. Raises BadInput, OSError."""
    return read_plain(directory / REPORT, _MAX_REPORT, "a report", directory).decode(errors="replace")


def observations_in(directory: Path) -> tuple[str, str] | None:
    """What either side observed, as text; None where one died. Raises BadInput, OSError."""
    paths = [directory / name for name in SIDES.values()]
    if not all(os.path.lexists(path) for path in paths):
        return None
    left, right = (
        read_plain(path, _MAX_REPORT, "an observation", directory).decode(errors="replace") for path in paths
    )
    return left, right


def adopt(directory: Path, out: Path) -> Path:
    """Move a finding below `out`, on the same file system, and return its new directory, once it is on the disk. One of
    the same name that is already there is the same one. Raises BadInput for what is no finding, and OSError."""
    load(directory)
    target = out / directory.name
    if not target.exists():
        sync_all(directory)
        out.mkdir(parents=True, exist_ok=True)
        if moved(directory, target):
            sync_folder(out)
            return target
    shutil.rmtree(directory)
    return target


def moved(directory: Path, target: Path) -> bool:
    """Whether the directory was moved to `target`; not where another process has put the same finding there meanwhile.
    Raises OSError."""
    try:
        os.rename(directory, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def load(directory: Path) -> Finding:
    """A finding's directory, read back. Raises BadInput when it is not one, or not of this format."""
    path = directory / RECORD
    try:
        record = _printable(json.loads(read_plain_text(path, _MAX_RECORD, "a finding")))
    except OSError as error:
        raise BadInput(f"{shown(directory)}: not a finding: {path.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{shown(path)}: not JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise BadInput(f"{shown(path)}: not a finding of format {FORMAT}")
    kind, bucket, configuration = record.get("kind"), record.get("bucket"), record.get("configuration")
    if not (isinstance(kind, str) and isinstance(bucket, str) and isinstance(configuration, dict)):
        raise BadInput(f"{shown(path)}: kind, bucket or configuration is missing")
    reliability = record.get("reliability", {})
    counts = [reliability.get(key, 0) for key in ("seen", "of")] if isinstance(reliability, dict) else []
    if not counts or not all(isinstance(count, int) for count in counts):
        raise BadInput(f"{shown(path)}: the reliability is malformed")
    at = record.get("first_differing_record", 0)
    if not isinstance(at, int):
        raise BadInput(f"{shown(path)}: the differing record is malformed")
    names = record.get("blamed", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise BadInput(f"{shown(path)}: who is blamed is malformed")
    program, minimised = program_in(directory), "minimised" in record
    seen, who = (counts[0], counts[1]), tuple(names)
    return Finding(directory, program, kind, bucket, configuration, seen, minimised, _identities(record), at, who)


def _identities(record: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """What a record says of what ran on each side; of what is malformed, nothing."""
    found = record.get("identities")
    sides = found.items() if isinstance(found, dict) else ()
    return {
        side: {key: value for key, value in identity.items() if isinstance(value, str)}
        for side, identity in sides
        if isinstance(identity, dict)
    }


def _printable(value: Any) -> Any:
    """JSON from somebody else's file with its texts safe for a terminal. Raises RecursionError."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(one) for one in value]
    if isinstance(value, dict):
        return {printable(key): _printable(one) for key, one in value.items()}
    return value
