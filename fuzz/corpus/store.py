"""Folders of inputs in the private binary form. A stamp says which codec wrote them.

A `Store` keeps its inputs as libFuzzer does, in files named by the SHA-1 of what they hold, so that damage shows.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.durable import sync_folder, write_durably
from harness.errors import BadInput
from harness.findings.finding import ORIGINAL
from harness.findings.place import is_finding
from harness.outside import check_inside, program_files, read_plain, shown, write_plain
from harness.program.codec import CODEC, Dialect, decode, encode
from harness.program.program import Program
from harness.program.text import format_program

STAMP: Final = "s2fuzz-codec"
"""A file beside the folder's inputs: NAME.s2fuzz-codec, since libFuzzer takes every file within for an input."""

MAX_INPUT: Final = 320
"""Bytes that are generated at most: about 40 ops."""
_STAMP_AT_MOST: Final = 1 << 12
_READ_AT_MOST: Final = 1 << 20
"""Bytes; no input is as long, whoever made it."""

_NAME: Final = re.compile("[0-9a-f]{40}")


def name_of(data: bytes) -> str:
    """The name of the file that holds an input: libFuzzer's."""
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


def stamp_of(folder: Path) -> Path:
    """The file that says which codec wrote the inputs in `folder`."""
    return folder.with_name(f"{folder.name}.{STAMP}")


def beside(folder: Path) -> Path:
    """Where the smaller one is made that is to take a folder's place."""
    return folder.with_name(f"{folder.name}.cmin")


def _stamp(dialect: Dialect) -> str:
    lacks = (f"no-{word.replace(' ', '-')}" for word in sorted(dialect.capabilities.lacks))
    return " ".join([str(CODEC), dialect.granule.name, *lacks])


def check_codec(folder: Path, dialect: Dialect) -> None:
    """Refuse (BadInput) a folder whose inputs another codec wrote, or this one in another dialect; an empty or new
    folder is stamped."""
    stamp = stamp_of(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        write_plain(stamp, f"{_stamp(dialect)}\n".encode())
        return
    if not stamp.is_file():
        raise BadInput(f"{shown(folder)}: holds inputs, but {stamp.name} does not say which codec wrote them")
    check_stamp(folder, dialect)


def check_stamp(folder: Path, dialect: Dialect) -> None:
    """Refuse (BadInput) a folder whose stamp says that another codec wrote its inputs. One without a stamp is taken as
    it is: fuzzing clusters keep none, and any bytes are a program."""
    try:
        written = read_plain(stamp_of(folder), _STAMP_AT_MOST, "a stamp").decode(errors="replace").strip()
    except OSError:
        return
    if written != _stamp(dialect):
        raise BadInput(
            f"{shown(folder)}: written by codec {shown(written)}, this is codec {_stamp(dialect)}; convert it "
            "through text"
        )


def read_input(path: Path) -> bytes:
    """An input. Raises BadInput for what is no plain file, or too large to be one; OSError."""
    return read_plain(path, _READ_AT_MOST, "an input")


def programs_in(path: Path) -> list[Path]:
    """Where programs are: a file or a finding's directory itself, or the files of programs below any other folder."""
    if not path.is_dir() or is_finding(path):
        return [path]
    return [file for file in program_files(path) if file.name != ORIGINAL]


def is_whole(path: Path) -> bool:
    """Whether a file holds what its name says."""
    try:
        return name_of(read_input(path)) == path.name
    except (OSError, BadInput):
        return False


def input_for(program: Program, dialect: Dialect) -> bytes | None:
    """An input that means `program`; None where the dialect has no words for it or it is too long."""
    if program.machine.granule is not dialect.granule:
        return None
    try:
        dialect.capabilities.check(program, "this corpus")
    except BadInput:
        return None
    data = encode(program, dialect)
    return data if len(data) <= MAX_INPUT else None


@dataclass(frozen=True, slots=True)
class Store:
    """Inputs of one dialect in `folder`, which nothing is ever half written to; `scratch` is a folder beside."""

    folder: Path
    scratch: Path
    dialect: Dialect

    @classmethod
    def open(cls, folder: Path, scratch: Path, dialect: Dialect) -> Store:
        """Made where it is missing. Raises BadInput for another codec's, OSError."""
        for path in (scratch, stamp_of(folder), beside(folder)):
            check_inside(path, path.parent)
        scratch.mkdir(parents=True, exist_ok=True)
        aside = beside(folder).with_name(f"{beside(folder).name}-old")
        if aside.exists() and not folder.exists():  # folders were about to change names, in three steps
            aside.rename(folder)
        check_codec(folder, dialect)
        return cls(folder, scratch, dialect)

    def names(self) -> list[str]:
        """Of the inputs, sorted. Files that are called otherwise are none."""
        return sorted(entry.name for entry in os.scandir(self.folder) if _NAME.fullmatch(entry.name))

    def read(self, name: str) -> bytes:
        """Raises OSError, BadInput."""
        return read_input(self.folder / name)

    def program(self, name: str) -> Program:
        """What an input means. Raises OSError, BadInput."""
        return decode(self.read(name), self.dialect)

    def add(self, inputs: Iterable[bytes]) -> list[str]:
        """Keep those that are not there yet, and return their names, once they are on the disk. Raises OSError."""
        added: list[str] = []
        for data in inputs:
            target = self.folder / name_of(data)
            if target.name not in added and not target.exists():
                write_durably(target, data, self.scratch)
                added.append(target.name)
        if added:
            sync_folder(self.folder)
        return added

    def damaged(self) -> list[Path]:
        """What is in the folder but does not hold what its name says, or has no such name."""
        return sorted(path for path in self.folder.iterdir() if not is_whole(path))

    def encode(self, program: Program) -> bytes | None:
        """An input that means `program`; None where the dialect has no words for it or it is too long."""
        return input_for(program, self.dialect)

    def text(self, name: str) -> str:
        """The program that an input means, in text form. Raises OSError, BadInput."""
        return format_program(self.program(name))
