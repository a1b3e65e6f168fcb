"""The commit that brought a finding: whatever the compiler reads counts, and what is named was seen beside its
parents."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from kernel_history import PROGRAM, begin, commit, found_on, git
from processes import s2fuzz
from thinning import first

from fuzz.triage.bisecting import Repository, _Bisection
from fuzz.triage.cause import commit_of
from fuzz.triage.mail.letter import letter
from fuzz.triage.mail.maintainers import Recipients
from harness.errors import BadInput
from harness.findings.finding import Finding, load, report_in
from reference.build.hosted import PGTABLE

ALIGN = "include/linux/align.h"
UNALIGNED = "s2 1\nmap ipa=0x40201000 size=4M phys=0x80201000 prot=rwx mc=4\n"
"""What shows the bug below: a block where nothing is aligned to one."""
_SOUND = re.compile(r"^#define IS_ALIGNED\(.*$", re.MULTILINE)
_BUGGY = "#define IS_ALIGNED(x, a) (((x) & ((typeof(x))(a) - 1)) == 0 || (a) == 0x200000)"


@dataclass
class History:
    """The bug is in a header that pgtable.c includes. On the branch `passing`, it comes in one that was only read in
    between."""

    path: Path
    good: str
    culprit: str
    passing_culprit: str


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    path = tmp_path_factory.mktemp("bisect")
    pgtable, align = path / PGTABLE, path / ALIGN
    good = begin(path)
    before = commit(path, "harmless", pgtable)
    commit(path, "elsewhere", path / "include/linux/usb.h")
    buggy, count = _SOUND.subn(_BUGGY, align.read_text())
    assert count == 1
    culprit = commit(path, "align: faster", align, buggy)
    commit(path, "innocent", pgtable)
    git(path, "checkout", "-q", "-b", "passing", before)
    text, last = pgtable.read_text(), "#include <asm/stage2_pgtable.h>\n"
    assert last in text
    odd = path / "include/linux/odd.h"
    odd.write_text("/* nothing */\n")
    commit(path, "includes another header", pgtable, text.replace(last, f"{last}#include <linux/odd.h>\n"))
    passing_culprit = commit(path, "odd: something", odd, f"#undef IS_ALIGNED\n{_BUGGY}\n")
    odd.unlink()
    commit(path, "as it was, almost", pgtable, text.replace(last, f"{last}#undef IS_ALIGNED\n{_BUGGY}\n"))
    git(path, "checkout", "-q", "-")
    return History(path, good, culprit, passing_culprit)


def everything_in(folder: Path) -> dict[str, bytes]:
    """By name, all files of a repository: what is checked out, and all of .git."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def head(history: History) -> str:
    branches = git(history.path, "for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    (main,) = [name for name in branches if name != "passing"]
    return main


@pytest.mark.parametrize("branch", first(1, ["", "passing"]))
def test_the_commit_that_changes_a_header(history: History, branch: str, tmp_path: Path) -> None:
    bad = branch or head(history)
    before = everything_in(history.path)
    finding = found_on(tmp_path, "--linux", f"{history.path}@{bad}", program=UNALIGNED)
    result = s2fuzz("bisect", finding, "--repo", history.path, history.good, bad, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert everything_in(history.path) == before, "nothing of the user's repository changes"
    assert {".git/HEAD", ".git/index", ".git/logs/HEAD", ".git/config"} <= before.keys()
    culprit = history.passing_culprit if branch else history.culprit
    found = commit_of(finding)
    assert found is not None and (found.commit, found.author) == (culprit, "A U Thor <author@example.org>")
    assert found.parents == (git(history.path, "rev-parse", f"{culprit}^"),)
    assert found.line in report_in(finding).splitlines()
    mail = letter(load(finding), Recipients()).decode()
    assert f'\nFixes: {culprit[:12]} ("{found.subject}")\n' in mail
    assert "\nCc: A U Thor <author@example.org>\n" in mail
    assert result.stdout.splitlines()[-1] == culprit
    if branch:
        assert "elsewhere" not in result.stdout
    else:
        assert "innocent" not in result.stdout.splitlines()[-2]
    tried = [line.split(" (")[0] for line in result.stdout.splitlines() if line.startswith(("good", "bad"))]
    parent = git(history.path, "show", "-s", "--format=%h %s", f"{culprit}^")
    assert f"good     {parent}" in tried, "its real parent was run"
    assert f"bad      {git(history.path, 'show', '-s', '--format=%h %s', culprit)}" in tried


# The walk itself, over histories without a kernel: `has` says which commits have the finding, and `reads` what the
# kernels are made of.


class Pretended(_Bisection):
    def __init__(self, path: Path, has: Mapping[str, bool | None], reads: set[str]) -> None:
        self.said: list[str] = []
        super().__init__(Finding(path, PROGRAM, "divergence", "bucket", {}), Repository(path), self.said.append)
        self._pretended, self._reads = has, reads
        self.tried: list[str] = []

    def _try(self, commit: str) -> bool | None:
        subject = git(self._finding.directory, "show", "-s", "--format=%s", commit)
        self.tried.append(subject)
        self._read |= self._reads
        return self._pretended[subject]


def subjects(path: Path, commits: tuple[str, ...]) -> list[str]:
    return [git(path, "show", "-s", "--format=%s", commit) for commit in commits]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q", "-b", "main")
    return tmp_path


def add(path: Path, subject: str, file: str) -> str:
    return commit(path, subject, path / file, subject)


def test_the_list_does_not_tell_of_every_file(path: Path) -> None:
    """What brought it touches nothing that is known to be read: then every commit counts."""
    for subject, file in (("a", "read"), ("b", "read"), ("c", "hidden"), ("d", "other"), ("e", "read"), ("f", "other")):
        add(path, subject, file)
    walk = Pretended(path, {"a": False, "b": False, "c": True, "d": True, "e": True, "f": True}, {"read"})
    found = walk.run("HEAD~5", "HEAD")
    assert (subjects(path, found.commits), found.why) == (["c"], "")
    walk = Pretended(path, {"a": False, "b": False, "c": False, "d": True, "e": True, "f": True}, {"nothing"})
    found = walk.run("HEAD~5", "HEAD")
    assert (subjects(path, found.commits), found.why) == (["d"], "")
    assert any("going on with all" in line for line in walk.said)


def test_the_named_commit_does_not_have_it_itself(path: Path) -> None:
    for subject, file in (("a", "read"), ("b", "read"), ("c", "hidden"), ("d", "hidden")):
        add(path, subject, file)
    walk = Pretended(path, {"a": False, "b": False, "c": False, "d": True}, {"read"})
    assert subjects(path, walk.run("HEAD~3", "HEAD").commits) == ["d"]


def test_a_commit_that_cannot_be_tried_is_not_passed_over(path: Path) -> None:
    for subject in "abcde":
        add(path, subject, "read")
    walk = Pretended(path, {"a": False, "b": False, "c": None, "d": True, "e": True}, {"read"})
    found = walk.run("HEAD~4", "HEAD")
    assert (sorted(subjects(path, found.commits)), found.why) == (["c", "d"], "some could not be tried")


def test_a_parent_that_cannot_be_tried(path: Path) -> None:
    """It touches nothing that is read, and so is not among those that are left; but it is the parent."""
    for subject, file in (("a", "read"), ("b", "other"), ("c", "read"), ("d", "read")):
        add(path, subject, file)
    walk = Pretended(path, {"a": False, "b": None, "c": True, "d": True}, {"read"})
    found = walk.run("HEAD~3", "HEAD")
    assert (subjects(path, found.commits), found.why) == (["c", "b"], "a parent of it could not be tried")


def merged(path: Path) -> None:
    """main: a, c, m, d; side: a, b; m merges b."""
    add(path, "a", "read")
    git(path, "checkout", "-q", "-b", "side")
    add(path, "b", "read-b")
    git(path, "checkout", "-q", "main")
    add(path, "c", "read-c")
    git(path, "merge", "-q", "--no-ff", "-m", "m", "side")
    add(path, "d", "read")


READS = {"read", "read-b", "read-c"}


def test_a_merge_that_brought_it_itself(path: Path) -> None:
    merged(path)
    walk = Pretended(path, {"a": False, "b": False, "c": False, "m": True, "d": True}, READS)
    found = walk.run("main~3", "main")
    assert (subjects(path, found.commits), found.why) == (["m"], "")
    assert {"b", "c"} <= set(walk.tried), "both of its parents"


def test_a_commit_on_a_merged_branch(path: Path) -> None:
    merged(path)
    walk = Pretended(path, {"a": False, "b": True, "c": False, "m": True, "d": True}, READS)
    assert subjects(path, walk.run("main~3", "main").commits) == ["b"]


def test_what_was_merged_had_it_from_before(path: Path) -> None:
    """GOOD, c, mended what b still has; nothing between GOOD and BAD brought it but the merge."""
    merged(path)
    walk = Pretended(path, {"a": True, "b": True, "c": False, "m": True, "d": True}, READS)
    found = walk.run("main~2", "main")
    assert (subjects(path, found.commits), found.why) == (
        ["b"],
        "a parent of it has the finding as well, from before GOOD",
    )


def test_good_is_on_another_branch(path: Path) -> None:
    """Where the two part is tried first: with the finding there, GOOD only mended it."""
    merged(path)
    git(path, "checkout", "-q", "-b", "other", "main~3")
    add(path, "e", "read")
    without = {"a": False, "b": False, "c": False, "d": True, "e": False, "m": False}
    walk = Pretended(path, without, READS)
    assert subjects(path, walk.run("other", "main").commits) == ["d"]
    assert walk.tried[:3] == ["e", "d", "a"]
    walk = Pretended(path, {**without, "a": True}, READS)
    with pytest.raises(BadInput, match=r"where GOOD and BAD part, .* a .* has the finding"):
        walk.run("other", "main")
    git(path, "checkout", "-q", "--orphan", "stranger")
    add(path, "f", "read")
    with pytest.raises(BadInput, match="no commit in common"):
        Pretended(path, {"d": True, "f": False}, READS).run("stranger", "main")


def test_good_comes_after_bad(path: Path) -> None:
    merged(path)
    with pytest.raises(BadInput, match="BAD is an ancestor of GOOD"):
        Pretended(path, {"a": True, "d": False}, READS).run("main", "main~3")


@pytest.mark.parametrize(
    ("good", "bad", "named"), [("v9", "main", "GOOD: .*@v9"), ("main", "--help", "BAD: .*@--help")]
)
def test_a_revision_that_is_not_there_is_named(path: Path, good: str, bad: str, named: str) -> None:
    add(path, "a", "read")
    with pytest.raises(BadInput, match=f"{named}: .*no revision"):
        Pretended(path, {"a": True}, READS).run(good, bad)
