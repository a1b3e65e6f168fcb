"""What tables say, as text: of one observation, and of two where it says more than their entries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from contract_cases import BLOCK, OWNED, PAGES, UNLINKED, program_of
from executors import Rewriting

from fuzz.cli.showing import show
from harness.findings.maplet_text import said, said_otherwise
from harness.findings.report import verdict_report
from harness.model.executor import Model
from harness.observation.layout import Observation
from harness.program.program import Program
from harness.verdict.judge import Judge

NAMES = ("left", "right")


def seen(text: str) -> Observation:
    return Model().observe(program_of(text))


def test_a_table_is_said_by_ranges() -> None:
    assert said(seen(OWNED)) == [
        "0x0-0x1000 annotated 0x4",
        "0x1000-0x2000 -> 0x80001000 rw normal write-back",
    ]
    assert said(seen(PAGES + "unmap ipa=0x0 size=8K\n")) == ["nothing"]
    assert said(seen("destroy\n")) == ["no table"]


def test_each_table_beside_the_one_under_test_is_said_which_it_is() -> None:
    assert said(seen(PAGES + UNLINKED)) == [
        "0x0-0x2000 -> 0x80000000 rw normal write-back",
        "unlinked table t1:",
        "  0x0-0x200000 -> 0x80000000 rw normal write-back",
    ]


def test_where_one_has_a_table_what_the_sides_say_is_told() -> None:
    assert said_otherwise(seen(BLOCK), seen(BLOCK.replace("2M", "2044K")), NAMES) == [
        "  0x1ff000-0x200000",
        "    left   -> 0x801ff000 rw normal write-back",
        "    right  nothing",
    ]


def test_many_entries_that_differ_are_one_range() -> None:
    assert said_otherwise(seen(PAGES), seen(PAGES.replace("rw", "r")), NAMES) == [
        "  0x0-0x2000",
        "    left   -> 0x80000000 rw normal write-back",
        "    right  -> 0x80000000 r normal write-back",
    ]


def test_what_differs_in_its_tables_alone_says_the_same() -> None:
    half = BLOCK.replace("2M", "1M")
    by_pages = half + half.replace("ipa=0x0", "ipa=0x100000").replace("0x80000000", "0x80100000")
    assert said_otherwise(seen(BLOCK), seen(by_pages), NAMES) == ["  the same of every address"]


@pytest.mark.parametrize("other", [BLOCK, BLOCK.replace("rw", "r")])
def test_nothing_is_told_where_the_entries_tell_it(other: str) -> None:
    assert said_otherwise(seen(BLOCK), seen(other), NAMES) == []


def test_whose_table_says_something_else_is_told() -> None:
    assert said_otherwise(seen(UNLINKED), seen(UNLINKED.replace("rw", "r")), NAMES)[0] == (
        "  0x0-0x200000 of unlinked table t1"
    )


def test_a_report_on_tables_has_it_below_their_entries() -> None:
    def shorter(program: Program) -> Program:
        ops = program_of(BLOCK.replace("2M", "2044K")).ops
        return replace(program, ops=ops[: len(program.ops)])

    program = program_of(BLOCK)
    verdict = Judge(Model(), Rewriting(shorter)).verdict(program)
    assert verdict is not None
    lines = verdict_report(program, verdict, NAMES).splitlines()
    at = lines.index("What they say, by ranges of addresses:")
    assert lines[at + 1 : at + 4] == [
        "  0x1ff000-0x200000",
        "    left   -> 0x801ff000 rw normal write-back",
        "    right  nothing",
    ]
    assert lines.index("Tables after that op (only rows that differ):") < at


def test_show_prints_it_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "program.s2"
    path.write_text(f"s2 1\n\n{PAGES}")
    options = [str(path), "--on", "left"]
    plain, asked = (CliRunner().invoke(show, [*options, *more], standalone_mode=False) for more in ([], ["--maplets"]))
    assert plain.return_value == asked.return_value == 0
    assert asked.output == plain.output + (
        "\nWhat the tables say, by ranges of addresses:\n  0x0-0x2000 -> 0x80000000 rw normal write-back\n"
    )
