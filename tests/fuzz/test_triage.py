"""The commands that work on findings, run as people run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel_history import PROGRAM, begin, finding_in, git
from kernel_history import commit as add_commit
from planted import HERE, load
from processes import COMMAND, s2fuzz

from harness.findings.finding import load as load_finding
from harness.program.text import format_program
from reference.build.hosted import PGTABLE
from reference.build.sources import KernelChoice, prepare


@pytest.fixture
def finding(tmp_path: Path) -> Path:
    return finding_in(tmp_path)


def test_tmin_replaces_the_program_and_keeps_the_first(finding: Path, tmp_path: Path) -> None:
    result = s2fuzz("tmin", finding, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"\n{finding}: 5 ops to 2, in " in result.stdout
    found = load_finding(finding)
    assert len(found.program.ops) == 2 and found.program.machine.changed() == {}
    assert found.bucket in result.stdout and finding.name.startswith(found.bucket)
    assert (finding / "original.s2").read_text() == format_program(PROGRAM)
    assert s2fuzz("replay", finding, cwd=tmp_path).returncode == 1

    text = (finding / "program.s2").read_text()
    assert s2fuzz("tmin", finding, cwd=tmp_path).returncode == 0
    assert (finding / "program.s2").read_text() == text, "it was no fixpoint"
    assert (finding / "original.s2").read_text() == format_program(PROGRAM)


@pytest.mark.slow
def test_a_finding_that_moves_still_replays_and_names_no_place_of_its_own(finding: Path, tmp_path: Path) -> None:
    """Before and after it was minimised, which builds from its own copy of pgtable.c."""
    moved = tmp_path / "elsewhere" / "moved"
    moved.parent.mkdir()
    finding.rename(moved)
    again = s2fuzz("replay", ".", cwd=moved)
    assert again.returncode == 1, again.stderr
    assert s2fuzz("tmin", moved, "--tries", "1", cwd=tmp_path).returncode == 0
    moved = moved.rename(finding)
    texts = [path.read_text() for path in moved.rglob("*") if path.is_file()]
    assert not any(str(place) in text for text in texts for place in (finding, moved, tmp_path))
    again = s2fuzz("replay", moved, cwd=tmp_path)
    assert again.returncode == 1, again.stderr
    assert load_finding(moved).identities["right"]["source"].endswith("pgtable.c from kernel/0-pgtable.c")


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


def test_the_pytest_test_of_a_finding_fails_while_the_bug_is_there(finding: Path, tmp_path: Path) -> None:
    (test,) = finding.glob("test_*.py")

    def pytest_on(linux: str | None) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, **({} if linux is None else {"S2FUZZ_LINUX": linux})}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)

    there = pytest_on(None)
    assert there.returncode == 1, there.stdout
    assert "First differing op: op 3: map" in there.stdout
    gone = pytest_on("6.12")
    assert gone.returncode == 0, gone.stdout


def test_a_readme_says_how_to_run_it_again_and_what_ran(finding: Path, tmp_path: Path) -> None:
    text = (finding / "README").read_text()
    assert "Seen on 3 of 3 fresh kernels." in text
    assert "    s2fuzz replay . " in text
    assert "First differing op: op 3: map" in text and "    qemu: QEMU emulator" in text
    assert s2fuzz("replay", ".", cwd=finding).returncode == 1
    for name in ("reproducer.c", "report.txt", "program.s2"):
        assert name in text and (finding / name).exists()


@dataclass
class History:
    """A repository: the first commit, one that touches nothing hosted, one that does no harm, one that does not
    compile, the one with the bug, a later one, and again one that touches nothing hosted."""

    path: Path
    good: str
    broken: str
    culprit: str
    bad: str


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    path = tmp_path_factory.mktemp("history")
    pgtable = path / PGTABLE
    good = begin(path)

    def commit(subject: str, text: str | None = None, file: Path = pgtable) -> str:
        return add_commit(path, subject, file, text)

    commit("elsewhere", file=path / "include/linux/kvm_types.h")
    commit("harmless")
    fine = pgtable.read_text()
    broken = commit("does not compile", fine + "nonsense\n")
    buggy = load(HERE / "merge-leaks-table.toml").apply(fine)
    culprit = commit("the bug", buggy)
    commit("later")
    bad = commit("after all", file=path / "include/linux/kvm_types.h")
    return History(path, good, broken, culprit, bad)


@pytest.mark.slow
def test_bisect_finds_the_commit(finding: Path, history: History, tmp_path: Path) -> None:
    before = git(history.path, "for-each-ref"), git(history.path, "status", "--porcelain")
    result = s2fuzz("bisect", finding, "--repo", history.path, history.good, "HEAD", cwd=tmp_path)
    assert result.returncode in (0, 3), result.stdout + result.stderr
    steps = result.stdout.splitlines()
    assert steps[0].startswith("good ") and steps[1].startswith("bad ")
    assert any(line.startswith("skipped") and "does not compile" in line for line in steps)
    assert not any("elsewhere" in line for line in steps), "that commit touches nothing hosted"
    assert result.returncode == 3, "the commit before the bug does not build"
    assert [line.split(" (")[0].split(" ", 3)[3] for line in steps[-2:]] == ["the bug", "does not compile"]
    assert (git(history.path, "for-each-ref"), git(history.path, "status", "--porcelain")) == before

    exact = s2fuzz("bisect", finding, "--repo", history.path, history.broken, "HEAD", cwd=tmp_path)
    assert (exact.returncode, "cannot be run" in exact.stderr) == (3, True)


@pytest.mark.slow
def test_bisect_names_the_one_commit(finding: Path, history: History, tmp_path: Path) -> None:
    """On a side branch without the commit that does not build, and merged since."""
    git(history.path, "checkout", "-q", "-b", "side", f"{history.broken}^")
    git(history.path, "checkout", "-q", history.culprit, "--", str(PGTABLE))
    git(history.path, "commit", "-q", "-m", "the bug, on a branch")
    culprit = git(history.path, "rev-parse", "HEAD")
    git(history.path, "commit", "-q", "--allow-empty", "-m", "nothing")
    git(history.path, "merge", "-q", "--no-ff", "-s", "ours", "-m", "merged", f"{history.good}~0")
    result = s2fuzz("bisect", finding, "--repo", history.path, history.good, "side", cwd=tmp_path)
    git(history.path, "checkout", "-q", history.bad)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.splitlines()[-1] == culprit
    assert "the first with it: " in result.stdout and "the bug, on a branch (A U Thor, " in result.stdout


@pytest.mark.slow
def test_bisect_says_which_end_is_wrong(finding: Path, history: History, tmp_path: Path) -> None:
    for good, bad, said in (
        (history.culprit, "HEAD", "GOOD, "),
        (history.good, f"{history.broken}^", "BAD, "),
        ("nowhere", "HEAD", f"{history.path}@nowhere: the repository has no revision `nowhere`"),
        (history.good, "--all", "No such option"),
    ):
        result = s2fuzz("bisect", finding, "--repo", history.path, good, bad, cwd=tmp_path)
        assert result.returncode == 2, result.stdout + result.stderr
        assert said in result.stderr


@pytest.mark.slow
def test_replay_for_git_bisect(finding: Path, history: History, tmp_path: Path) -> None:
    def replay(revision: str, *options: str) -> int:
        linux = f"{history.path}@{revision}"
        return s2fuzz("replay", finding, "--bisect", "--linux", linux, *options, cwd=tmp_path).returncode

    assert replay(history.good) == 0
    assert replay(history.culprit) == 1
    assert replay(history.broken) == 125
    assert replay("nowhere") == 125
    assert replay(history.good, "--no-such-option") == 125
    assert s2fuzz("replay", tmp_path, "--bisect", cwd=tmp_path).returncode == 125
    assert s2fuzz("replay", finding, "--linux", "5.4", cwd=tmp_path).returncode == 2, "only for git"


def test_another_bucket_cannot_tell(finding: Path, tmp_path: Path) -> None:
    """What goes wrong before hides what is looked for."""
    other = tmp_path / "other.c"
    other.write_text(load(HERE / "write-permission-lost.toml").apply(prepare(KernelChoice()).pgtable.read_text()))
    plain = s2fuzz("replay", finding, "--pgtable", other, cwd=tmp_path)
    assert (plain.returncode, "still there, but it was" in plain.stdout) == (1, True)
    assert s2fuzz("replay", finding, "--pgtable", other, "--bisect", cwd=tmp_path).returncode == 125


@pytest.mark.slow
def test_git_bisect_run_ends_at_the_commit(finding: Path, history: History, tmp_path: Path) -> None:
    """In a clone, as git changes what is checked out."""
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--shared", str(history.path), str(clone))
    git(clone, "bisect", "start", history.bad, history.good, "--", str(PGTABLE))
    command = ["git", "bisect", "run", COMMAND, "replay", str(finding), "--bisect", "--linux", "."]
    result = subprocess.run(command, cwd=clone, capture_output=True, text=True, check=False, timeout=500)
    assert "only 'skip'ped commits left to test" in result.stdout, result.stdout + result.stderr
    assert history.culprit in result.stdout and history.broken in result.stdout


def test_names_of_files_cannot_reach_the_terminal_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "\x1b[2J"
    folder.mkdir()
    (folder / "good.s2").write_text("s2 1\n")
    (folder / "bad.s2").write_text("s2 1\nnonsense\n")
    for command in ("check", "fmt"):
        result = s2fuzz(command, folder / "good.s2", folder / "bad.s2", cwd=tmp_path)
        assert result.returncode == 2
        assert "\x1b" not in result.stdout + result.stderr
        assert "?[2J/bad.s2:2:1: expected an op" in result.stderr
    ran = s2fuzz("run", folder / "good.s2", cwd=tmp_path)
    assert (ran.returncode, "?[2J/good.s2: the sides agree" in ran.stdout) == (0, True)


def test_kernel_files_of_a_finding_are_plain_ones_of_its_own(finding: Path, tmp_path: Path) -> None:
    (kept,) = (finding / "kernel").iterdir()
    text = kept.read_bytes()
    kept.unlink()
    kept.symlink_to("/etc/hostname")
    linked = s2fuzz("replay", finding, cwd=tmp_path)
    assert (linked.returncode, "a symbolic link" in linked.stderr) == (2, True)
    kept.unlink()
    kept.write_bytes(text + b"\n" * (16 << 20))
    large = s2fuzz("replay", finding, cwd=tmp_path)
    assert (large.returncode, "too large" in large.stderr) == (2, True)
    kept.write_bytes(text)
    record = json.loads((finding / "finding.json").read_text())
    record["configuration"]["right"]["pgtable"] = "../../pgtable.c"
    (finding / "finding.json").write_text(json.dumps(record))
    outside = s2fuzz("replay", finding, cwd=tmp_path)
    assert (outside.returncode, "not one of the finding's own files" in outside.stderr) == (2, True)
