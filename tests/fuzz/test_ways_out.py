"""Every way out of the command line: none but a finding ends with 1, and none with a traceback. Interrupted, it says so
on one line, whenever that is."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import await_descendant, is_alive

from fuzz.cli import main as cli

ENTRY = [sys.executable, "-c", "from fuzz.cli.entry import enter; enter()"]
ROOT = Path(__file__).parents[2]


def test_without_a_command_there_is_help(capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.status_of([]) == 2
    said = capfd.readouterr().err
    assert "smoke" in said and "Traceback" not in said


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(
    shell: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_S2FUZZ_COMPLETE", f"{shell}_source")
    assert cli.status_of([]) == 0
    assert f"_S2FUZZ_COMPLETE={shell}_complete" in capfd.readouterr().out


@pytest.mark.parametrize(
    ("words", "at", "found"),
    [
        ("s2fuzz sm", 1, "plain,smoke"),
        ("s2fuzz smoke --guid", 2, "plain,--guidance"),
        ("s2fuzz smoke --guidance k", 3, "plain,kernel"),
        ("s2fuzz corpus exp", 2, "plain,export"),
        ("s2fuzz run '' ", 3, "file,"),
    ],
)
def test_lines_are_completed(
    words: str, at: int, found: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_S2FUZZ_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(at))
    assert cli.status_of([]) == 0
    assert capfd.readouterr() == (f"{found}\n", "")


@pytest.mark.parametrize("asked", ["csh_source", "bash", "bash_complete"])
def test_what_no_shell_asks_for(asked: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COMP_WORDS", raising=False)
    monkeypatch.setenv("_S2FUZZ_COMPLETE", asked)
    assert cli.status_of([]) == 2
    assert f"_S2FUZZ_COMPLETE={asked}" in capfd.readouterr().err


@pytest.mark.parametrize("words", [["check", "nowhere.s2"], ["frobnicate"], ["show", "bad.s2"], []])
def test_an_error_that_nobody_reads_is_no_finding(words: list[str], tmp_path: Path) -> None:
    """Both streams closed by their reader."""
    (tmp_path / "bad.s2").write_text("s2 1\nfly\n")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as nowhere:
        run = subprocess.run([*ENTRY, *words], cwd=tmp_path, stdout=nowhere, stderr=nowhere, env=here(), check=False)
    assert run.returncode in (2, 3)


@pytest.mark.parametrize(("line", "status"), [("--help >&-", 0), ("frobnicate 2>&-", 2), ("check p.s2 >/dev/full", 3)])
def test_streams_that_take_nothing(line: str, status: int, tmp_path: Path) -> None:
    (tmp_path / "p.s2").write_text("s2 1\n")
    command = f"{shlex.join(ENTRY)} {line}"
    run = subprocess.run(["bash", "-c", command], cwd=tmp_path, env=here(), capture_output=True, text=True, check=False)
    assert run.returncode == status, run.stderr
    assert "Traceback" not in run.stderr


def here() -> dict[str, str]:
    """The environment in which our packages are those of this checkout, in whatever folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


INTERRUPTED_IMPORT = """
import os, signal, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            os.kill(os.getpid(), signal.SIGINT)
module = sys.argv.pop(1)
sys.meta_path.insert(0, Finder())
from fuzz.cli.entry import enter
enter()
"""


@pytest.mark.parametrize("module", ["click", "fuzz.cli.options", "fuzz.cli.files", "harness.program.text"])
def test_an_interrupted_import_is_one_line(module: str, tmp_path: Path) -> None:
    (tmp_path / "p.s2").write_text("s2 1\n")
    command = [sys.executable, "-c", INTERRUPTED_IMPORT, module, "check", "p.s2"]
    run = subprocess.run(command, cwd=tmp_path, env=here(), capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr.strip()) == (130, "", "interrupted")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_one_line(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "p.s2").write_text("s2 1\n")
    command = [*ENTRY, "debug", "p.s2", "--op", "0", "--seconds", "60"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=here(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            qemu = await_descendant(run.pid, "qemu")
            run.send_signal(number)
            _, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130, said
    assert said.split("\n")[-2:] == ["interrupted", ""] and "Traceback" not in said
    assert not is_alive(qemu)
    assert [path.name for path in tmp_path.iterdir()] == ["p.s2"]


def test_a_smoke_that_is_interrupted_at_its_start_found_nothing_so_far(tmp_path: Path) -> None:
    command = [*ENTRY, "smoke", "--sides", "model:6.12,model:6.12", "--no-compile", "--no-corpora", "--granule", "4k"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=here(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as run:
        try:
            fuzzer = await_descendant(run.pid, "python")
            run.send_signal(signal.SIGINT)
            printed, said = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 130, said
    assert re.fullmatch(r"interrupted after \d+ s and \d+ programs?: nothing found so far", printed.splitlines()[-1])
    assert "Traceback" not in said
    assert not is_alive(fuzzer)
    assert not list(tmp_path.iterdir())
