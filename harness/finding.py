"""A finding on disk: one directory that holds everything needed to look at it and to run it again.

    program.s2     the program
    report.txt     what is wrong, for people
    left.txt right.txt     both sides' observations with every event, up to the op where they part (not of a side that
                           died)
    finding.json   kind, bucket, configuration, identities, and the command that replays it
    kernel/        copies of the --patch and --pgtable files that the run was given

A directory is written under another name and renamed, so one that exists is whole.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from harness.durable import sync_file, sync_folder, write_durably
from harness.errors import BadInput
from harness.judge import Verdict
from harness.program import Program
from harness.program_text import format_program, read
from harness.report import observation_text

FORMAT: Final = 1
PROGRAM: Final = "program.s2"
_RECORD: Final = "finding.json"


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding that was read back. `configuration` is what `save` was given; it is data from a file, unchecked."""

    directory: Path
    program: Program
    kind: str
    bucket: str
    configuration: Mapping[str, Any]


def is_finding(path: Path) -> bool:
    """Whether `path` looks like a finding's directory."""
    return (path / _RECORD).is_file()


def program_in(path: Path) -> Program:
    """The program in a file, or in a finding's directory: a finding may stand wherever a program may.

    Raises BadInput.
    """
    return read(file_of(path))


def file_of(path: Path) -> Path:
    """The file that holds the program: `path` itself, or a finding's. Raises BadInput for another directory."""
    if path.is_dir() and not is_finding(path):
        raise BadInput(f"{path}: a directory, but not a finding (it has no {_RECORD})")
    return path / PROGRAM if path.is_dir() else path


def save(
    out: Path,
    program: Program,
    verdict: Verdict,
    report: str,
    configuration: Mapping[str, Any],
    identities: Mapping[str, Mapping[str, str]],
    files: Mapping[str, bytes],
) -> Path:
    """Write a finding below `out` and return its directory. The same one (program, sides and their identities) that is
    already there is left as it is.

    `files` are copied into kernel/, by name; `configuration` must name them as `kernel/NAME`.
    """
    text = format_program(program)
    kernels = {side: configuration[side] for side in ("left", "right") if side in configuration}
    identity = json.dumps([text, kernels, identities], sort_keys=True)
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    target = out / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', verdict.bucket)[:80]}-{digest}"
    if target.exists():
        return target
    out.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=out, prefix=".tmp-"))
    try:
        (scratch / PROGRAM).write_text(text)
        (scratch / "report.txt").write_text(report)
        beginning = program.prefix(verdict.record)
        for name, side in (("left.txt", verdict.left), ("right.txt", verdict.right)):
            if side is not None:
                (scratch / name).write_text(observation_text(beginning, side, events=True))
        if files:
            (scratch / "kernel").mkdir()
        for name, data in files.items():
            (scratch / "kernel" / name).write_bytes(data)
        record = {
            "bucket": verdict.bucket,
            "configuration": configuration,
            "first_differing_record": verdict.record,
            "format": FORMAT,
            "identities": identities,
            "kind": verdict.kind,
            "replay": f"s2fuzz replay {target}",
        }
        (scratch / _RECORD).write_text(json.dumps(record, indent=2, sort_keys=True) + "\n")
        scratch.chmod(0o755)
        os.rename(scratch, target)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    return target


def adopt(directory: Path, out: Path) -> Path:
    """Move a finding below `out`, on the same file system, and return its new directory, once it is on the disk. One of
    the same name that is already there is the same one. Raises BadInput for what is no finding, and OSError."""
    load(directory)
    target = out / directory.name
    if target.exists():
        shutil.rmtree(directory)
        return target
    path = directory / _RECORD
    record = json.loads(path.read_text())
    record["replay"] = f"s2fuzz replay {target}"
    write_durably(path, json.dumps(record, indent=2, sort_keys=True).encode() + b"\n", directory)
    for folder, _, names in os.walk(directory):
        for name in names:
            sync_file(Path(folder, name))
        sync_folder(Path(folder))
    out.mkdir(parents=True, exist_ok=True)
    directory.rename(target)
    sync_folder(out)
    return target


def load(directory: Path) -> Finding:
    """A finding's directory, read back. Raises BadInput when it is not one, or not of this format."""
    path = directory / _RECORD
    try:
        record = json.loads(path.read_text())
    except OSError as error:
        raise BadInput(f"{directory}: not a finding: {path.name}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not JSON: {error}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise BadInput(f"{path}: not a finding of format {FORMAT}")
    kind, bucket, configuration = record.get("kind"), record.get("bucket"), record.get("configuration")
    if not (isinstance(kind, str) and isinstance(bucket, str) and isinstance(configuration, dict)):
        raise BadInput(f"{path}: kind, bucket or configuration is missing")
    return Finding(directory, program_in(directory), _printable(kind), _printable(bucket), configuration)


def _printable(text: str) -> str:
    """Text from somebody else's file, safe for a terminal."""
    return "".join(character if character.isprintable() else "?" for character in text)
