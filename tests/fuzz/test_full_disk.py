"""A full disk is told as that, with where it is full, and ends with 3: in every place that is written to."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
from altered_tree import with_pgtable

from fuzz.cli.main import status_of
from harness.full_disk import DiskFull, explained, says_full
from reference.build.image import Image, build

DIFFERENT = "s2 1\nmap ipa=0x0 size=4K phys=0x80000000 prot=rwx mc=4\nrelax_perms ipa=0x40000000 prot=rw\n"
"""On 6.12 and 6.1."""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "program.s2"
    path.write_text(DIFFERENT)
    return path


def test_a_finding(program: Path, full_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["run", str(program), "--sides", "model:6.12,model:6.1", "--out"]
    assert status_of([*words, str(full_disk / "out")]) == 3
    assert f"the disk is full: {full_disk / 'out'}" in capsys.readouterr().err
    assert not [path for path in (full_disk / "out").iterdir() if path.is_dir()], "half a finding is none"
    (full_disk / "ballast").unlink()
    assert status_of([*words, str(full_disk / "out")]) == 1


def test_a_corpus(program: Path, full_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["corpus", "import", str(full_disk / "corpus"), str(program), "--sides", "model:6.12,model:6.12"]
    assert status_of(words) == 3
    assert f"the disk is full: {full_disk / 'corpus'}" in capsys.readouterr().err
    (full_disk / "ballast").unlink()
    assert status_of(words) == 0
    (full_disk / "ballast").write_bytes(b"")
    assert status_of(["corpus", "check", str(full_disk / "corpus"), *words[-2:]]) == 0, "nothing of it is damaged"


def test_results(program: Path, full_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = full_disk / "results.xml"
    assert status_of(["run", str(program), "--sides", "model:6.12,model:6.12", "--junit", str(path)]) == 3
    assert f"the disk is full: {path}: make room there" in capsys.readouterr().err


def test_a_build(image: Image, full_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2FUZZ_CACHE", str(full_disk / "cache"))
    tree = with_pgtable(image.tree, tmp_path / "pgtable.c", image.tree.pgtable.read_text())
    with pytest.raises(DiskFull, match=f"^the disk is full: {full_disk / 'cache'}: make room there"):
        build(tree)


def test_the_compiler(image: Image, full_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so in words."""
    monkeypatch.setenv("S2FUZZ_CACHE", str(full_disk / "cache"))
    (full_disk / "ballast").write_bytes((full_disk / "ballast").read_bytes()[: -(1 << 17)])  # room for headers
    tree = with_pgtable(image.tree, tmp_path / "pgtable.c", image.tree.pgtable.read_text())
    with pytest.raises(DiskFull):
        build(tree)


def test_what_says_so() -> None:
    assert says_full("tar: x: Cannot write: No space left on device")
    assert says_full("fatal: Disk quota exceeded")
    assert says_full(f"a worker said: {DiskFull('/there')}")
    assert not says_full("No such file or directory")
    assert explained(OSError(errno.EDQUOT, "quota", "/there")) == "the disk is full: /there: make room there"
    assert "the working folder" in explained(OSError(errno.ENOSPC, "no room"))
    assert explained(OSError(errno.EACCES, "Permission denied", "/there")) == "[Errno 13] Permission denied: '/there'"
