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
    """Rewrite programs in canonical form. Comments stay. Nothing is written unless all of them are well formed."""
    files = [file_of(path) for path in programs]
    texts = [read_text(path) for path in files]
    formatted = [reformat(text, shown(path)) for path, text in zip(files, texts, strict=True)]
    changed = [(path, new) for path, old, new in zip(files, texts, formatted, strict=True) if old != new]
    for path, new in changed:
        if not only_check:
            _rewrite(path, new)
        show_line(f"{shown(path)}: {'not in canonical form' if only_check else 'rewritten'}")
    return BAD_INPUT if only_check and changed else OK


def _rewrite(path: Path, text: str) -> None:
    """Replace a file's text, and nothing else of it, so that it is never half written."""
    scratch = path.with_name(f".{path.name}.tmp")
    write_plain(scratch, text.encode())
    shutil.copymode(path, scratch)
    os.replace(scratch, path)


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
