"""Lines of the model are counted while processes fuzz, and as they would be afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat

import pytest
from seeds import SEEDS

from fuzz.coverage.model_lines import CountedBehind, ModelLines, forget
from harness.model.executor import Model
from harness.program.program import Program
from harness.program.text import read

PROGRAMS = [read(path) for path in SEEDS if path.stem in ("block_split", "unlinked", "walk_visits")]


def test_it_comes_to_the_same() -> None:
    forget()
    afterwards = ModelLines()
    afterwards.run(Model("6.12"), PROGRAMS)
    forget()
    model = Model("6.12")
    with CountedBehind() as behind:
        for program in PROGRAMS:
            behind.add(model, [program])
        assert behind.result() == (afterwards.reached, afterwards.total)
    assert 0 < afterwards.reached < afterwards.total


def test_what_goes_wrong_is_told() -> None:
    def unreadable() -> Iterator[Program]:
        yield PROGRAMS[0]
        raise OSError("s2fuzz_gone")

    with CountedBehind() as behind:
        behind.add(Model("6.12"), unreadable())
        with pytest.raises(OSError, match="s2fuzz_gone"):
            behind.result()


def test_its_end_leaves_the_rest() -> None:
    with CountedBehind() as behind:
        behind.add(Model("6.12"), repeat(PROGRAMS[0]))  # for ever
