"""Where something is to be written is tried first, in every command: what cannot be is bad usage, at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from fuzz.cli.main import cli, status_of
from fuzz.cli.outputs import OutFile, OutFolder


def parameters(command: click.Command, name: str = "") -> Iterator[tuple[str, click.Parameter]]:
    """Every option and argument of every command."""
    if isinstance(command, click.Group):
        for word, below in command.commands.items():
            yield from parameters(below, f"{name} {word}")
    for parameter in command.params:
        yield name, parameter


FOLDERS = [
    ["smoke", "--seconds", "1", "--out"],
    ["run", "p.s2", "--out"],
    ["campaign"],
    ["package"],
    ["corpus", "import"],
    ["corpus", "export", "."],
    ["known", "add", "p.s2", "--verdict", "kernel bug", "--reason", "x", "--folder"],
]
FILES = [["smoke", "--seconds", "1", f"--{name}"] for name in ("junit", "sarif", "inputs")]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "file").touch()
    (tmp_path / "p.s2").write_text("s2 1\n")
    (tmp_path / "closed").mkdir(mode=0o555)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("words", FOLDERS, ids=" ".join)
@pytest.mark.parametrize(("out", "said"), [("file", "is a file"), ("file/below/it", "is no folder")])
def test_a_folder_that_cannot_be(words: list[str], out: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["p.s2"] if words[-1] == "import" else []
    assert status_of([*words, out, *more]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("words", FILES, ids=" ".join)
@pytest.mark.parametrize(("out", "said"), [(".", "is a directory"), ("nowhere/it", "is no folder: make it first")])
def test_a_file_that_cannot_be(words: list[str], out: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of([*words, out]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("kind", [OutFolder(), OutFile()])
def test_where_nothing_may_be_written(kind: click.Path, here: Path) -> None:
    user = os.geteuid()
    if user == 0:
        shared = Path(tempfile.gettempdir())
        for folder in (here, *(one for one in here.parents if one.is_relative_to(shared) and one != shared)):
            folder.chmod(0o755)  # pytest's own are closed to others
        os.seteuid(65534)
    try:
        with pytest.raises(click.BadParameter, match=r"nothing can be written to .*closed"):
            kind.convert(str(here / "closed/out"), None, None)
    finally:
        os.seteuid(user)


def test_every_command_has_them() -> None:
    """A path that need not exist is one that is written to."""
    paths = [(name, one) for name, one in parameters(cli) if isinstance(one.type, click.Path)]
    assert len(paths) > 20
    assert not [
        f"{name} {one.name}"
        for name, one in paths
        if isinstance(one.type, click.Path) and not one.type.exists and not isinstance(one.type, OutFile | OutFolder)
    ]


def test_what_can_be_is_taken(here: Path) -> None:
    assert OutFolder().convert("new/one", None, None) == Path("new/one")
    assert OutFile().convert("new.xml", None, None) == Path("new.xml")
    assert OutFile(allow_dash=True).convert("-", None, None) == Path("-")
    (here / "dangling").symlink_to("nowhere")
    with pytest.raises(click.BadParameter, match="is no folder"):
        OutFolder().convert("dangling/below", None, None)
