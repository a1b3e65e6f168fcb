"""What the hardware was asked in a run, and what the guests' accesses came to, for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.amounts import counted, number


def hardware_lines(summary: Mapping[str, Any]) -> Iterator[str]:
    """Lines on a `Stats.summary`; none where the hardware was not asked and no guest made an access."""
    hardware = summary["hardware"]
    unprobed, accesses = hardware["not_probed"], hardware["accesses"]
    if hardware["probed"] or unprobed:
        yield f"the hardware judged {counted(hardware['probed'], 'program')}" + (
            f"; {number(sum(unprobed.values()))} it could not:" if unprobed else ""
        )
        yield from (f"  {number(count)}: {why}" for why, count in unprobed.items())
    made = {name: accesses.get(name, 0) for name in ("succeeded", "aborted", "no_memory")}
    total = sum(made.values())
    if total:
        shares = ", ".join(f"{count / total:.0%} {name.replace('_', ' ')}" for name, count in made.items())
        stale = hardware["maybe_stale"]
        of = f"; {number(stale)} of {number(hardware['judged_accesses'])} judged may be stale" if stale else ""
        yield f"guests made {counted(total, 'access', 'accesses')}: {shares}{of}"
