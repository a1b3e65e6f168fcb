"""A finding made on a branch or a working tree is run again on what it was made on; where that cannot be had, nobody
says that it is gone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from executors import Patched
from kernel_history import PROGRAM, begin, commit, found_on, git
from planted import HERE, load
from processes import s2fuzz

from fuzz.sides import choose_sides
from fuzz.triage import replaying
from harness.findings.finding import Finding
from harness.findings.finding import load as load_finding
from harness.model.executor import Model
from harness.program.text import format_program, parse
from pgtable import Stage2
from reference.build.hosted import PGTABLE

BUG = load(HERE / "merge-leaks-table.toml")


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository: a sound kernel, and on the branch `work` one with a bug."""
    path = tmp_path_factory.mktemp("recorded")
    begin(path)
    git(path, "branch", "-q", "fixed")
    git(path, "checkout", "-q", "-b", "work")
    commit(path, "the bug", path / PGTABLE, BUG.apply((path / PGTABLE).read_text()))
    return path


@pytest.fixture
def repository(origin: Path, tmp_path: Path) -> Path:
    """A clone of it, which a test may change."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--shared", "--branch", "work", str(origin), str(clone))
    git(clone, "branch", "-q", "fixed", "origin/fixed")
    return clone


def test_a_branch_that_has_moved(repository: Path, tmp_path: Path) -> None:
    finding = found_on(tmp_path, "--linux", f"{repository}@work", program=format_program(PROGRAM))
    bug = git(repository, "rev-parse", "work")
    assert load_finding(finding).identities["right"]["commit"] == bug
    git(repository, "checkout", "-q", "fixed")
    git(repository, "branch", "-q", "-f", "work", "fixed")
    again = s2fuzz("replay", finding, cwd=tmp_path)
    assert (again.returncode, again.stdout.splitlines()[0]) == (1, "still there"), again.stdout + again.stderr
    chosen = s2fuzz("replay", finding, "--linux", f"{repository}@work", cwd=tmp_path)
    assert chosen.returncode == 0, chosen.stdout
    assert chosen.stdout.startswith(f"gone on model:6.12 and kernel:{repository}@work: the sides agree")
    assert s2fuzz("tmin", finding, "--tries", "1", cwd=tmp_path).returncode == 0, "it runs the same"


def test_a_commit_that_cannot_be_had(repository: Path, tmp_path: Path) -> None:
    finding = found_on(tmp_path, "--linux", f"{repository}@work", program=format_program(PROGRAM))
    git(repository, "checkout", "-q", "fixed")
    git(repository, "branch", "-q", "-f", "work", "fixed")
    record = json.loads((finding / "finding.json").read_text())
    record["identities"]["right"]["commit"] = "0" * 40
    (finding / "finding.json").write_text(json.dumps(record))
    cannot_tell(finding, repository, tmp_path)
    bisecting = s2fuzz("replay", finding, "--bisect", cwd=tmp_path)
    assert bisecting.returncode == 125
    (test,) = finding.glob("test_*.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert (result.returncode, "does not mean that it is gone: seen on" in result.stdout) == (1, True), result.stdout


def cannot_tell(finding: Path, repository: Path, cwd: Path) -> str:
    result = s2fuzz("replay", finding, cwd=cwd)
    assert result.returncode == 3, result.stdout + result.stderr
    assert result.stdout.startswith("not seen here: the sides agree"), result.stdout
    assert not any(line.startswith("gone") for line in result.stdout.splitlines())
    (said,) = [line for line in result.stdout.splitlines() if line.startswith("Whether it is gone cannot be told: ")]
    assert "seen on " in said and f"this is {repository}" in said
    return said


@pytest.mark.slow
def test_a_working_tree_that_was_as_committed(repository: Path, tmp_path: Path) -> None:
    finding = found_on(tmp_path, "--linux", repository, program=format_program(PROGRAM))
    identity = load_finding(finding).identities["right"]
    assert (identity["commit"], identity["commit_changed"]) == (git(repository, "rev-parse", "work"), "")
    git(repository, "checkout", "-q", "fixed")
    again = s2fuzz("replay", finding, cwd=tmp_path)
    assert (again.returncode, again.stdout.splitlines()[0]) == (1, "still there"), again.stdout + again.stderr


@pytest.mark.slow
def test_a_working_tree_with_changes(repository: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "fixed")
    pgtable = repository / PGTABLE
    sound = pgtable.read_text()
    pgtable.write_text(BUG.apply(sound))
    finding = found_on(tmp_path, "--linux", repository, program=format_program(PROGRAM))
    identity = load_finding(finding).identities["right"]
    assert (identity["commit"], identity["commit_changed"]) == (git(repository, "rev-parse", "fixed"), str(PGTABLE))
    again = s2fuzz("replay", finding, cwd=tmp_path)
    assert (again.returncode, again.stdout.splitlines()[:2]) == (1, ["still there", ""]), "nothing has changed since"
    pgtable.write_text(sound)
    said = cannot_tell(finding, repository, tmp_path)
    assert f"with changes to {PGTABLE}" in said
    pgtable.write_text(BUG.apply(sound) + "/* and something else */\n")
    other = s2fuzz("replay", finding, cwd=tmp_path)
    assert (other.returncode, "note: seen on " in other.stdout) == (1, True), "it is there, on another kernel"


@pytest.mark.slow
def test_a_folder_without_git(origin: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(origin, tree, symlinks=True, ignore=lambda _, names: {".git"} & set(names))
    finding = found_on(tmp_path, "--linux", tree, program=format_program(PROGRAM))
    assert "commit" not in load_finding(finding).identities["right"]
    (tree / PGTABLE).write_text(git(origin, "show", f"fixed:{PGTABLE}") + "\n")
    cannot_tell(finding, tree, tmp_path)


def test_what_was_cut_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The budget ends one side sooner than the other: that no difference was seen until then says nothing."""

    def flush_often(self: Stage2, _addr: int, _size: int) -> None:
        for _ in range(200):
            self._hooks.tlbi_vmid()

    program = parse("s2 1\nbudget = 100\ntlb_flush_vmid_range ipa=0x1000 size=4K\n")
    finding = Finding(tmp_path, program, "divergence", "results-map", {"tiers": "results,tables,accounting"})
    sides = choose_sides(sides="model:6.12,model:6.12")
    for right, is_told in ((Patched(Stage2, "tlb_flush_range", flush_often), False), (Model(), True)):
        opened = nullcontext((sides, sides, Model(), right))
        monkeypatch.setattr(replaying, "opened", lambda *_, opened=opened: opened)
        seen = replaying.look_again(finding, sides)
        assert seen.verdict is None
        assert (not seen.untold) is is_told, seen.untold
        assert is_told or "was cut after" in seen.untold
