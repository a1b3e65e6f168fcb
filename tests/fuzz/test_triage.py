"""The commands that work on findings, run as people run them."""

from __future__ import annotations

from pathlib import Path

import pytest
from planted import HERE, load
from processes import s2fuzz

from harness.finding import load as load_finding
from harness.program_text import format_program, parse
from reference.sources import KernelChoice, prepare

PROGRAM = parse("""
# Two pages, then a block over both.
s2 1
ia_bits = 44
map ipa=0x40200000 size=8K phys=0x80200000 prot=rwx mc=4
get_leaf ipa=0x40200000
map ipa=0x40200000 size=2M phys=0x80200000 prot=rwx mc=4
unmap ipa=0x0 size=4G
destroy
""")


def finding_in(folder: Path, mutant: str = "merge-leaks-table", program: str = format_program(PROGRAM)) -> Path:
    """The directory of a finding: a planted bug, shown by that program."""
    pgtable, text = folder / "pgtable.c", folder / "program.s2"
    pgtable.write_text(load(HERE / f"{mutant}.toml").apply(prepare(KernelChoice()).pgtable.read_text()))
    text.write_text(program)
    result = s2fuzz("run", text, "--pgtable", pgtable, "--out", folder / "out", cwd=folder)
    assert result.returncode == 1, result.stderr
    pgtable.unlink()
    (directory,) = (folder / "out").iterdir()
    return directory


@pytest.fixture
def finding(tmp_path: Path) -> Path:
    return finding_in(tmp_path)


def test_tmin_replaces_the_program_and_keeps_the_first(finding: Path, tmp_path: Path) -> None:
    result = s2fuzz("tmin", finding, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"{finding}: 5 ops to 2, in " in result.stdout.splitlines()[-1]
    found = load_finding(finding)
    assert len(found.program.ops) == 2 and found.program.machine.changed() == {}
    assert found.bucket in result.stdout and finding.name.startswith(found.bucket)
    assert (finding / "original.s2").read_text() == format_program(PROGRAM)
    assert s2fuzz("replay", finding, cwd=tmp_path).returncode == 1

    text = (finding / "program.s2").read_text()
    assert s2fuzz("tmin", finding, cwd=tmp_path).returncode == 0
    assert (finding / "program.s2").read_text() == text, "it was no fixpoint"
    assert (finding / "original.s2").read_text() == format_program(PROGRAM)


def test_tmin_of_what_does_not_reproduce(finding: Path, tmp_path: Path) -> None:
    (finding / "program.s2").write_text("s2 1\nmap ipa=0x0 size=4K phys=0x0 prot=rw mc=2\n")
    before = sorted(finding.rglob("*"))
    result = s2fuzz("tmin", finding, cwd=tmp_path)
    assert result.returncode == 2
    assert "does not reproduce: the sides agree" in result.stderr
    assert sorted(finding.rglob("*")) == before


def test_tmin_wants_a_finding(tmp_path: Path) -> None:
    result = s2fuzz("tmin", tmp_path, cwd=tmp_path)
    assert (result.returncode, "not a finding" in result.stderr) == (2, True)
