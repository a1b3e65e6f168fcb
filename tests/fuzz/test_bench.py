"""The benchmark's machinery works; what it measures is nobody's to assert."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.mark.slow
@pytest.mark.parametrize("number", [1, 3, 5, 7])
def test_a_figure_is_measured(number: int, tmp_path: Path) -> None:
    """The first takes the longest way: into the fuzzing process and back."""
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--only", str(number), "--no-picture", "--out", str(tmp_path)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    printed = json.loads(run.stdout)
    assert json.loads((tmp_path / "bench.json").read_text()) == printed
    assert printed["scale"] == "quick"
    (figure,) = printed["figures"]
    assert figure.keys() == {"figure", "name", "value", "target", "met", "values", "how", "seconds"}
    assert figure["figure"] == number
    assert isinstance(figure["met"], bool)
    assert all(value > 0 for value in figure["value"].values())
