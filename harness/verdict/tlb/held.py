"""What a TLB may hold of a table that the table no longer says, and how far each of it has been invalidated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from harness.observation.descriptors import is_table_entry
from harness.observation.tlbi import Invalidation
from harness.program.granule import FIRST_LEVEL, LAST_LEVEL, Granule
from harness.verdict.tlb.rules import (
    VA_MASK,
    Duty,
    Part,
    Rules,
    overlaps,
    parts_of,
    passed_over,
)
from harness.verdict.trees import Table

LOCAL: Final = 0
EVERYWHERE: Final = 1
_SCOPES: Final = (LOCAL, EVERYWHERE)
"""Places of what is kept for this CPU, and for all."""


class Stale:
    """An entry that the tree had, and that a TLB may still hold."""

    __slots__ = ("child", "combined", "duty", "entry", "ipa", "level", "missed", "record", "since", "stage")

    def __init__(
        self, ipa: int, level: int, entry: int, child: Table | None, since: int, record: int, duty: Duty | None
    ) -> None:
        self.ipa = ipa
        self.level = level
        self.entry = entry
        self.child = child
        """The table that it led to, if it is one of ours."""
        self.since = since
        """When it was stored over."""
        self.record = record
        self.duty = duty
        """Why the code under test need not have invalidated it; None where it must."""
        self.stage: list[int | None] = [None, None]
        """When what this stage alone says of it was gone, by scope."""
        self.combined: list[bool] = [False, False]
        """Whether what both stages together say of it is gone, too, by scope. So is the former then."""
        self.missed: Rules | None = None
        """By which rule the TLBI that came nearest left it."""

    def __str__(self) -> str:
        """`the entry of level 3 for 0x1000 (0x800007fd)`."""
        what = "table" if is_table_entry(self.entry, self.level) else "entry"
        return f"the {what} of level {self.level} for {self.ipa:#x} ({self.entry:#x})"

    @property
    def reason(self) -> str:
        """Why it may still be cached, for people."""
        return "the op that took it from the table leaves it" if self.duty is None else self.duty.value

    def is_gone(self, scope: int) -> bool:
        """Whether no TLB in that scope holds it."""
        return self.combined[scope]


class Tlbi(NamedTuple):
    """One invalidation of the regime under test: when, and when the last barrier for stores was, in its domain."""

    at: int
    before: int
    everywhere: bool
    what: Invalidation
    in_context: bool
    """Whether it was for the VMID under test, and the guest's regime."""
    may_be_called: bool
    """Whether the function that issued it had a right to be called."""


class Held:
    """All stale entries of one VMID."""

    def __init__(self, granule: Granule, is_stage_1: bool) -> None:
        self._granule = granule
        self._is_stage_1 = is_stage_1
        self._mask = VA_MASK if is_stage_1 else -1
        self._by_place: dict[tuple[int, int], list[Stale]] = {}
        self._half: dict[Stale, None] = {}
        """Those of which only what was combined is left, in some scope; in order."""

    def __iter__(self) -> Iterator[Stale]:
        for several in self._by_place.values():
            yield from several

    def size(self, level: int) -> int:
        """Bytes that an entry of that level translates."""
        return 1 << self._granule.level_shift(level)

    def add(self, one: Stale) -> None:
        self._by_place.setdefault((one.ipa & self._mask, one.level), []).append(one)

    def discard(self, one: Stale) -> None:
        """It is gone, or the table says it again."""
        place = one.ipa & self._mask, one.level
        several = self._by_place.get(place, [])
        if one in several:
            several.remove(one)
            if not several:
                del self._by_place[place]
        self._half.pop(one, None)

    def at(self, ipa: int, level: int) -> list[Stale]:
        """Those of one place."""
        return self._by_place.get((ipa & self._mask, level), [])

    def over(self, address: int) -> Iterator[Stale]:
        """Those that translate an address, or lead the way to it."""
        for level in range(FIRST_LEVEL, LAST_LEVEL + 1):
            yield from self.at(address & -self.size(level), level)

    def within(self, ipa: int, level: int) -> Iterator[Stale]:
        """Those below an entry of that place, at other levels."""
        end = ipa + self.size(level)
        for (start, below), several in self._by_place.items():
            if below > level and ipa <= start < end:
                yield from several

    def complete(self, tlbi: Tlbi, now: int) -> None:
        """A DSB has waited for a TLBI."""
        what = tlbi.what
        parts = Part.STAGE | Part.COMBINED if self._is_stage_1 else parts_of(what.operation.target)
        if parts == Part.COMBINED:
            self._complete_combined(tlbi)
            return
        done = []
        for one in self._named_by(what):
            missed = missed_by(tlbi, one)
            if missed is not None:
                one.missed = missed
                if missed is Rules.CONTEXT and not tlbi.may_be_called:
                    one.duty = one.duty or Duty.WRONG_CALLER
                continue
            for scope in _SCOPES if tlbi.everywhere else (LOCAL,):
                if one.stage[scope] is None:
                    one.stage[scope] = now
                one.combined[scope] |= bool(parts & Part.COMBINED)
            if one.combined[EVERYWHERE]:
                done.append(one)
            elif not parts & Part.COMBINED:
                self._half[one] = None
        self._drop(done)

    def _complete_combined(self, tlbi: Tlbi) -> None:
        done = []
        for one in self._half:
            if not overlaps(tlbi.what, one.ipa, self.size(one.level), self._is_stage_1):
                continue
            if not tlbi.in_context:
                one.missed = Rules.CONTEXT
                if not tlbi.may_be_called:
                    one.duty = one.duty or Duty.WRONG_CALLER
                continue
            for scope in _SCOPES if tlbi.everywhere else (LOCAL,):
                since = one.stage[scope]
                one.combined[scope] |= since is not None and since < tlbi.at
            if one.combined[EVERYWHERE]:
                done.append(one)
        self._drop(done)

    def _drop(self, done: Iterable[Stale]) -> None:
        for one in done:
            self.discard(one)

    def _named_by(self, what: Invalidation) -> Iterator[Stale]:
        """Those with an address that a TLBI names."""
        if what.start is not None and what.size is None:
            yield from self.over(what.start & self._mask)
            return
        for one in self:
            if overlaps(what, one.ipa, self.size(one.level), self._is_stage_1):
                yield one


def missed_by(tlbi: Tlbi, one: Stale) -> Rules | None:
    """The rule by which a TLBI that names an entry's address leaves it; None where it hits."""
    passed = passed_over(tlbi.what, one.entry, one.level)
    if passed is not None:
        return passed
    if not tlbi.in_context:
        return Rules.CONTEXT
    return None if tlbi.before > one.since else Rules.STORED
