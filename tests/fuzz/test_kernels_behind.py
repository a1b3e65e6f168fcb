"""A smoke builds what its first processes need, and the rest while those fuzz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.engine.assignment import Assignment
from fuzz.engine.kernels import Kernels
from fuzz.sides import choose_sides
from harness.errors import BadInput
from reference.build.hosted import PGTABLE
from reference.build.progress import silent
from reference.build.sources import KernelChoice, prepare


def assignments(pgtable: Path) -> dict[str, Assignment]:
    """Of each granule, with that file on the kernel's side."""
    whole = Assignment(choose_sides(pgtable=pgtable), Path("out"), (), 0, None, None, True, None)
    return {granule: replace(whole, granule=granule) for granule in ("4k", "64k")}


def test_what_is_wrong_behind_is_told_when_it_is_met(tmp_path: Path) -> None:
    pgtable = tmp_path / "pgtable.c"
    text = (prepare(KernelChoice()).root / PGTABLE).read_text()
    pgtable.write_text(f"{text}\n#if PAGE_SHIFT == 16\n#error s2fuzz_no_64k\n#endif\n")
    work = assignments(pgtable)
    with Kernels() as kernels:
        kernels.build([work["4k"]], silent)
        kernels.build_behind(work.values())
        kernels.wait_for(work["4k"])
        for _ in range(2):  # the same whenever it is met
            with pytest.raises(BadInput, match=r"(?s)for pages of 64k: .*pgtable\.c does not compile.*s2fuzz_no_64k"):
                kernels.wait_for(work["64k"])
        assert (kernels.are_there(work["4k"]), kernels.are_there(work["64k"])) == (True, False)


def test_what_is_needed_first_is_told_at_once(tmp_path: Path) -> None:
    pgtable = tmp_path / "pgtable.c"
    pgtable.write_text("#error s2fuzz_nothing\n")
    with Kernels() as kernels, pytest.raises(BadInput, match="s2fuzz_nothing"):
        kernels.build([assignments(pgtable)["4k"]], silent)
