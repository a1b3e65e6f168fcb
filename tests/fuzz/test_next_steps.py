"""What to do with a finding: the lines are for pasting, and name only what applies."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import click
import pytest

from fuzz.cli.main import cli
from fuzz.sides import Side, side_to_json
from fuzz.triage.next_steps import next_steps, pasted
from harness.findings.finding import Finding
from harness.program.text import parse

PROGRAM = parse("s2 1\ndestroy\n")


def finding_on(directory: Path, kernel: Side, commit: str = "") -> Finding:
    directory.mkdir()
    configuration = {
        "left": side_to_json(Side("model", "6.12"), {}),
        "right": side_to_json(kernel, {path: f"kernel/{path.name}" for path in kernel.patches}),
    }
    identities = {"right": {"commit": commit}}
    return Finding(directory, PROGRAM, "divergence", "b", configuration, (3, 3), identities=identities)


def commands(lines: list[str]) -> list[list[str]]:
    """What is to be typed, word by word."""
    return [shlex.split(line[line.index("s2fuzz ") :])[1:] for line in lines if "s2fuzz " in line]


def test_every_command_is_one_that_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever the user is, and whatever the folder is called."""
    folder = tmp_path / "o'ut $HOME"
    folder.mkdir()
    tree = tmp_path / "a tree"
    tree.mkdir()
    monkeypatch.chdir(tmp_path)
    found = finding_on(folder / "b-1", Side("kernel", str(tree)), "0123456789abcdef0123456789abcdef01234567")
    typed = commands(next_steps(found))
    assert [words[0] for words in typed] == ["replay", "tmin", "debug", "bisect", "mail"]
    assert typed[3][2:] == ["--repo", "a tree", "GOOD", "0123456789ab"]
    for name, *words in typed:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        assert command.make_context(name, list(words)).params
        assert words[0] == "o'ut $HOME/b-1"


def test_only_what_applies_is_named(tmp_path: Path) -> None:
    packaged = finding_on(tmp_path / "a", Side("kernel", "6.12"))
    assert [words[0] for words in commands(next_steps(packaged))] == ["replay", "tmin", "debug", "mail"]
    assert [words[0] for words in commands(next_steps(packaged, "tmin"))] == ["replay", "debug", "mail"]
    minimal = replace(packaged, minimised=True)
    assert [words[0] for words in commands(next_steps(minimal))] == ["replay", "debug", "mail"]
    patched = finding_on(tmp_path / "b", Side("kernel", str(tmp_path), (tmp_path / "b/kernel/0-fix.mbox",)), "f" * 40)
    assert "bisect" not in str(next_steps(patched)), "the commits do not have the patch"
    assert ["replay", str(tmp_path / "b"), "--each"] in commands(next_steps(patched))
    emulators = replace(packaged, kind="emulator")
    assert [words[0] for words in commands(next_steps(emulators))] == ["replay", "tmin", "debug"]
    models = finding_on(tmp_path / "c", Side("model", "6.1"))
    assert [words[0] for words in commands(next_steps(models))] == ["replay", "tmin"]


def test_a_flaky_one_is_run_more_often(tmp_path: Path) -> None:
    flaky = replace(finding_on(tmp_path / "a", Side("kernel", "6.12")), reliability=(1, 3))
    assert commands(next_steps(flaky)) == [
        ["replay", str(tmp_path / "a"), "--times", "20"],
        ["debug", str(tmp_path / "a")],
        ["mail", str(tmp_path / "a")],
    ]


def test_a_path_is_as_short_as_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pasted(tmp_path / "x") == "x"
    assert pasted(tmp_path / "-x") == "./-x"
    assert pasted(tmp_path.parent) == shlex.quote(str(tmp_path.parent))
