"""Pages that walk through programs: these show what is quoted, on the model and on the kernel."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from quoted import missing, shown_by

from harness.model.executor import Model
from reference.link.executor import Reference

ROOT = Path(__file__).parents[2]
PAGES = ("vm", "vmids", "memslots", "vcpu-load")
COMMAND = re.compile(r"    \$ s2fuzz show (?:--events )?(\S+)")


def quotations(page: str) -> Iterator[tuple[Path, list[str]]]:
    """Of every command, the program and the lines that follow, without numbers of ops."""
    lines = (ROOT / "docs" / f"{page}.md").read_text().splitlines()
    for at, line in enumerate(lines):
        if found := COMMAND.fullmatch(line):
            shown = takewhile(lambda one: one.startswith("    "), lines[at + 1 :])
            yield ROOT / found[1], [re.sub(r"^ *(\d+ (?=[a-z]))?", "", one) for one in shown]


QUOTATIONS = {page: list(quotations(page)) for page in PAGES}
ALL = [one for page in PAGES for one in QUOTATIONS[page]]


def test_every_program_is_quoted() -> None:
    assert {page: len(found) for page, found in QUOTATIONS.items()} == {
        "vm": 8,
        "vmids": 4,
        "memslots": 8,
        "vcpu-load": 6,
    }
    assert all(len(quoted) > 1 for _, quoted in ALL)


@pytest.mark.parametrize(("path", "quoted"), ALL, ids=[path.stem for path, _ in ALL])
def test_programs_show_what_is_quoted(path: Path, quoted: list[str], kernel: Reference) -> None:
    for executor in (Model(), kernel):
        assert missing(quoted, shown_by(executor, path)) is None, executor.name
