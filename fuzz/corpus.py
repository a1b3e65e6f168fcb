"""Folders of inputs in the private binary form. A stamp says which codec wrote them."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Final

from fuzz.mutation import life, random_input
from harness.codec import CODEC, Dialect
from harness.errors import BadInput

STAMP: Final = "s2fuzz-codec"
"""A file beside the folder's inputs: NAME.s2fuzz-codec, since libFuzzer takes every file within for an input."""

_FIRST_INPUTS: Final = 32


def _stamp_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.{STAMP}")


def _stamp(dialect: Dialect) -> str:
    lacks = (f"no-{word.replace(' ', '-')}" for word in sorted(dialect.offer.lacks))
    return " ".join([str(CODEC), dialect.granule.name, *lacks])


def check_codec(folder: Path, dialect: Dialect) -> None:
    """Refuse (BadInput) a folder whose inputs another codec wrote, or this one in another dialect; an empty or new
    folder is stamped."""
    stamp = _stamp_of(folder)
    if not folder.is_dir() or not any(folder.iterdir()):
        folder.mkdir(parents=True, exist_ok=True)
        stamp.write_text(f"{_stamp(dialect)}\n")
        return
    try:
        written = stamp.read_text().strip()
    except OSError as error:
        raise BadInput(f"{folder}: holds inputs, but {stamp.name} does not say which codec wrote them") from error
    if written != _stamp(dialect):
        raise BadInput(
            f"{folder}: written by codec {written}, this is codec {_stamp(dialect)}; convert it through text"
        )


def first_inputs(folder: Path, seed: int, dialect: Dialect) -> None:
    """Fill an empty folder with the inputs that a run with `seed` starts from."""
    check_codec(folder, dialect)
    choice = Random(seed)
    for number in range(_FIRST_INPUTS):
        (folder / f"{number:03}").write_bytes(life(choice, dialect) if number % 2 else random_input(choice))
