"""docs/behaviour.md says what is surprising in Linux's behaviour: every section is run, on the model and the kernel.

These tests document quirks and demand none: what they hold together is the page and the two sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from quoted import GAP, missing, shown_by

from harness.model.executor import Model
from harness.program.text import read
from harness.verdict.contracts.families import CONTRACTS, violations
from harness.verdict.contracts.listed import listed, read_listed
from reference.link.executor import Reference

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "behaviour.md"
ENTRIES = read_listed(ROOT / "corpora" / "violations")


@dataclass(frozen=True)
class Section:
    """A quirk: its heading, its text, its program, and the lines that the program is said to print."""

    title: str
    text: str
    program: Path
    quoted: tuple[str, ...]


def sections() -> Iterator[Section]:
    for part in PAGE.read_text().split("\n### ")[1:]:
        title, _, text = part.partition("\n")
        text = text.partition("\n## ")[0]
        program = re.search(r"^Program: `(?:(\w+)/)?(\w+)`$", text, re.MULTILINE)
        assert program, f"{title}: names no program"
        _, _, shown = text.partition("\nShown as:\n\n")
        quoted = tuple(line[4:] for line in shown.rstrip("\n").splitlines())
        yield Section(title, text, ROOT / "corpora" / (program[1] or "seeds") / f"{program[2]}.s2", quoted)


SECTIONS = list(sections())
each_section = pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.title.replace(" ", "-"))


@each_section
def test_section_has_its_parts(section: Section) -> None:
    for part in ("- Expected: ", "- What happens: ", "- Who should care: "):
        assert section.text.count(part) == 1
    assert len([line for line in section.quoted if line != GAP]) >= 2
    assert section.program.is_file()


@each_section
def test_a_section_names_a_contract_or_says_why_it_is_no_violation(section: Section) -> None:
    found = re.findall(r"^- (Contract|No violation): (.*(?:\n  .*)*)", section.text, re.MULTILINE)
    ((kind, text),) = found
    if kind == "Contract":
        *contracts, name = re.findall(r"`([\w-]+)`", text)
        (entry,) = (entry for entry in ENTRIES if entry.name == name)
        assert set(contracts) <= {one.contract for one in entry.breaks}
        assert contracts
        program = read(section.program)
        broken = violations(program, Model().observe(program))
        assert set(contracts) <= {one.contract.name for one in broken if listed(one, ["6.12"], [entry])}
    else:
        assert set(re.findall(r"`(\w+-[\w-]+)`", text)) <= CONTRACTS.by_name.keys()


@each_section
def test_both_sides_do_what_the_section_says(section: Section, kernel: Reference) -> None:
    for executor in (Model(), kernel):
        assert missing(section.quoted, shown_by(executor, section.program)) is None, executor.name


def test_quotes_are_looked_for_in_order() -> None:
    shown = ["a", "b", "c", "b"]
    for good in (("a", "b"), ("b", "c"), ("a", GAP, "c"), ("c", "b"), ("a", GAP, "b", "c"), (GAP, "b")):
        assert missing(good, shown) is None
    for bad in (("a", "c"), ("x",), ("c", GAP, "a"), ("b", "b"), ("c", "b", "b"), ("a", GAP, "x")):
        assert missing(bad, shown)
