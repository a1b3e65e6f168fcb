"""`s2fuzz doctor` shows the cache, and cleans it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fuzz.cli import doctor as doctor_module
from fuzz.cli.main import status_of
from reference.build.cache import claimed


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own: three trees of 200 KiB, of which this process uses the oldest, and an image."""
    monkeypatch.setenv("S2FUZZ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(doctor_module, "examine", lambda: ())  # of the machine; that takes longer
    for age, name in enumerate(("kernels/image-1", "sources/new", "sources/old", "sources/mine")):
        folder = tmp_path / "cache" / name
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(os.urandom(200 * 1024))
        os.utime(folder, (10**9 - age, 10**9 - age))
    claimed("sources", "mine")
    os.utime(tmp_path / "cache/sources/mine", (1, 1))
    return tmp_path / "cache"


def test_what_is_there_and_what_cleaning_frees(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("S2FUZZ_CACHE_SIZE", "700K")
    assert status_of(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "KiB of it in use; it may hold 700 KiB (S2FUZZ_CACHE_SIZE)" in text
    assert "kernel trees: 3, 1 in use, 6" in text
    assert "objects and test kernels: 1, 0 in use, 2" in text
    assert "generated headers" not in text
    assert "`s2fuzz doctor --clean` would free 2" in text
    assert "`s2fuzz doctor --clean 0` would free 6" in text
    assert (root / "sources/old").exists(), "looking changes nothing"


@pytest.mark.parametrize(
    ("words", "left"),
    [
        (["--clean"], ["image-1", "mine", "new"]),
        (["--clean", "450K"], ["image-1", "mine"]),
        (["--clean", "0"], ["mine"]),
    ],
)
def test_cleaning(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    left: list[str],
) -> None:
    monkeypatch.setenv("S2FUZZ_CACHE_SIZE", "700K")
    assert status_of(["doctor", *words]) == 0
    assert sorted(path.name for path in root.glob("*/*/")) == left
    assert f"KiB from {root}" in capsys.readouterr().out


def test_a_size_that_is_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["doctor", "--clean", "most"]) == 2
    assert "--clean: most is no size" in capsys.readouterr().err
