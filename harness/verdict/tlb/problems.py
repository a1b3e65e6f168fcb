"""What is wrong with how one side keeps TLBs and its table in step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.verdict.tlb.rules import Rule, Rules


@dataclass(frozen=True, slots=True)
class StaleProblem:
    """One thing that is wrong. `what` is short and stable, for a bucket: when it mattered (`left`: an op returned,
    `bbm`: another entry came, `freed`: the page of a table went, `witness`: an access saw it) and what
    was lacking. `level` is the entry's; `text` says it to people, in one sentence; `rule` is the one that is broken.
    `is_excused` says whether it is the caller's fault (`Duty.PART_OF_A_PAGE`), if not by what the header promises."""

    record: int
    what: str
    level: int | None
    text: str
    rule: Rule
    is_excused: bool = False

    @property
    def bucket(self) -> str:
        """What makes two of an op the same: `left-not-invalidated-level3`."""
        return self.what if self.level is None else f"{self.what}-level{self.level}"


LACKING: Final[Mapping[Rules, tuple[str, str]]] = {
    Rules.INVALIDATED: ("not-invalidated", "never invalidated"),
    Rules.HIT: ("other-level", "invalidated at another level"),
    Rules.LAST_LEVEL: ("last-level-only", "invalidated by an operation that leaves tables"),
    Rules.CONTEXT: ("other-context", "invalidated for another VMID or regime"),
    Rules.STORED: ("no-barrier-before", "invalidated with no barrier between its store and the TLBI"),
    Rules.COMPLETED: ("not-waited-for", "invalidated, but not waited for"),
    Rules.STAGES: ("combined-left", "invalidated in stage 2 alone, which leaves what was combined with stage 1"),
    Rules.SHARED: ("this-cpu-alone", "invalidated on this CPU alone"),
}
"""What an entry is without, by the rule that its invalidation did not follow: for a bucket, and for people."""
TOO_EARLY: Final = ("too-early", "invalidated before its store, but not behind it")
