"""The rules by which a memcache is topped up, weighed: what programs with aborts come to under each, on one side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from harness.amounts import number
from harness.observation.executor import Executor
from harness.program.machine import KNOBS_BY_NAME
from harness.program.program import Program
from harness.verdict.aborts import handlings, problems
from harness.verdict.weighing import aligned

RULES: Final = KNOBS_BY_NAME["topup_rule"].names
"""As the knob names them."""


@dataclass(slots=True)
class RuleWeight:
    """What one rule came to. `handled` are aborts, `topups` those for which the memcache was topped up, `added` the
    pages that this took, `used` those that became tables, `left` what was in the memcache in the end; `retries` are
    accesses that aborted again after a result of 0; `violations` what `harness.verdict.aborts` objects to, by kind."""

    handled: int = 0
    topups: int = 0
    added: int = 0
    used: int = 0
    left: int = 0
    retries: int = 0
    violations: Counter[str] = field(default_factory=Counter)

    def __add__(self, other: RuleWeight) -> RuleWeight:
        return RuleWeight(
            self.handled + other.handled,
            self.topups + other.topups,
            self.added + other.added,
            self.used + other.used,
            self.left + other.left,
            self.retries + other.retries,
            self.violations + other.violations,
        )


def weigh_rule(executor: Executor, program: Program, rule: str) -> RuleWeight:
    """Run a program under a rule, whatever its own is. Raises TargetDied, CannotRun."""
    program = replace(program, machine=program.machine.replace("topup_rule", RULES.index(rule)))
    seen = executor.observe(program)
    done = list(handlings(program, seen))
    return RuleWeight(
        handled=len(done),
        topups=sum(one.topped_up for one in done),
        added=sum(one.added for one in done),
        used=sum(one.used for one in done),
        left=len(seen.memcache),
        retries=sum(one.again for one in done),
        violations=Counter(one.what for one in problems(program, seen)),
    )


def rule_table(rows: Iterable[tuple[str, str, RuleWeight]]) -> list[str]:
    """A line per side and rule."""
    head = ("side", "rule", "handled", "top-ups", "added", "used", "left", "retries", "violations")
    return aligned([head, *(_row(*row) for row in rows)], left=(0, 1, len(head) - 1))


def _row(side: str, rule: str, one: RuleWeight) -> Sequence[str]:
    counts = (one.handled, one.topups, one.added, one.used, one.left, one.retries)
    wrong = ", ".join(f"{count} {what}" for what, count in sorted(one.violations.items())) or "-"
    return (side, rule, *map(number, counts), wrong)
