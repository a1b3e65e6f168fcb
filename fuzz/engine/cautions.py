"""What lessens what a run can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_INCONCLUSIVE_SHARE: Final = 0.03
"""Above it, a run says so."""


def caution_lines(summary: Mapping[str, Any]) -> list[str]:
    """A line for each bucket so common that it hides others, and one for executions that cannot be judged to their end.
    `summary` is a `Stats.summary`."""
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
    return lines
