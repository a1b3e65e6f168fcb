"""Findings on disk: written whole, read back, never overwritten; and what is not one."""

from __future__ import annotations

import ctypes
import errno
import json
from pathlib import Path
from typing import Any

import pytest
from executors import AnyOwner, Dying

from harness.durable import exchange
from harness.errors import BadInput
from harness.findings import finding, writing
from harness.findings.finding import ORIGINAL, adopt, load
from harness.findings.place import PROGRAM, is_finding, program_in
from harness.findings.writing import Contents, renew, save
from harness.model.executor import Model
from harness.observation.executor import Executor
from harness.program.text import format_program, parse
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Verdict

OWNER = parse("# Why.\ns2 1\nbudget = 100\nset_owner ipa=0x1000 size=4K mc=2 owner=3\ndestroy\n")
CONFIGURATION = {"right": {"patches": ["kernel/0-fix.patch"]}, "left": {"kind": "model"}}
IDENTITIES = {"left": {"version": "6.12"}, "right": {"linux": "6.12.1"}}


def verdict_of(right: Executor) -> Verdict:
    verdict = Judge(Model(), right).verdict(OWNER)
    assert verdict is not None
    return verdict


def save_in(out: Path, right: Executor | None = None, report: str = "what is wrong\n") -> Path:
    verdict = verdict_of(right or AnyOwner())
    files = {"0-fix.patch": b"--- a\n\xff"}
    return save(out, Contents(OWNER, verdict, report, CONFIGURATION, IDENTITIES, files))


def test_a_finding_is_written_completely(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    directory = save_in(out)
    assert directory.parent == out
    assert directory.name.startswith("results-set_owner-return-")
    assert list(out.iterdir()) == [directory], "something else was left behind"
    files = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert files == {
        "program.s2",
        "report.txt",
        "left.txt",
        "right.txt",
        "finding.json",
        "kernel/0-fix.patch",
    }
    assert (directory / PROGRAM).read_text() == format_program(OWNER)
    assert (directory / "report.txt").read_text() == "what is wrong\n"
    assert (directory / "kernel/0-fix.patch").read_bytes() == b"--- a\n\xff"
    assert "set_owner ipa=0x1000 size=4K mc=2 owner=3  => -EINVAL" in (directory / "left.txt").read_text()
    assert "owner=3  => 0\n" in (directory / "right.txt").read_text()
    for name in ("left.txt", "right.txt"):
        text = (directory / name).read_text()
        assert "0 init (implicit): 2 events\n      zalloc_pages_exact" in text
        assert "destroy" not in text and "not run" not in text, "it goes on after the sides parted"
    record = json.loads((directory / "finding.json").read_text())
    assert record == {
        "bucket": "results-set_owner-return",
        "configuration": CONFIGURATION,
        "first_differing_record": 1,
        "format": 1,
        "identities": IDENTITIES,
        "kind": "divergence",
        "reliability": {"of": 0, "seen": 0},
        "replay": "s2fuzz replay .",
    }
    assert directory.stat().st_mode & 0o777 == 0o755


def test_a_side_that_died_has_no_observation(tmp_path: Path) -> None:
    directory = save_in(tmp_path, Dying("set_owner"))
    assert directory.name.startswith("crash-set_owner-stage2_unmap_walker-")
    assert (directory / "left.txt").exists()
    assert not (directory / "right.txt").exists()


def test_a_finding_is_read_back(tmp_path: Path) -> None:
    directory = save_in(tmp_path)
    found = load(directory)
    assert (found.directory, found.program) == (directory, OWNER)
    assert (found.kind, found.bucket) == ("divergence", "results-set_owner-return")
    assert found.configuration == CONFIGURATION
    assert is_finding(directory)


def test_a_finding_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    first = save_in(tmp_path, report="first\n")
    (first / "notes.txt").write_text("mine")
    assert save_in(tmp_path, report="second\n") == first
    assert (first / "report.txt").read_text() == "first\n"
    assert (first / "notes.txt").read_text() == "mine"
    assert list(tmp_path.iterdir()) == [first]


def test_another_program_is_another_finding(tmp_path: Path) -> None:
    verdict = verdict_of(AnyOwner())
    places = {
        save(tmp_path, Contents(parse(text), verdict, "", {}, {}, {}))
        for text in ("s2 1\ndestroy\n", "s2 1\ndestroy\ndestroy\n", "s2 1\nfwb = off\ndestroy\n")
    }
    assert len(places) == 3


def test_a_failure_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        save(tmp_path, Contents(OWNER, verdict_of(AnyOwner()), "", {}, {}, {"no/such/folder": b""}))
    assert list(tmp_path.iterdir()) == []


def test_an_odd_bucket_makes_a_good_name(tmp_path: Path) -> None:
    verdict = Verdict("crash", "crash-map-a/b c\n" + "x" * 300, 0, None, None, None)
    directory = save(tmp_path, Contents(OWNER, verdict, "", {}, {}, {}))
    assert directory.parent == tmp_path
    assert directory.name.startswith("crash-map-a_b_c_xxx")
    assert len(directory.name) < 100
    assert load(directory).bucket == verdict.bucket.replace("\n", "?"), "safe for a terminal"


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", r"not text \(byte 0 is not UTF-8\)"),
        (b"[]", "not a finding of format 1"),
        (b"null", "not a finding of format 1"),
        (b'{"format": 2}', "not a finding of format 1"),
        (b'{"format": 1}', "kind, bucket or configuration is missing"),
        (b'{"format": 1, "kind": 3, "bucket": "b", "configuration": {}}', "kind, bucket or configuration is missing"),
        (b'{"format": 1, "kind": "k", "bucket": "b", "configuration": []}', "kind, bucket or configuration is missing"),
    ],
)
def test_a_malformed_record(tmp_path: Path, content: bytes, problem: str) -> None:
    directory = save_in(tmp_path)
    (directory / "finding.json").write_bytes(content)
    with pytest.raises(BadInput, match=rf"finding\.json: {problem}"):
        load(directory)


def test_a_finding_without_a_good_program(tmp_path: Path) -> None:
    directory = save_in(tmp_path)
    (directory / PROGRAM).write_text("s2 1\nnonsense\n")
    with pytest.raises(BadInput, match=r"program\.s2:2:1: expected an op"):
        load(directory)
    (directory / PROGRAM).unlink()
    with pytest.raises(BadInput, match=r"program\.s2: No such file"):
        load(directory)


def test_what_is_no_finding(tmp_path: Path) -> None:
    file = tmp_path / "file.s2"
    file.write_text("s2 1\n")
    for path in (tmp_path, tmp_path / "nosuch", file):
        assert not is_finding(path)
        with pytest.raises(BadInput, match=r"not a finding: finding\.json: "):
            load(path)


def test_a_finding_stands_wherever_a_program_may(tmp_path: Path) -> None:
    directory = save_in(tmp_path)
    assert program_in(directory) == program_in(directory / PROGRAM) == OWNER
    with pytest.raises(BadInput, match="a directory, but not a finding"):
        program_in(tmp_path)
    with pytest.raises(BadInput, match="No such file"):
        program_in(tmp_path / "nosuch.s2")


SMALLER = parse("s2 1\nset_owner ipa=0x0 size=4K owner=2\n")


def smaller(**more: Any) -> Contents:
    verdict = Judge(Model(), AnyOwner()).check(SMALLER)
    assert verdict is not None
    return Contents(SMALLER, verdict, "smaller\n", CONFIGURATION, IDENTITIES, {"0-fix.patch": b"new"}, **more)


def test_a_renewed_finding_keeps_its_first_program_and_what_is_not_ours(tmp_path: Path) -> None:
    directory = save_in(tmp_path)
    (directory / "notes.txt").write_text("mine")
    renew(directory, smaller(documents={"test_x.py": "1"}, more={"minimised": {"tries": 7}}))
    renew(directory, smaller(documents={"test_y.py": "2"}))
    assert list(tmp_path.iterdir()) == [directory], "something else was left behind"
    assert load(directory).program == SMALLER
    assert load(directory).reliability == (3, 3)
    assert (directory / ORIGINAL).read_text() == format_program(OWNER)
    assert (directory / "notes.txt").read_text() == "mine"
    assert (directory / "report.txt").read_text() == "smaller\n"
    assert (directory / "kernel/0-fix.patch").read_bytes() == b"new"
    assert [path.name for path in directory.glob("test_*")] == ["test_y.py"]


def test_a_finding_that_cannot_be_renewed_stays_as_it_was(tmp_path: Path) -> None:
    directory = save_in(tmp_path)
    before = {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    with pytest.raises(OSError):
        renew(directory, smaller(documents={"no/such/folder": ""}))
    assert {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()} == before
    assert list(tmp_path.iterdir()) == [directory]


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS])
def test_folders_change_names_also_where_that_takes_three_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    exchange(one, other)
    assert ((one / "name").read_text(), (other / "name").read_text()) == ("other", "one")

    class Unable:
        def renameat2(self, *_arguments: object) -> int:
            ctypes.set_errno(number)
            return -1

    monkeypatch.setattr("harness.durable.ctypes.CDLL", lambda *_, **__: Unable())
    exchange(one, other)
    assert ((one / "name").read_text(), (other / "name").read_text()) == ("one", "other")
    assert sorted(tmp_path.iterdir()) == [one, other]


def test_what_is_flaky_says_how_often_it_was_seen(tmp_path: Path) -> None:
    contents = smaller(outcomes=("results-set_owner-return", None, "other"))
    directory = save(tmp_path, contents)
    assert load(directory).reliability == (1, 3)
    record = json.loads((directory / "finding.json").read_text())
    assert record["reliability"]["outcomes"] == ["results-set_owner-return", None, "other"]


def test_text_from_somebody_else_cannot_reach_the_terminal(tmp_path: Path) -> None:
    directory = save_in(tmp_path)
    record = json.loads((directory / "finding.json").read_text())
    record["configuration"] = {"left": {"what": ["\x1b]0;title\x07", {"\x1b[2J": 1}]}}
    (directory / "finding.json").write_text(json.dumps(record))
    assert load(directory).configuration == {"left": {"what": ["?]0;title?", {"?[2J": 1}]}}


@pytest.mark.parametrize("reliability", ["3/3", {"seen": "3"}, [], None])
def test_a_malformed_reliability(tmp_path: Path, reliability: object) -> None:
    directory = save_in(tmp_path)
    record = json.loads((directory / "finding.json").read_text())
    (directory / "finding.json").write_text(json.dumps({**record, "reliability": reliability}))
    with pytest.raises(BadInput, match="the reliability is malformed"):
        load(directory)


def test_a_record_has_a_bounded_size(tmp_path: Path) -> None:
    directory = save_in(tmp_path)
    (directory / "finding.json").write_text(" " * (1 << 20) + (directory / "finding.json").read_text())
    with pytest.raises(BadInput, match="too large"):
        load(directory)


def test_two_processes_may_save_the_same_finding_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is ready while this one writes."""
    write = writing._write

    def overtaken(scratch: Path, contents: Contents) -> None:
        write(scratch, contents)
        monkeypatch.setattr(writing, "_write", write)
        (tmp_path / "first").write_text(str(save_in(tmp_path / "out")))

    monkeypatch.setattr(writing, "_write", overtaken)
    directory = save_in(tmp_path / "out")
    assert (tmp_path / "first").read_text() == str(directory)
    assert list((tmp_path / "out").iterdir()) == [directory]
    assert load(directory).program == OWNER


def test_two_processes_may_adopt_the_same_finding_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = save_in(tmp_path / "mine"), save_in(tmp_path / "theirs")
    monkeypatch.setattr(finding, "sync_all", lambda _: theirs.rename(tmp_path / "kept" / theirs.name))
    (tmp_path / "kept").mkdir()
    assert adopt(mine, tmp_path / "kept") == tmp_path / "kept" / mine.name
    assert not mine.exists()
    assert load(tmp_path / "kept" / mine.name).program == OWNER
