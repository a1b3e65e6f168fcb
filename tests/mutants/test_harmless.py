"""Clean-ups that nobody can notice: of none of them may anything be found."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from planted import Mutant, kernel_options, load_harmless, run_against
from thinning import first

from reference.build.image import build
from reference.build.sources import KernelChoice, prepare

HARMLESS = load_harmless()
SEEDS = (1, 2, 3)
SAMPLE = ("follow-after-refusal", "count-asked-twice")
"""What `make test` runs against the model, with one seed and fewer programs; `make mutants` runs all."""


def _must_be_silent(patch: Mutant, seed: int, work: Path, *more: str) -> None:
    status, result = run_against(patch, seed, work, *more)
    said = f"{patch.name}, seed {seed}: {patch.what} {result}"
    assert status == 0, said
    assert result["executions"] >= 1000, said
    assert result["inconclusive"] == 0, said


def _code(patch: Mutant, work: Path | None) -> bytes:
    """The instructions of the test kernel, with the patch or, where there is no folder for it, without."""
    options = {} if work is None else kernel_options(patch, work)
    patches = (Path(options["patch"]),) if "patch" in options else ()
    pgtable = Path(options["pgtable"]) if "pgtable" in options else None
    image = build(prepare(KernelChoice(patch.kernels[0], patches, pgtable)))
    with image.elf.open("rb") as stream:
        return b"".join(one.data() for one in ELFFile(stream).iter_sections() if one.name.startswith(".text"))


def test_there_are_enough_of_them() -> None:
    assert len(HARMLESS) >= 12
    assert sum(patch.file != "pgtable.c" for patch in HARMLESS) >= 2
    assert set(SAMPLE) <= {patch.name for patch in HARMLESS}


@pytest.mark.slow
@pytest.mark.parametrize("patch", HARMLESS, ids=lambda patch: patch.name)
def test_each_changes_the_code(patch: Mutant, tmp_path: Path) -> None:
    """Otherwise it would show nothing."""
    assert _code(patch, tmp_path) != _code(patch, None)


@pytest.mark.parametrize("name", first(1, SAMPLE))
def test_a_sample_is_silent(name: str, tmp_path: Path) -> None:
    _must_be_silent(
        next(patch for patch in HARMLESS if patch.name == name), 1, tmp_path, "--executions", "1000", "--no-compile"
    )


@pytest.mark.mutants
@pytest.mark.parametrize("patch", HARMLESS, ids=lambda patch: patch.name)
def test_nothing_is_found(patch: Mutant, tmp_path: Path) -> None:
    kernel = f"kernel:{patch.kernels[0]}"
    for seed, sides in product(SEEDS, ((), ("--sides", f"{kernel},{kernel}"))):
        _must_be_silent(patch, seed, tmp_path, *sides)
