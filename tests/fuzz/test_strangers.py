"""What came from somebody else: nothing in a finding, a corpus or a campaign leads out of it, only plain files are
read, and no name of a file forges a line."""

from __future__ import annotations

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import s2fuzz
from thinning import every

from harness.durable import sync_all
from harness.errors import BadInput
from harness.findings.finding import load
from harness.findings.writing import renew
from harness.outside import check_inside, program_files, read_plain, shown, write_plain

ROOT = Path(__file__).parents[2]
SECRET = "a line of another file"
MODELS = ("--sides", "model:6.12,model:6.12")
SHORT = ("--no-compile", "--hours", "0.0003", "--workers", "1")
EVIL = "x\nEVIL: forged"
"""A name with a line end."""


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    return path


def finding_in(folder: Path) -> Path:
    """A finding of two models that do differ, in what relaxing nothing comes to."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / "program.s2"
    program.write_text("s2 1\nmkyoung ipa=0x0\nrelax_perms ipa=0x0 prot=r\n")
    sides = "model:6.12,model:6.1"
    result = s2fuzz("run", program, "--sides", sides, "--out", folder / "out", cwd=folder)
    assert result.returncode == 1, result.stdout + result.stderr
    program.unlink()
    (directory,) = (folder / "out").iterdir()
    return directory


@pytest.fixture
def finding(tmp_path: Path) -> Path:
    return finding_in(tmp_path / "stranger")


@pytest.mark.parametrize("name", ["program.s2", "finding.json"])
def test_a_finding_s_files_are_its_own(finding: Path, secret: Path, name: str) -> None:
    (finding / name).unlink()
    (finding / name).symlink_to(secret)
    readers = [["replay"], ["tmin"]]
    if name == "program.s2":  # all that these read
        readers += [["run", *MODELS], ["check"], ["fmt"], ["corpus", "import", "corpus"]]
    for command in readers:
        result = s2fuzz(*command, finding, cwd=finding.parent)
        assert (result.returncode, "symbolic link" in result.stderr) == (2, True), (command, result.stderr)
        assert SECRET not in result.stdout + result.stderr
    assert secret.read_text() == f"{SECRET}\n"


def test_nothing_is_written_through_a_finding_s_links(finding: Path, secret: Path) -> None:
    """Minimising writes every file anew, what the others are is somebody else's choice."""
    written = ["report.txt", "left.txt", "right.txt", "README", "reproducer.c", "original.s2"]
    for name in written[:-1]:
        (finding / name).unlink(missing_ok=True)
        (finding / name).symlink_to(secret)
    (finding / "kernel").symlink_to(secret.parent)
    (finding / "mine").symlink_to("nowhere")
    result = s2fuzz("tmin", finding, cwd=finding.parent)
    assert result.returncode == 0, result.stderr
    assert secret.read_text() == f"{SECRET}\n"
    assert sorted(secret.parent.iterdir()) == sorted([secret, finding.parent.parent])
    assert not any((finding / name).is_symlink() for name in written)
    assert (finding / "mine").is_symlink(), "what is not of ours stays"


def test_a_finding_with_something_that_is_no_file(finding: Path) -> None:
    os.mkfifo(finding / "notes")
    result = s2fuzz("tmin", finding, cwd=finding.parent)
    assert (result.returncode, "notes: not a plain file" in result.stderr) == (2, True)


def test_a_kernel_s_folder_that_leads_elsewhere(finding: Path, secret: Path) -> None:
    record = json.loads((finding / "finding.json").read_text())
    record["configuration"]["right"] = {
        **record["configuration"]["right"],
        "kind": "kernel",
        "what": "6.12",
        "pgtable": "kernel/secret",
    }
    (finding / "finding.json").write_text(json.dumps(record))
    (finding / "kernel").symlink_to(secret.parent)
    result = s2fuzz("replay", finding, cwd=finding.parent)
    assert (result.returncode, "kernel: a symbolic link" in result.stderr) == (2, True), result.stderr
    assert SECRET not in result.stderr


@pytest.fixture(params=["link", "fifo", "socket", "folder"])
def no_file(request: pytest.FixtureRequest, tmp_path: Path, secret: Path) -> Iterator[Path]:
    """Something called x.s2 that is no plain file."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    path = folder / "x.s2"
    with socket.socket(socket.AF_UNIX) as listener:
        if request.param == "link":
            path.symlink_to(secret)
        elif request.param == "fifo":
            os.mkfifo(path)
        elif request.param == "socket":
            listener.bind(str(path))
        else:
            path.mkdir()
        yield path


@pytest.mark.parametrize(
    "command",
    [
        ["check"],
        ["fmt"],
        ["fmt", "--check"],
        ["run", *MODELS],
        ["show", *MODELS],
        ["weigh", "--sides", "model:6.12,model:6.12"],
        ["replay"],
        ["corpus", "import", "inputs", *MODELS],
        ["debug"],
    ],
    ids=" ".join,
)
def test_only_plain_files_are_programs(command: list[str], no_file: Path, tmp_path: Path) -> None:
    if no_file.is_dir() and "import" in command:
        pytest.skip("a folder of programs, and empty")
    result = s2fuzz(*command, no_file, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert SECRET not in result.stdout + result.stderr and "Traceback" not in result.stderr


def test_a_run_s_corpora_have_plain_files_only(no_file: Path, tmp_path: Path) -> None:
    if no_file.is_dir():
        pytest.skip("a folder, with no programs")
    (no_file.parent / "a.s2").write_text("s2 1\n")
    for command in (
        ["smoke", *MODELS, "--no-compile", "--executions", "5", "--corpora", no_file.parent],
        [
            "campaign",
            "new",
            *MODELS,
            "--no-compile",
            "--hours",
            "0.0005",
            "--workers",
            "1",
            "--corpora",
            no_file.parent,
        ],
        ["corpus", "import", "inputs", no_file.parent, *MODELS],
    ):
        result = s2fuzz(*command, cwd=tmp_path)
        assert (result.returncode, "x.s2: " in result.stderr) == (2, True), (command, result.stderr)
        assert SECRET not in result.stdout + result.stderr


def test_pytest_reads_plain_files_only(tmp_path: Path, secret: Path) -> None:
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs/x.s2").symlink_to(secret)
    os.mkfifo(tmp_path / "programs/y.s2")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "fuzz.pytest_plugin", "--s2-sides"]
    command += ["model:6.12,model:6.12", "programs", "programs/y.s2"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "x.s2: a symbolic link" in result.stdout
    assert SECRET not in result.stdout + result.stderr


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has run."""
    place = tmp_path_factory.mktemp("campaigns") / "campaign"
    fresh = s2fuzz("campaign", place, *MODELS, *SHORT, "--no-corpora", cwd=place.parent)
    assert fresh.returncode == 0, fresh.stderr
    return place


@pytest.mark.parametrize(
    "name",
    every(5, ["known", "lock", "campaign.json", "ledger.sqlite", "corpus", "findings", "spool", "tmp", "corpus/4k"]),
)
def test_nothing_in_a_campaign_leads_out_of_it(name: str, campaign: Path, tmp_path: Path) -> None:
    place, elsewhere = tmp_path / "campaign", tmp_path / "elsewhere"
    shutil.copytree(campaign, place)
    target = place / name
    if target.exists():
        shutil.move(target, elsewhere)
    else:
        elsewhere.mkdir()
    (elsewhere / "kept" if elsewhere.is_dir() else tmp_path / "kept").write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.glob("elsewhere/**/*") if path.is_file()}
    target.symlink_to(elsewhere)
    for command in (["campaign", place, *SHORT], ["status", place], ["report", place]):
        result = s2fuzz(*command, cwd=tmp_path)
        assert (result.returncode, "a symbolic link" in result.stderr) == (2, True), (command, result.stderr)
    assert {path: path.read_bytes() for path in tmp_path.glob("elsewhere/**/*") if path.is_file()} == before


def test_the_plain_file_s_own_rules(tmp_path: Path, secret: Path) -> None:
    inner = tmp_path / "finding/kernel"
    inner.mkdir(parents=True)
    (inner / "a.c").write_text("text")
    assert read_plain(inner / "a.c", 4, "it", tmp_path / "finding") == b"text"
    with pytest.raises(BadInput, match="too large for it"):
        read_plain(inner / "a.c", 3, "it")
    for path, why in (
        (tmp_path / "finding/../secret", "leads out of"),
        (tmp_path / "secret", "not in"),
        (inner / "../../../secret", "leads out of"),
    ):
        with pytest.raises(BadInput, match=why):
            check_inside(path, tmp_path / "finding")
    (tmp_path / "finding/away").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="away: a symbolic link"):
        check_inside(tmp_path / "finding/away/secret", tmp_path / "finding")
    (inner / "b").symlink_to(secret)
    write_plain(inner / "b", b"new")
    assert ((inner / "b").read_bytes(), secret.read_text()) == (b"new", f"{SECRET}\n")
    (tmp_path / "finding/away/one.s2").write_text("s2 1\n")
    assert program_files(tmp_path / "finding") == []


def test_what_is_made_durable_is_not_outside(tmp_path: Path) -> None:
    """Opening a FIFO that a link leads to would wait for ever."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/link").symlink_to(tmp_path / "fifo")
    sync_all(tmp_path / "folder")


def lines_of(result: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("EVIL")]


@pytest.mark.slow
def test_no_name_forges_a_line(tmp_path: Path) -> None:
    folder = tmp_path / EVIL
    folder.mkdir()
    good, bad, patch = folder / f"{EVIL}.s2", folder / f"bad-{EVIL}.s2", folder / f"{EVIL}.patch"
    good.write_text("s2 1\n")
    bad.write_text("s2 1\nnonsense\n")
    patch.write_text("no diff\n")
    finding = finding_in(folder / "stranger")
    named = finding.rename(finding.with_name(EVIL))
    link = folder / f"link-{EVIL}.s2"
    link.symlink_to(good)
    commands: list[list[str | Path]] = [
        ["check", good, bad, link],
        ["fmt", bad],
        ["run", good, *MODELS, "--out", folder / "out"],
        ["run", named, "--sides", "model:6.12,model:6.1", "--out", folder / "found"],
        ["weigh", good, good, "--sides", "model:6.12,model:6.12"],
        ["replay", named],
        ["tmin", named],
        ["replay", folder],
        ["replay", named, "--linux", folder],
        ["build", "--linux", folder / "nowhere"],
        ["build", "--linux", folder],
        ["build", "--linux", f"{folder}@{EVIL}"],
        ["build", "--patch", patch],
        ["build", "--pgtable", folder],
        ["build", "--sides", EVIL],
        ["smoke", *MODELS, "--base", EVIL, "--no-compile", "--executions", "1"],
        ["bisect", named, "--repo", folder, "a", "b"],
        ["corpus", "import", folder / "inputs", good, bad, *MODELS],
        ["corpus", "import", folder / "inputs", good, *MODELS],
        ["corpus", "export", folder / "inputs", folder / "text", *MODELS],
        ["corpus", "check", folder / "inputs", *MODELS],
        ["corpus", "check", folder / "empty", *MODELS],
        ["campaign", folder / "campaign", *MODELS, *SHORT, "--no-corpora"],
        ["status", folder / "campaign"],
        ["status", folder],
        ["campaign", folder, *MODELS, "--no-compile"],
    ]
    for command in commands:
        assert not lines_of(s2fuzz(*command, cwd=folder)), command


_SAYING = {"say", "_say", "show_line", "echo", "BadInput", "ToolFailure", "BadKernelChoice", "MissingSource", "fail"}
_NAMES = {"path", "file", "folder", "directory", "patch", "target", "kept", "finding", "program", "aside", "root"}


def test_messages_show_names_as_shown() -> None:
    """Whatever is printed or raised has names of files through `shown`, in all of our code."""
    loose = []
    for package in ("harness", "reference", "fuzz"):
        for source in sorted((ROOT / package).rglob("*.py")):
            for call in ast.walk(ast.parse(source.read_text())):
                if isinstance(call, ast.Call) and _name(call.func) in _SAYING:
                    loose += [
                        f"{source.relative_to(ROOT)}:{value.lineno}"
                        for argument in call.args
                        for value in ast.walk(argument)
                        if isinstance(value, ast.FormattedValue) and _name(value.value) in _NAMES
                    ]
    assert not loose


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def test_shown() -> None:
    assert shown(Path("a\nb\r\x1b[2Jc\u2028d")) == "a?b??[2Jc?d"
    assert shown(Path("größer")) == "größer"


def test_renewing_refuses_before_it_changes_anything(finding: Path) -> None:
    os.mkfifo(finding / "notes")
    before = sorted(finding.rglob("*"))
    with pytest.raises(BadInput):
        renew(finding, None)  # type: ignore[arg-type]
    assert sorted(finding.rglob("*")) == before
    assert load(finding).bucket
