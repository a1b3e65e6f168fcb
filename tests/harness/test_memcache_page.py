"""docs/memcache.md: its commands are run, on the model and on the kernel, and print what it quotes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from quoted import missing, shown_by

from harness.model.executor import Model
from harness.observation.executor import Executor
from harness.program.text import read
from harness.verdict.topup_rules import RULES, RuleWeight, rule_table, weigh_rule
from reference.link.executor import ByGranule

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "memcache.md"
COMMAND = "    $ s2fuzz "
TOTAL = re.compile(r"all (\d+) programs:")


def commands(name: str) -> list[tuple[list[Path], list[str]]]:
    """Of every such command that the page gives, the programs and the lines that follow."""

    def each() -> Iterator[tuple[list[Path], list[str]]]:
        lines = PAGE.read_text().splitlines()
        for at, line in enumerate(lines):
            if line.startswith(f"{COMMAND}{name} "):
                programs = [path for word in line.split()[3:] for path in sorted(ROOT.glob(word))]
                yield programs, [one[4:] for one in takewhile(lambda one: one.startswith("    "), lines[at + 1 :])]

    return list(each())


def weighed(executor: Executor, programs: list[Path]) -> list[str]:
    """The last table that `s2fuzz weigh --rules all` prints."""
    weights = {rule: RuleWeight() for rule in RULES}
    for path in programs:
        for rule in RULES:
            weights[rule] += weigh_rule(executor, read(path), rule)
    return rule_table([("kernel:6.12", rule, weight) for rule, weight in weights.items()])


@pytest.mark.parametrize(("programs", "quoted"), [pytest.param(*one, id=one[0][0].stem) for one in commands("show")])
def test_programs_show_what_is_quoted(programs: list[Path], quoted: list[str], kernels: ByGranule) -> None:
    (path,) = programs
    lines = [re.sub(r"^ *(\d+ (?=[a-z]))?", "", line) for line in quoted]
    for executor in (Model(), kernels):
        assert missing(lines, shown_by(executor, path)) is None, executor.name


@pytest.mark.parametrize(("programs", "quoted"), [pytest.param(*one, id=one[0][0].stem) for one in commands("weigh")])
def test_rules_weigh_what_is_quoted(programs: list[Path], quoted: list[str], kernels: ByGranule) -> None:
    if len(programs) > 1:
        total = TOTAL.fullmatch(quoted[1])
        assert total
        assert int(total[1]) == len(programs)
        quoted = quoted[2:]
    for executor in (Model(), kernels):
        assert weighed(executor, programs) == quoted, executor.name


def test_every_situation_and_rule_is_on_the_page() -> None:
    shown = {path.stem for programs, _ in commands("show") for path in programs}
    assert shown >= {"abort_leaf", "abort_table_missing", "abort_collapse", "abort_posted", "abort_table_gone"}
    assert all(f"| `{rule}` |" in PAGE.read_text() for rule in RULES)
    assert len(commands("weigh")) >= 5
