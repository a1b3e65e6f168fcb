"""What lessens what a run can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from harness.amounts import counted, number

_INCONCLUSIVE_SHARE: Final = 0.03
"""Above it, a run says so."""


def caution_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line for each bucket so common that it hides others, one for executions that cannot be judged to their end, and
    one for the time that hangs took. `summary` is a `Stats.summary`."""
    executions = max(1, summary["executions"] + summary["replayed"])
    lines = [
        f"{bucket}: {summary['buckets'][bucket] / executions:.0%} of executions, so it masks what lies behind "
        "it; mend it before you go on"
        for bucket in summary["masking"]
    ]
    share = summary["inconclusive"] / executions
    if share > _INCONCLUSIVE_SHARE:
        lines.append(
            f"{share:.0%} of executions are inconclusive, as the budget cut the sides at different events; raise it "
            "with --budget"
        )
    if summary["hangs"]["count"]:
        lines.append(_hangs(summary))
    return lines


def _hangs(summary: Mapping[str, Any]) -> str:
    """How many programs hung a kernel, how long that took, and what was left undone for it."""
    programs = counted(summary["executions"] + summary["replayed"], "program")
    line = f"{number(summary['hangs']['count'])} of {programs} hung, which took {summary['hangs']['seconds']:.0f} s"
    if summary["unreplayed"]:
        left = counted(summary["unreplayed"], "program")
        line += f"; that was all of the run's time, and {left} of the corpora were not looked at"
    return line
