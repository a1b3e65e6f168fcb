"""Folders of inputs in the private binary form. A stamp says which codec wrote them.

A `Store` keeps its inputs as libFuzzer does, in files named by the SHA-1 of what they hold, so that damage shows.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from harness.durable import sync_folder, write_durably
from harness.errors import BadInput, CannotRun
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
_STAMP: Final = re.compile(r"\d+ \d+k( no-\S+)*")


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
        raise BadInput(
            f"{shown(folder)}: there are files in it, but no {shown(stamp)} beside it, which says what wrote them; if "
            f"they are inputs, and this s2fuzz wrote them for the kernels and the granule chosen now, make it: "
            f"echo '{_stamp(dialect)}' > {shown(shlex.quote(str(stamp)))}"
        )
    check_stamp(folder, dialect)


def check_stamp(folder: Path, dialect: Dialect) -> None:
    """Refuse (BadInput) a folder whose stamp says that another codec wrote its inputs. One without a stamp is taken as
    it is: fuzzing clusters keep none, and any bytes are a program."""
    try:
        written = read_plain(stamp_of(folder), _STAMP_AT_MOST, "a stamp").decode(errors="replace").strip()
    except FileNotFoundError:
        return
    except OSError as error:
        raise BadInput(f"{shown(stamp_of(folder))}: {error.strerror}; make it readable") from error
    if written != _stamp(dialect):
        raise BadInput(
            f"{shown(folder)}: written by codec {shown(written)}, this is codec {_stamp(dialect)}; {_remedy(written)}"
        )


def _remedy(written: str) -> str:
    """What to do with inputs of another codec or dialect, by what their stamp says."""
    if _STAMP.fullmatch(written) is None:
        return "the stamp is damaged: where the folder is from, there may be another"
    codec, granule, *_ = written.split()
    if codec != str(CODEC):
        return "have the s2fuzz that wrote it `corpus export` it, and `corpus import` the programs here"
    return f"choose the kernels that it was made for, with --granule {granule}, or `corpus export` it with those"


def read_input(path: Path) -> bytes:
    """An input. Raises BadInput for what is no plain file, or too large to be one; OSError."""
    return read_plain(path, _READ_AT_MOST, "an input")


def programs_in(path: Path) -> list[Path]:
    """Where programs are: a file or a finding's directory itself, or the files of programs below any other folder."""
    if not path.is_dir() or is_finding(path):
        return [path]
    return [file for file in program_files(path) if file.name != ORIGINAL]


def damage(path: Path) -> str | None:
    """What is wrong with something in a folder of inputs, in words; None where it is a file that holds what its name
    says."""
    if path.is_dir() and not path.is_symlink():
        return "a folder, where only inputs are to be"
    try:
        name = name_of(read_input(path))
    except BadInput as error:
        return str(error).removeprefix(f"{shown(path)}: ")
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if _NAME.fullmatch(path.name) is None:
        return "not called as an input is, by the SHA-1 of what it holds"
    return None if name == path.name else "damaged: what it holds has another SHA-1 than its name"


def check_whole(path: Path) -> None:
    """Refuse (BadInput) what is no input, or another than its name says."""
    if (why := damage(path)) is not None:
        raise BadInput(f"{shown(path)}: {why}; `s2fuzz corpus check` lists all such files: remove them first")


def is_whole(path: Path) -> bool:
    """Whether a file holds what its name says."""
    return damage(path) is None


def input_for(program: Program, dialect: Dialect) -> bytes | None:
    """An input that means `program`; None where the dialect has no words for it or it is too long."""
    if _unsaid(program, dialect):
        return None
    data = encode(program, dialect)
    return data if len(data) <= MAX_INPUT else None


def why_left_out(program: Program, dialect: Dialect) -> str:
    """Why `input_for` has none for a program, in a few words."""
    return _unsaid(program, dialect) or f"longer than {MAX_INPUT} bytes as an input"


def _unsaid(program: Program, dialect: Dialect) -> str:
    """What of a program the dialect has no words for; empty where it has all."""
    granule = program.machine.granule
    if granule is not dialect.granule:
        return f"for pages of {granule.name}"
    try:
        dialect.capabilities.check(program, "a side")
    except CannotRun as error:
        return error.why
    return ""


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
        """An input. Raises BadInput where the file does not hold what its name says: any bytes are a program, so that
        nobody else would notice. OSError."""
        data = read_input(self.folder / name)
        if name_of(data) != name:
            raise BadInput(f"{shown(self.folder / name)}: {damage(self.folder / name)}; remove it")
        return data

    def program(self, name: str) -> Program:
        """What an input means. Raises as `read` does."""
        return decode(self.read(name), self.dialect)

    def add(self, inputs: Iterable[bytes]) -> list[str]:
        """Keep those that are not there yet, or damaged, and return their names, once they are on the disk. Raises
        OSError."""
        added: list[str] = []
        for data in inputs:
            target = self.folder / name_of(data)
            if target.name not in added and not is_whole(target):
                write_durably(target, data, self.scratch)
                added.append(target.name)
        if added:
            sync_folder(self.folder)
        return added

    def damaged(self) -> dict[Path, str]:
        """What is in the folder but no input, or not the one that its name says; and what is wrong with it."""
        found = {path: damage(path) for path in sorted(self.folder.iterdir())}
        return {path: why for path, why in found.items() if why is not None}

    def encode(self, program: Program) -> bytes | None:
        """An input that means `program`; None where the dialect has no words for it or it is too long."""
        return input_for(program, self.dialect)

    def text(self, name: str) -> str:
        """The program that an input means, in text form. Raises as `read` does."""
        return format_program(self.program(name))
