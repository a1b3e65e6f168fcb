"""`s2fuzz weigh --rules`: rules for topping up the memcache, weighed by programs."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fuzz.cli.weigh import weigh
from harness.errors import BadInput
from harness.verdict.topup_rules import RULES

SEEDS = Path(__file__).parents[2] / "corpora" / "seeds"
LEAF, COLLAPSE, NONE = (str(SEEDS / f"{name}.s2") for name in ("abort_leaf", "abort_collapse", "block_split"))


def weighed(*arguments: str) -> Result:
    return CliRunner().invoke(weigh, ["--sides", "model:6.12", *arguments], standalone_mode=False)


def test_each_program_and_all_of_them() -> None:
    result = weighed("--rules", "all", LEAF, NONE, COLLAPSE)
    assert result.return_value == 0, result.output
    titles = [line for line in result.stdout.splitlines() if line.endswith(":")]
    assert [title.rpartition("/")[2] for title in titles] == ["abort_leaf.s2:", "abort_collapse.s2:", "all 2 programs:"]
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("model:6.12")]
    assert [row[1] for row in rows] == [*RULES] * 3
    for leaf, collapse, both in zip(rows[:3], rows[3:6], rows[6:], strict=True):
        assert [int(a) + int(b) for a, b in zip(leaf[2:8], collapse[2:8], strict=True)] == list(map(int, both[2:8]))


def test_one_rule_on_several_sides() -> None:
    result = weighed("--sides", "model:6.12,model:6.1", "--rules", "fault_granule", LEAF)
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["model:6.12", "fault_granule"], ["model:6.1", "fault_granule"]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rules", "any", LEAF), "`any` is no rule: expected fault_status, fault_granule, posted, or all"),
        (("--rules", "all", NONE), "no program has a `handle`"),
        (("--rules", "all", "--ways", "flag", LEAF), "exclude each other"),
    ],
)
def test_what_cannot_be_weighed(arguments: tuple[str, ...], said: str) -> None:
    result = weighed(*arguments)
    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)
