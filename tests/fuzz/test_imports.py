"""A command imports what it needs, and not what the others do: its process has begun in a moment."""

from __future__ import annotations

import json
import subprocess
import sys

import click
import pytest
from seeds import SEEDS

from fuzz.cli import main as cli

_HEAVY = {
    *("atheris", "elftools", "importlib.metadata", "jinja2", "junitparser", "markupsafe", "matplotlib", "pexpect"),
    *("rich", "setuptools", "sqlite3"),
}
"""What some command takes and most do without."""
_SIDES = {"fuzz.engine", "fuzz.sides", "harness.model", "harness.verdict.judge", "pgtable", "reference.link"}
"""What it takes to run a program."""
_PROGRAM = str(SEEDS[0])

_BEGUN = """
import json, sys
from fuzz.cli.main import status_of
status = status_of(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]))
"""


def modules_of(*words: str) -> tuple[int, set[str]]:
    """What a command ends with, and what its process had imported by then."""
    output = subprocess.run([sys.executable, "-c", _BEGUN, *words], stdout=subprocess.PIPE, check=True, text=True)
    status, names = json.loads(output.stdout.splitlines()[-1])
    return status, set(names)


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (("--help",), _HEAVY | _SIDES | {"harness.program.ops"}),
        (("check", _PROGRAM), _HEAVY | _SIDES),
        (("fmt", "--check", _PROGRAM), _HEAVY | _SIDES),
        (("show", _PROGRAM), _HEAVY | {"fuzz.engine.smoke", "reference.link.executor"}),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_imports_no_library_of_another(words: tuple[str, ...], without: set[str]) -> None:
    status, names = modules_of(*words)
    assert status == 0
    assert not sorted(names & without)


def test_the_list_of_commands_is_theirs() -> None:
    context = click.Context(cli.cli, info_name="s2fuzz")
    names = cli.cli.list_commands(context)
    assert {name: cli.cli.get_command(context, name).name for name in names} == {name: name for name in names}
    listed = cli.cli.get_help(context).partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == names, "each has a line of its own"
    assert all(line.endswith((".", "?")) and len(line) <= 80 for line in listed)
