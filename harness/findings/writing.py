"""Findings written: `harness.findings.finding` says what is in a directory."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.durable import exchange, sync_all
from harness.errors import BadInput
from harness.findings.finding import FORMAT, ORIGINAL, REPORT, SIDES, moved
from harness.findings.place import PROGRAM, RECORD
from harness.findings.report import observation_text
from harness.outside import shown, write_plain
from harness.program.program import Program
from harness.program.text import format_program
from harness.verdict.verdicts import Verdict

_MOST_EVENTS: Final = 20_000
"""Of an op that are kept as text."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a finding's directory is made of.

    `files` are copied into kernel/, by name; `configuration` must name them as `kernel/NAME`. `documents` are further
    files, and `more` further entries of finding.json. `outcomes` are the buckets on fresh targets of what is not the
    same every time, None where the sides agreed.
    """

    program: Program
    verdict: Verdict
    report: str
    configuration: Mapping[str, Any]
    identities: Mapping[str, Mapping[str, str]]
    files: Mapping[str, bytes]
    documents: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    outcomes: tuple[str | None, ...] = ()


def name_of(contents: Contents) -> str:
    """The name of the directory: of a program, sides and their identities always the same."""
    configuration = contents.configuration
    kernels = {side: configuration[side] for side in ("left", "right") if side in configuration}
    identity = json.dumps([format_program(contents.program), kernels, contents.identities], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', contents.verdict.bucket)[:80]}-{digest}"


def save(out: Path, contents: Contents) -> Path:
    """Write a finding below `out` and return its directory. The same one that is already there is left as it is.

    Raises OSError, with nothing left behind.
    """
    target = out / name_of(contents)
    if target.exists():
        return target
    out.mkdir(parents=True, exist_ok=True)
    with _scratch(out) as scratch:
        _write(scratch, contents)
        moved(scratch, target)
    return target


def renew(directory: Path, contents: Contents) -> None:
    """Put another program in the place of a finding's, at once; its first program stays beside it, and so does every
    file that is not of ours. Raises BadInput where something in it is neither file nor folder nor link, and OSError;
    then the directory is as it was."""
    for path in directory.rglob("*"):
        if not path.is_symlink() and not path.is_file() and not path.is_dir():
            raise BadInput(f"{shown(path)}: not a plain file")
    with _scratch(directory.resolve().parent) as scratch:
        shutil.copytree(directory, scratch, symlinks=True, dirs_exist_ok=True)
        if not os.path.lexists(scratch / ORIGINAL):
            os.rename(scratch / PROGRAM, scratch / ORIGINAL)
        for old in (*scratch.glob("test_*.py"), *(scratch / name for name in SIDES.values())):
            old.unlink(missing_ok=True)
        if (scratch / "kernel").is_symlink():
            (scratch / "kernel").unlink()
        shutil.rmtree(scratch / "kernel", ignore_errors=True)
        _write(scratch, contents)
        sync_all(scratch)
        exchange(scratch, directory)  # what was there goes with the scratch folder


@contextmanager
def _scratch(out: Path) -> Iterator[Path]:
    """A folder that does not outlive its use, unless it was renamed by then."""
    scratch = Path(tempfile.mkdtemp(dir=out, prefix=".tmp-"))
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(scratch: Path, contents: Contents) -> None:
    verdict = contents.verdict
    write_plain(scratch / PROGRAM, format_program(contents.program).encode())
    write_plain(scratch / REPORT, contents.report.encode())
    beginning = contents.program.prefix(verdict.record)
    for side, name in SIDES.items():
        observation = getattr(verdict, side)
        if observation is not None:
            text = observation_text(beginning, observation, True, _MOST_EVENTS)
            write_plain(scratch / name, text.encode())
    if contents.files:
        (scratch / "kernel").mkdir()
    for name, data in contents.files.items():
        write_plain(scratch / "kernel" / name, data)
    for name, text in contents.documents.items():
        write_plain(scratch / name, text.encode())
    record = {
        "bucket": verdict.bucket,
        "configuration": contents.configuration,
        "first_differing_record": verdict.record,
        "format": FORMAT,
        "identities": contents.identities,
        "kind": verdict.kind,
        "reliability": _reliability(contents),
        "replay": "s2fuzz replay .",
        **contents.more,
    }
    write_plain(scratch / RECORD, json.dumps(record, indent=2, sort_keys=True).encode() + b"\n")
    for path in (scratch, *scratch.rglob("*")):
        if not path.is_symlink():
            os.chmod(path, 0o755 if path.is_dir() else 0o644)


def _reliability(contents: Contents) -> dict[str, Any]:
    """How often it was seen on fresh targets, of how many times; where not always, what was seen each time."""
    if not contents.outcomes:
        return {"of": contents.verdict.confirmed, "seen": contents.verdict.confirmed}
    outcomes = contents.outcomes
    return {"of": len(outcomes), "outcomes": list(outcomes), "seen": outcomes.count(contents.verdict.bucket)}
