"""The commands that look after programs as text, and run none of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import click

from fuzz.cli.options import BAD_INPUT, EXISTING, OK, say, show_line
from harness.errors import BadInput
from harness.findings.place import file_of, program_in
from harness.outside import shown, write_plain
from harness.program.text import read_text, reformat


@click.command()
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
@click.option("--check", "only_check", is_flag=True, help="Only name the files that would change; exit 2 if any.")
def fmt(programs: tuple[Path, ...], only_check: bool) -> int:
    """Rewrite programs in canonical form. Comments stay. One that is malformed is named, and stays as it is: exit
    status 2."""
    problems = 0
    for program in programs:
        try:
            path = file_of(program)
            old = read_text(path)
            new = reformat(old, shown(path))
        except BadInput as error:
            say(str(error))
            problems += 1
            continue
        if old != new:
            problems += only_check
            if not only_check:
                _rewrite(path, new)
            show_line(f"{shown(path)}: {'not in canonical form' if only_check else 'rewritten'}")
    return BAD_INPUT if problems else OK


def _rewrite(path: Path, text: str) -> None:
    """Replace a file's text, and nothing else of it, so that it is never half written."""
    scratch = path.with_name(f".{path.name}.tmp")
    try:
        write_plain(scratch, text.encode())
        shutil.copymode(path, scratch)
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


@click.command()
@click.argument("programs", nargs=-1, required=True, type=EXISTING, metavar="PROGRAM...")
def check(programs: tuple[Path, ...]) -> int:
    """Check that programs are well formed, without running them."""
    problems = 0
    for path in programs:
        try:
            program = program_in(path)
            show_line(f"{shown(path)}: ok, {len(program.ops)} ops")
        except BadInput as error:
            problems += 1
            say(str(error))
    return BAD_INPUT if problems else OK
