"""Findings that do not happen every time: how often, and never `gone`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuzz.cli.main import status_of
from fuzz.sides import parse_side, side_to_json

UNMAPPED = "s2 1\nrelax_perms ipa=0x0 prot=r\n"
"""The two kernels differ in what it returns."""


def finding(folder: Path, other: str, seen: int) -> Path:
    """Of the model and another side, seen so many times of three."""
    (folder / "program.s2").write_text(UNMAPPED)
    record = {
        "bucket": "results-relax_perms-return",
        "configuration": {
            "left": side_to_json(parse_side("model:6.12"), {}),
            "right": side_to_json(parse_side(other), {}),
        },
        "format": 1,
        "kind": "divergence",
        "reliability": {"of": 3, "seen": seen},
    }
    (folder / "finding.json").write_text(json.dumps(record))
    return folder


def test_how_often_it_is_seen_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    directory = finding(tmp_path, "model:6.1", 2)
    assert status_of(["replay", str(directory), "--times", "4"]) == 1
    assert capsys.readouterr().out.startswith("still there, 4 of 4 times")


def test_not_seen_is_not_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert status_of(["replay", str(finding(tmp_path, "model:6.12", 1)), "--times", "2"]) == 3
    said = capsys.readouterr().out
    assert said.startswith("not seen here: the sides agree, all 2 times")
    assert "it was flaky, seen 1 of 3 times" in said
    assert status_of(["replay", str(finding(tmp_path, "model:6.12", 3))]) == 0
    assert capsys.readouterr().out.startswith("gone: ")
