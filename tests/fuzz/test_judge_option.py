"""--judge: which programs a command has the hardware judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest
from click.testing import CliRunner, Result

from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.cli import campaign_run, smoke_run
from fuzz.cli.campaign import campaign
from fuzz.cli.programs import run
from fuzz.cli.smoke import smoke
from fuzz.engine.assignment import Assignment
from harness.verdict import hardware
from harness.verdict.judging import Judging

MODELS = ["--sides", "model:6.12,model:6.12"]
PROGRAM = "s2 1\n\nmap ipa=0x201000 size=4K phys=0x80000000 prot=rw mc=4\n"


class Stopped(Exception):
    """Before anything runs."""


def invoke(command: Any, *arguments: str) -> Result:
    return CliRunner().invoke(command, [*arguments, *MODELS], standalone_mode=False)


@pytest.mark.parametrize(
    ("options", "how"), [((), "sample"), (("--judge", "all"), "all"), (("--judge", "none"), "none")]
)
def test_a_smoke_hands_it_to_its_processes(
    options: tuple[str, ...], how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assigned: list[Assignment] = []

    def told(work: list[Assignment], *_: object) -> NoReturn:
        assigned.extend(work)
        raise Stopped

    monkeypatch.setattr(smoke_run, "run_smoke", told)
    arguments = ["--no-compile", "--no-corpora", "--out", str(tmp_path / "out"), *options]
    assert isinstance(invoke(smoke, *arguments).exception, Stopped)
    assert {one.judging for one in assigned} == {Judging(how)}
    assert {Assignment.from_json(one.to_json()).judging for one in assigned} == {Judging(how)}


def test_a_campaign_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object, **_more: object) -> NoReturn:
        raise Stopped

    monkeypatch.setattr(campaign_run, "Campaign", stopped)
    arguments = [str(tmp_path / "night"), "--no-compile", "--no-corpora"]
    assert isinstance(invoke(campaign, *arguments, "--judge", "all").exception, Stopped)
    assert CampaignSetup.load(WorkDirectory(tmp_path / "night")).work[0].judging is Judging.ALL
    again = CliRunner().invoke(campaign, arguments, standalone_mode=False)
    assert isinstance(again.exception, Stopped), "it need not be said again"
    refused = invoke(campaign, *arguments, "--judge", "none")
    assert "is another campaign" in str(refused.exception)


@pytest.mark.parametrize(("options", "probed"), [((), 1), (("--judge", "none"), 0), (("--tiers", "results"), 0)])
def test_a_run_asks_for_each_program(
    options: tuple[str, ...], probed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    append_probes = hardware.with_probes
    monkeypatch.setattr(hardware, "with_probes", lambda program: asked.append(program) or append_probes(program))
    path = tmp_path / "one.s2"
    path.write_text(PROGRAM)
    result = invoke(run, str(path), "--out", str(tmp_path / "out"), *options)
    assert (result.return_value, result.exception) == (0, None)
    assert len(asked) == probed
