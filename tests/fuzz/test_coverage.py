"""Lines that programs reach, and the conditions of those that they do not."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path
from typing import Final

import pytest
from processes import s2fuzz
from thinning import first

from fuzz.coverage.kernel_lines import report
from fuzz.coverage.unreached import UNREACHED, Unreached, conditions
from reference.build.flags import OBJECTS
from reference.build.naming import SUPPORTED
from reference.build.sources import KernelChoice, prepare
from reference.probe.lines import FileLines

SEEDS: Final = Path(__file__).parents[2] / "corpora" / "seeds"

SOURCE: Final = """\
static int
first(int a)
{
	if (a)
		return 1;
	return first(0);
}

struct other {
	int (*call)(int);
};

int second(int a,
	int b)
{
	switch (a) {
	default:
		return first(b);
	};
	return 1;
}
"""


@pytest.mark.parametrize(
    ("entry", "lines"),
    [
        (Unreached("first", "if (", ""), [4]),
        (Unreached("first", "if (", "", offset=1, lines=2), [5, 6]),
        (Unreached("first", "return", ""), []),
        (Unreached("second", "return 1;", ""), [20]),
        (Unreached("second", "}", ""), [21]),
        (Unreached("second", "if (", ""), []),
        (Unreached("other", "int", ""), []),
        (Unreached("second", "return 1;", "", needs="swit"), [20]),
        (Unreached("second", "return 1;", "", needs="witch"), []),
    ],
)
def test_a_line_is_found_by_its_function_and_words(entry: Unreached, lines: list[int]) -> None:
    assert list(entry.numbers(SOURCE)) == lines


def test_every_condition_is_about_a_packaged_kernel() -> None:
    texts = [prepare(KernelChoice(linux)).pgtable.read_text() for linux in SUPPORTED]
    assert [entry for entry in UNREACHED if not any(entry.numbers(text) for text in texts)] == []
    assert all(set(entry.objects) <= set(OBJECTS) for entry in UNREACHED)


@pytest.mark.parametrize(("linux", "kernel_object"), first(1, product(SUPPORTED, OBJECTS)))
def test_the_seeds_reach_every_line_that_can_be(linux: str, kernel_object: str, tmp_path: Path) -> None:
    arguments = ("--linux", linux, "--object", kernel_object, "--seconds", "0.1")
    result = s2fuzz("coverage", SEEDS, *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    expected = conditions(prepare(KernelChoice(linux)).pgtable.read_text(), kernel_object)
    missed = [line for line in result.stdout.splitlines() if line[:5].strip().isdecimal()]
    assert {int(line[:5]) for line in missed} <= expected.keys()
    assert "against expectation" not in result.stdout
    assert result.stdout.count(", 0 of them without a known condition") == 2
    assert re.search(r"^(\d+) of \1 lines of vmid\.c reached", result.stdout, re.MULTILINE)


def test_the_report_checks_the_conditions(tmp_path: Path) -> None:
    """That a line has one, and that a line with one was not reached."""
    path = tmp_path / "pgtable.c"
    path.write_text("int kvm_pgtable_walk(void)\n{\n\tif (r)\n\t\treturn r;\n\treturn 0;\n}\n")
    reached = list(report(FileLines(path, {3: 1, 4: 1, 5: 0}), "host"))
    assert reached[0] == "2 of 3 lines of pgtable.c reached (66.7%)"
    assert any(line.startswith("       (no condition is known") for line in reached)
    assert any(line.startswith("4: reached, against expectation: only hyp's object") for line in reached)
    assert reached[-1] == "1 line not reached, 1 of them without a known condition"
    fine = list(report(FileLines(path, {3: 1, 4: 0, 5: 1}), "host"))
    assert fine[-1] == "1 line not reached, 0 of them without a known condition"
    assert not any("against" in line or "no condition" in line for line in fine)
    assert any("no condition" in line for line in report(FileLines(path, {3: 1, 4: 0, 5: 1}), "hyp"))
