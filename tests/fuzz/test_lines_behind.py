"""Lines of the model are counted while processes fuzz, and as they would be afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest
from seeds import SEEDS

from fuzz.coverage.model_lines import CountedBehind, ModelLines, forget
from fuzz.engine.assignment import Assignment
from fuzz.engine.process import FuzzingProcess
from fuzz.sides import choose_sides
from harness.model.executor import Model
from harness.program.codec import decode, encode
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


def test_an_input_is_given_once_and_when_it_is_whole(tmp_path: Path) -> None:
    """Of a process that does nothing: what is in its folder are the inputs that it begins with, and then one more."""
    idle = tmp_path / "idle.py"
    idle.write_text("")
    work = Assignment(choose_sides(sides="model:6.12,model:6.12"), tmp_path, (), 0, None, None, True, None)
    process = FuzzingProcess(work, tmp_path, launcher=idle)
    try:
        assert process.newly_kept(settled=3600) == []
        assert len(process.newly_kept()) == len(list(process.corpus.iterdir())) > 0
        assert process.newly_kept() == []
        (process.corpus / "new").write_bytes(encode(PROGRAMS[0], process.dialect))
        assert process.newly_kept() == [decode(encode(PROGRAMS[0], process.dialect), process.dialect)]
        assert process.newly_kept() == []
    finally:
        process.close()
