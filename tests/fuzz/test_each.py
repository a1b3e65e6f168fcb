"""Which patch of a series brought it: the series is tried patch by patch, in a table or by halving."""

from __future__ import annotations

import difflib
from dataclasses import replace
from pathlib import Path

import pytest
from kernel_history import PROGRAM
from planted import HERE
from planted import load as load_mutant

from fuzz.cli.each import smoke_each
from fuzz.cli.main import status_of
from fuzz.triage.cause import PatchCause, patch_of
from fuzz.triage.patch_by_patch import Change, changes, narrowed
from harness.findings.finding import load, report_in
from harness.program.text import format_program
from reference.build.hosted import PGTABLE
from reference.build.sources import KernelChoice, prepare

BUCKET = "accounting-map-pages_freed"
CAUSE = PatchCause(2, 2, 2, "KVM: arm64: brings the bug")


def mail(subject: str, file: str, before: str, after: str) -> str:
    lines = (text.splitlines(keepends=True) for text in (before, after))
    diff = "".join(difflib.unified_diff(*lines, f"a/{file}", f"b/{file}"))
    return (
        f"From {'0' * 40} Mon Sep 17 00:00:00 2001\nFrom: A <a@example.org>\nSubject: {subject}\n\n---\n{diff}-- \n\n"
    )


def series(path: Path, *mails: str) -> Path:
    path.write_text("".join(mails))
    return path


def test_patch_by_patch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One kernel is built, with the second patch: the first changes nothing that is built, and the third does not
    build."""
    monkeypatch.chdir(tmp_path)
    text = prepare(KernelChoice()).pgtable.read_text()
    bug = load_mutant(HERE / "merge-leaks-table.toml").apply(text)
    docs = mail("[PATCH 1/2] docs: words", "Documentation/x.rst", "a\n", "b\n")
    brings = mail("[PATCH 2/2] KVM: arm64: brings the bug", str(PGTABLE), text, bug)
    broken = mail("[PATCH] KVM: arm64: does not build", str(PGTABLE), bug, f"{bug}nonsense\n")
    two, three = series(tmp_path / "two.mbox", docs, brings), series(tmp_path / "three.mbox", docs, brings, broken)
    (tmp_path / "leaks.s2").write_text(format_program(PROGRAM))
    (tmp_path / "agrees.s2").write_text("s2 1\ndestroy\n")

    assert status_of(["run", "leaks.s2", "agrees.s2", "--patch", str(two), "--each", "--out", "out"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[:6] == [
        "leaks.s2:",
        "  none  the sides agree",
        "   1/2  the sides agree             docs: words",
        f"   2/2  {BUCKET}  KVM: arm64: brings the bug",
        f"  {BUCKET}: patch 2 of 2 brings it: KVM: arm64: brings the bug",
        "1 program: the sides agree, whatever number of patches",
    ]
    (directory,) = (tmp_path / "out").iterdir()
    assert patch_of(directory) == CAUSE
    assert report_in(directory).splitlines()[1] == CAUSE.line

    (directory / CAUSE.FILE).unlink()
    smoke_each([replace(load(directory), bucket="another"), load(directory)])
    said = capsys.readouterr().err
    assert "another: it is there without any patch" not in said
    assert f"{BUCKET}: patch 2 of 2 brings it: KVM: arm64: brings the bug" in said
    assert patch_of(directory) == CAUSE

    (directory / CAUSE.FILE).unlink()
    assert status_of(["replay", str(directory), "--each"]) == 1
    assert f"patch 2 of 2 brings it: {CAUSE.subject}" in capsys.readouterr().out
    assert patch_of(directory) == CAUSE
    assert status_of(["replay", str(directory), "--patch", str(three), "--each"]) == 2, "with all, it does not build"
    table = capsys.readouterr().out.splitlines()
    assert table[2] == f"   2/3  {BUCKET}  KVM: arm64: brings the bug"
    assert table[3] == "   3/3  cannot be told              KVM: arm64: does not build"
    assert "does not compile" in table[4]
    assert patch_of(directory) == CAUSE, "what another series does is none of its"


@pytest.mark.parametrize("command", [["run", "p.s2"], ["smoke"]])
def test_each_needs_patches(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.s2").write_text("s2 1\n")
    assert status_of([*command, "--each"]) == 2


def test_what_changes_on_the_way() -> None:
    assert changes([False, False, True, None, True, False]) == [Change(1, 2, True), Change(4, 5, False)]
    assert changes([False, None, True]) == [Change(0, 2, True)]
    assert changes([True, True]) == changes([None, False, False]) == []


@pytest.mark.parametrize("culprit", range(1, 13))
def test_halving(culprit: int) -> None:
    tried = []

    def has(number: int) -> bool:
        tried.append(number)
        return number >= culprit

    assert narrowed(has, 12) == Change(culprit - 1, culprit, True)
    assert len(tried) <= 4
    assert not {0, 12} & set(tried)


def test_halving_around_what_cannot_be_told() -> None:
    states = [False, None, False, None, None, True, True]
    assert narrowed(states.__getitem__, 6) == Change(2, 5, True)
    assert PatchCause(3, 5, 6, "").line == "brought by one of the patches 3 to 5 of 6; which, cannot be told"
