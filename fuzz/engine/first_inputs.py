"""What a run starts from, where no corpus is given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Final

from fuzz.corpus.store import check_codec
from fuzz.generate.fresh import random_input
from fuzz.generate.scenario import vm_scenario
from harness.program.codec import Dialect

_FIRST_INPUTS: Final = 32


def starting_inputs(seed: int, dialect: Dialect) -> Iterator[bytes]:
    """The inputs that a run with `seed` starts from."""
    choice = Random(seed)
    for number in range(_FIRST_INPUTS):
        yield vm_scenario(choice, dialect) if number % 2 else random_input(choice, dialect)


def first_inputs(folder: Path, seed: int, dialect: Dialect) -> None:
    """Fill an empty folder with the inputs that a run with `seed` starts from."""
    check_codec(folder, dialect)
    for number, data in enumerate(starting_inputs(seed, dialect)):
        (folder / f"{number:03}").write_bytes(data)
