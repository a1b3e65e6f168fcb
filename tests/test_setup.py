"""`make setup` says what it does, and `make install` has the command found without a surprise."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*words: str | Path, path: str = os.environ["PATH"], text: str = "") -> subprocess.CompletedProcess[str]:
    """One of the scripts in .ci."""
    command = [ROOT / ".ci" / words[0], *words[1:]]
    return subprocess.run(
        command, input=text, capture_output=True, text=True, env=os.environ | {"PATH": path}, check=False
    )


@pytest.fixture
def command(tmp_path: Path) -> Path:
    command = tmp_path / "venv/bin/s2fuzz"
    command.parent.mkdir(parents=True)
    command.write_text("#!/bin/sh\n")
    return command


def test_a_link_is_made_once(tmp_path: Path, command: Path) -> None:
    folder = tmp_path / "home/.local/bin"
    for _ in range(2):
        made = run("link", command, folder)
        assert (made.returncode, made.stderr) == (0, "")
        assert made.stdout == f's2fuzz is {folder}/s2fuzz; to have it found: export PATH="{folder}:$PATH"\n'
        assert (folder / "s2fuzz").readlink() == command
    assert run("link", command, folder, path=f"{os.environ['PATH']}:{folder}").stdout == f"s2fuzz is {folder}/s2fuzz\n"


@pytest.mark.parametrize("is_link", [False, True])
def test_what_is_another_s_stays(tmp_path: Path, command: Path, is_link: bool) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    there = folder / "s2fuzz"
    if is_link:
        there.symlink_to("elsewhere")
    else:
        there.write_text("mine")
    refused = run("link", command, folder)
    assert refused.returncode == 2
    assert f"{there} is there, and not ours" in refused.stderr
    assert os.readlink(there) == "elsewhere" if is_link else there.read_text() == "mine"


@pytest.mark.parametrize(
    ("tool", "said", "shown"),
    [
        ("apt", "dlstatus:1:20.5:Retrieving file 1 of 2\nnoise\n", "20 % downloaded: Retrieving file 1 of 2"),
        ("apt", "pmstatus:lld-19:45.1:Unpacking lld-19\n", "45 % installed: lld-19"),
        ("pip", "Looking\nCollecting rich>=13 (from s2fuzz)\n", "package 1: rich>=13"),
    ],
)
def test_a_log_says_how_far_a_tool_is(tool: str, said: str, shown: str) -> None:
    told = run("told", tool, text=said + said)
    assert (told.returncode, told.stdout, told.stderr.split("\n")) == (0, "", [f"      {shown}", ""])


def test_the_makefile_and_the_readme_say_the_same_of_the_path() -> None:
    said = 'export PATH="$PWD/.venv/bin:$PATH"'
    assert said in (ROOT / "README.md").read_text()
    recipe = subprocess.run(
        ["make", "-n", "-B", "-o", "packages", "setup"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    (echo,) = [line for line in recipe.splitlines() if "export PATH" in line]
    last = subprocess.run(["bash", "-c", echo], capture_output=True, text=True, check=True).stdout
    assert said.replace("$PWD", str(ROOT)) in last
    assert [line for line in recipe.splitlines() if "/3]" in line]
