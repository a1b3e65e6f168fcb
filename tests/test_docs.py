"""The pages for people name what is there: files, folders, links, commands, operations, settings."""

from __future__ import annotations

import re
from pathlib import Path

import docs_tables
import pytest

from fuzz.cli.main import cli

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "corpora").glob("*.md")])
HISTORY = ROOT / "CHANGELOG.md"
"""It tells what was, by the names of then."""

PATH = re.compile(r"`((?:pgtable|harness|reference|fuzz|tests|corpora|docs|\.ci)/[\w./-]*)`")
LINK = re.compile(r"\]\(([\w./-]+)(?:#[\w-]*)?\)")
CODE = re.compile(r"`[^`\n]+`|^    .+$", re.MULTILINE)
PLACEHOLDER = re.compile(r"\b[A-Z]{4,}\b")
"""`FAMILY.py`, where a recipe means any."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


@each_page
def test_files_that_a_page_names_are_there(page: Path) -> None:
    if page == HISTORY:
        return
    named = {path for path in PATH.findall(page.read_text()) if not PLACEHOLDER.search(path)}
    assert not sorted(path for path in named if not (ROOT / path).exists())


@each_page
def test_links_lead_somewhere(page: Path) -> None:
    assert not [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]


def test_every_page_is_linked_from_the_first() -> None:
    """From the README, or from a page that it leads to."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page not in reached:
            reached.add(page)
            targets = [(page.parent / link).resolve() for link in LINK.findall(page.read_text())]
            waiting += [target for target in targets if target.suffix == ".md"]
    assert not {page for page in PAGES if page.parent.name == "docs"} - reached


def test_the_files_to_open_first_are_in_their_folders() -> None:
    text = (ROOT / "docs" / "internals.md").read_text()
    rows = [line.split("|")[2:4] for line in text.splitlines() if re.match(r"\| \*\*", line)]
    assert len(rows) > 10
    missing = []
    for folders, names in rows:
        places = [ROOT, *(ROOT / folder for folder in PATH.findall(folders))]
        named = re.findall(r"`([\w./]+)`", names)
        missing += [name for name in named if not any((at / name).exists() for at in places)]
    assert not missing


@pytest.mark.parametrize(
    ("page", "part"), [(page, part) for page, made in docs_tables.PAGES.items() for part in made if part != "coverage"]
)
def test_what_a_page_has_from_definitions_is_theirs(page: str, part: str) -> None:
    """`make docs` writes it anew."""
    text = (docs_tables.FOLDER / page).read_text()
    assert docs_tables.parts(text)[part] == docs_tables.PAGES[page][part]()


@each_page
def test_commands_that_a_page_names_are_there(page: Path) -> None:
    if page == HISTORY:
        return
    named = set(re.findall(r"(?<![/\w])s2fuzz ([a-z]+)(?= |`|\n|$)", " ".join(CODE.findall(page.read_text()))))
    assert not sorted(named - cli.commands.keys())
