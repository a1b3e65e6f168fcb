"""An empty value, as of a shell's variable that is not set, is refused wherever one can be given."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from processes import s2fuzz
from thinning import first

from fuzz.cli.main import cli, status_of
from fuzz.sides import side_from_json
from harness.errors import BadInput
from harness.settings import setting


def commands(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = list(commands(cli))
OPTIONS = [
    (words, flag)
    for words, command in COMMANDS
    for option in command.params
    if isinstance(option, click.Option) and not option.is_flag
    for flag in option.opts
]


def test_there_are_options_to_look_at() -> None:
    found = {flag for _, flag in OPTIONS}
    assert found >= {"--linux", "--sides", "--pgtable", "--patch", "--out", "--tiers", "--also", "--corpora", "--base"}


@pytest.mark.parametrize(("words", "flag"), OPTIONS, ids=[" ".join([*words, flag]) for words, flag in OPTIONS])
@pytest.mark.parametrize("empty", [["", None], [" ", None], [None, "="]], ids=["empty", "blank", "equals"])
def test_no_option_takes_an_empty_value(
    words: tuple[str, ...], flag: str, empty: list[str | None], capsys: pytest.CaptureFixture[str]
) -> None:
    value, joined = empty
    given = [f"{flag}{joined}"] if joined else [flag, str(value)]
    assert status_of([*words, *given, "something"]) == 2
    assert f"{flag}: the value is empty" in capsys.readouterr().err


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS], ids=[" ".join(words) for words, _ in COMMANDS])
def test_no_argument_is_empty(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of([*words, ""]) == 2
    assert f"{words[-1]}: the value is empty" in capsys.readouterr().err


def test_a_bisection_skips_what_cannot_be_told(tmp_path: Path) -> None:
    assert s2fuzz("replay", tmp_path, "--bisect", "--linux", "", cwd=tmp_path).returncode == 125


@pytest.mark.parametrize("name", ["S2FUZZ_CACHE", "S2FUZZ_QEMU", "S2FUZZ_LINUX", "S2FUZZ_SOMETHING_NEW"])
def test_no_variable_of_ours_is_empty(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = s2fuzz("doctor", cwd=tmp_path, env={name: ""})
    assert (result.returncode, f"{name}: the value is empty" in result.stderr) == (2, True)
    monkeypatch.setenv(name, "")
    with pytest.raises(BadInput, match=f"{name}: the value is empty"):
        setting(name)


def test_the_fuzzing_process_refuses_them_too(tmp_path: Path) -> None:
    launcher = Path(__file__).parents[2] / "fuzz/stage2_fuzzer.py"
    command = ["env", "S2FUZZ_ASSIGNMENT=", sys.executable, str(launcher), "-runs=1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert (result.returncode, "S2FUZZ_ASSIGNMENT: the value is empty" in result.stderr) == (2, True), result.stderr


@pytest.mark.parametrize("option", first(2, ["--s2-linux", "--s2-sides", "--s2-pgtable", "--s2-patch", "--s2-tiers"]))
def test_the_pytest_plugin_takes_none(option: str, tmp_path: Path) -> None:
    (tmp_path / "one.s2").write_text("s2 1\n")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "fuzz.pytest_plugin", f"{option}="]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=100)
    assert (result.returncode, f"{option}: the value is empty" in result.stderr) == (4, True), result.stdout


@pytest.mark.parametrize(
    "changed",
    [{"what": ""}, {"kind": ""}, {"flavour": ""}, {"object": ""}, {"patches": [""]}, {"patches": ""}, {"pgtable": ""}],
    ids=str,
)
def test_a_configuration_has_no_empty_values(changed: dict[str, object], tmp_path: Path) -> None:
    whole = {"flavour": "plain", "kind": "kernel", "object": "host", "patches": [], "pgtable": None, "what": "6.12"}
    assert side_from_json(json.loads(json.dumps(whole)), tmp_path).what == "6.12"
    with pytest.raises(BadInput):
        side_from_json({**whole, **changed}, tmp_path)
