"""A command imports what it needs, and not what the others do: its process has begun in a moment."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest
from executors import AnyOwner
from seeds import SEEDS

from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup, new_assignment
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli import main as cli
from fuzz.sides import choose_sides
from fuzz.triage.filing import Filer
from harness.model.executor import Model
from harness.program.text import parse
from harness.verdict.judge import Judge
from reference.build.image import Image

_HEAVY = {
    *("atheris", "elftools", "importlib.metadata", "jinja2", "junitparser", "markupsafe", "matplotlib", "rich"),
    *("setuptools", "sqlite3"),
}
"""What some command takes and most do without."""
_LINK = {"pexpect", "reference.link"}
"""What runs kernels."""
_BUILD = {"reference.build.cache", "reference.build.image", "reference.build.sources"}
"""What prepares and builds them."""
_MODEL = {"harness.model", "pgtable"}
_SIDES = {"fuzz.engine", "fuzz.sides", "harness.verdict.judge", *_MODEL, *_LINK, *_BUILD}
"""What it takes to run a program."""
_FINDING = {"fuzz.triage.filing", "fuzz.triage.minimise", "harness.findings.report", "harness.findings.writing"}
"""What it takes to make a finding."""
_SELDOM = {
    *("concurrent.futures", "fuzz.cli.each", "fuzz.triage.patch_by_patch", "harness.verdict.effects"),
    *("reference.build.complaints", "reference.build.series", "reference.probe.debug_info"),
}
"""What only patches, what does not compile, or what went wrong in a kernel takes."""
_PROGRAM = str(SEEDS[0])

_BEGUN = """
import json, sys
from fuzz.cli.main import status_of
status = status_of(sys.argv[1:])
print(json.dumps([status, sorted(sys.modules)]))
"""
_JUDGING = {"harness.verdict.effects"}
"""What contracts are judged with, where a program is."""


def modules_of(*words: str) -> tuple[int, set[str]]:
    """What a command ends with, and what its process had imported by then."""
    output = subprocess.run([sys.executable, "-c", _BEGUN, *words], stdout=subprocess.PIPE, check=True, text=True)
    status, names = json.loads(output.stdout.splitlines()[-1])
    return status, set(names)


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (("--help",), _HEAVY | _SIDES | _FINDING | _SELDOM | {"harness.program.ops"}),
        (("smoke", "--help"), _HEAVY | (_SIDES - {"fuzz.engine", "fuzz.sides"}) | _FINDING | _SELDOM),
        (("campaign", "--help"), _HEAVY | (_SIDES - {"fuzz.engine", "fuzz.sides"}) | _FINDING | _SELDOM),
        (("check", _PROGRAM), _HEAVY | _SIDES | _FINDING | _SELDOM),
        (("fmt", "--check", _PROGRAM), _HEAVY | _SIDES | _FINDING | _SELDOM),
        # Its report tells effects, too.
        (
            ("show", _PROGRAM),
            (_HEAVY | _LINK | _BUILD | _FINDING | _SELDOM) - {"harness.findings.report", "harness.verdict.effects"},
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_command_imports_no_library_of_another(words: tuple[str, ...], without: set[str]) -> None:
    status, names = modules_of(*words)
    assert status == 0
    assert not sorted(names & without)


def test_a_run_in_which_all_is_well(image: Image, tmp_path: Path) -> None:
    """The kernel is there, and does as the model does."""
    assert image.elf.exists()
    status, names = modules_of("run", _PROGRAM, "--out", str(tmp_path))
    assert status == 0
    assert not sorted(names & (_HEAVY | _FINDING | _SELDOM) - _JUDGING)


def test_a_replay_of_what_is_gone(tmp_path: Path) -> None:
    left, right, program = Model(), AnyOwner(), parse("s2 1\nset_owner ipa=0x0 size=64K owner=33\n")
    verdict = Judge(left, right).verdict(program)
    assert verdict is not None
    sides = choose_sides(sides="model:6.12,model:6.12")
    status, names = modules_of("replay", str(Filer(tmp_path, sides, (left, right), {}).file(program, verdict)))
    assert status == 0
    assert not sorted(names & (_HEAVY | _LINK | _BUILD | _FINDING | _SELDOM) - _JUDGING)


def test_looking_at_a_campaign_from_beside_it(tmp_path: Path) -> None:
    place = WorkDirectory(tmp_path / "campaign")
    place.root.mkdir()
    sides = choose_sides(sides="model:6.12,model:6.12")
    CampaignSetup.of([new_assignment(sides, seed=1, granule="4k")]).save(place)
    Ledger(place.ledger).close()
    status, names = modules_of("status", str(place.root))
    assert status == 0
    neither = (_HEAVY - {"sqlite3"}) | _MODEL | _LINK | _BUILD | _FINDING | _SELDOM
    assert not sorted(names & neither)
    place.corpora.mkdir(exist_ok=True)
    status, names = modules_of("corpus", "check", str(place.root))
    assert status == 0
    assert not sorted(names & (neither - _MODEL)), "it asks the model what that lacks, and no more"


def test_the_list_of_commands_is_theirs() -> None:
    context = click.Context(cli.cli, info_name="s2fuzz")
    names = cli.cli.list_commands(context)
    assert {name: cli.cli.get_command(context, name).name for name in names} == {name: name for name in names}
    listed = cli.cli.get_help(context).partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in listed] == names, "each has a line of its own"
    assert all(line.endswith((".", "?")) and len(line) <= 80 for line in listed)
