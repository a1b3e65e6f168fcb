"""What an access may see: the table as it is, or what a TLB may still hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from harness.observation.descriptors import address_field
from harness.program.definition import Op
from harness.program.guest import DATA, PIECE, STUB, WINDOW, WINDOW_SIZE
from harness.program.kinds import ACCESS
from harness.program.machine import Machine
from harness.verdict.tlb.held import Stale
from harness.verdict.tlb.rules import ACCESSES, AF, Access, allows, output_address, permission_fault

Leaf = tuple[int, int]
"""A leaf, and its level."""


class Outcome(NamedTuple):
    """What one access comes to, as `harness.observation.layout.Witness` has it: the syndrome, and what is told besides,
    which is None where it may be anything. `by` is the entry that makes it so, None for the table itself."""

    esr: int
    told: int | None
    by: Stale | None = None

    def __str__(self) -> str:
        if self.esr:
            return f"esr={self.esr:#x}"
        return "any" if self.told is None else f"{self.told:#x}"


@dataclass(frozen=True, slots=True)
class Allowed:
    """What the access or probe of a record may see.

    `outcomes` are those of an access, that of the table first, which is the recorded one; none of a probe.
    `is_anything` says that a table may be walked that is none any more. `reasons` say why each stale entry is there.
    """

    record: int
    is_fresh_only: bool
    outcomes: tuple[Outcome, ...] = ()
    is_anything: bool = False
    reasons: tuple[str, ...] = ()

    def admits(self, esr: int, told: int) -> bool:
        """Whether an access may have come to that, as a `Witness` has it."""
        return self.is_anything or any(one.esr == esr and one.told in (None, told) for one in self.outcomes)

    def __str__(self) -> str:
        """`fresh-only`, or `may-be-stale` with what else it may come to: `may-be-stale: esr=0x9000000f`."""
        if self.is_fresh_only:
            return "fresh-only"
        if self.is_anything:
            return "may-be-stale: anything, by a table that may be walked still"
        others = ", ".join(map(str, self.outcomes[1:]))
        return f"may-be-stale: {others}" if others else "may-be-stale"


class Guest:
    """The guest's side: what the words of data in its window hold, and what stale entries make of its accesses."""

    def __init__(self, machine: Machine) -> None:
        self._addresses = address_field(machine)
        self._level_shift = machine.granule.level_shift
        self._words: dict[int, int] = {}
        """Those that were written, by their addresses."""

    def write(self, leaf: Leaf, address: int, value: int) -> int:
        """The guest has written through a leaf: to which piece."""
        piece = self._leads_to(leaf, address) & -PIECE
        self._words[piece | DATA] = value
        return piece

    def outcome(self, leaf: Leaf, access: Access, address: int, by: Stale | None = None) -> Outcome:
        """What an access through a leaf comes to, which a TLB holds or the table has."""
        entry, level = leaf
        if not allows(entry, False) & access:
            return Outcome(permission_fault(access, level), 0, by)
        piece = self._leads_to(leaf, address) & -PIECE
        if access is not Access.READ:
            return Outcome(0, piece, by)
        word = piece | DATA
        return Outcome(0, self._words.get(word, word) if WINDOW <= word < WINDOW + WINDOW_SIZE else None, by)

    def at_stub(self, stale: Iterable[Stale], leaf: Leaf | None) -> list[Outcome] | None:
        """What stale leaves of the page of the guest's own code make of accesses: aborts on their first instruction.
        None where it may run though `leaf`, the table's, keeps it from that, or may run other code."""
        may_run = leaf is not None and self._runs_stub(leaf)
        found = []
        for one in stale:
            if not allows(one.entry, False) & Access.EXEC:
                found.append(Outcome(permission_fault(Access.EXEC, one.level), 0, one))
            elif not may_run or not self._runs_stub((one.entry, one.level)):
                return None
        return found

    def _runs_stub(self, leaf: Leaf) -> bool:
        return bool(leaf[0] & AF and allows(leaf[0], False) & Access.EXEC) and self._leads_to(leaf, STUB) == STUB

    def _leads_to(self, leaf: Leaf, address: int) -> int:
        entry, level = leaf
        return output_address(entry, address, 1 << self._level_shift(level), self._addresses)


def access_of(op: Op) -> Access:
    """What an op of a guest does at its address."""
    return ACCESSES[ACCESS.words[op.value("access")] if op.name == "fault" else op.name]


MAKE_ACCESSES: Final = frozenset({*ACCESSES, "fault"})
"""Ops by which the guest accesses memory."""
