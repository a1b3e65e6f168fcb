"""One side judged by itself: what is wrong with how it keeps TLBs and its table in step, and what accesses may see.

Recorded of an access is always what the table says, for what a TLB holds is the hardware's choice. `Allowed` says what
else it may have been.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Final

from harness.observation.descriptors import is_table_entry
from harness.observation.events import IN_CALL
from harness.observation.layout import EVENT_WORDS, Observation, Record
from harness.program.definition import Op
from harness.program.guest import STUB
from harness.program.program import Program
from harness.verdict.tlb.books import Books
from harness.verdict.tlb.held import Stale
from harness.verdict.tlb.outcomes import MAKE_ACCESSES, Allowed, Guest, Leaf, Outcome, access_of
from harness.verdict.tlb.problems import StaleProblem
from harness.verdict.tlb.rules import Access, Rules

_HAPPENED: Final = (0, -errno.EFAULT)
"""Results of an access that was made."""


def stale_problems(program: Program, observation: Observation, excuses_parts: bool = True) -> list[StaleProblem]:
    """What is wrong, in order. `observation` is one side's, of the program or of a beginning of it. An op that was cut
    by its budget is judged up to there, and not for what it leaves. `excuses_parts` says whether sizes that are not of
    whole pages are the caller's fault (`Duty.PART_OF_A_PAGE`)."""
    return _Judgement(program, observation, excuses_parts).problems


def allowed_outcomes(program: Program, observation: Observation) -> list[Allowed]:
    """What each access and each probe may see that was made, in order."""
    return _Judgement(program, observation).allowed


class _Judgement:
    """Of one side's observation."""

    def __init__(self, program: Program, observation: Observation, excuses_parts: bool = True) -> None:
        records = observation.records
        tells_instructions = any(max(one.events[::EVENT_WORDS], default=0) >= IN_CALL for one in records)
        self._books = books = Books(observation.machine, tells_instructions, excuses_parts)
        self._guest = Guest(observation.machine)
        self._witnesses = observation.witnesses
        self.problems = books.problems
        self.allowed: list[Allowed] = []
        for number, record in enumerate(records):
            op = program.ops[number - 1] if number else None
            books.follow_op(number, op, record)
            if op is not None and record.ret in _HAPPENED:
                self._look(number, op, record)

    def _look(self, number: int, op: Op, record: Record) -> None:
        """What a probe or an access may see."""
        if op.name in MAKE_ACCESSES:
            allowed = self._access(number, op, record)
        elif op.name == "probe":
            allowed = self._probe(number, op)
        else:
            return
        self.allowed.append(allowed)
        for one in self._witnesses:
            if one.record == number and not allowed.admits(one.esr, one.told):
                seen = f"esr={one.esr:#x}" if one.esr else f"{one.told:#x}"
                text = f"`{op.name}` at {op.value('ipa'):#x} came to {seen}, which neither the table nor a TLB may say"
                self.problems.append(StaleProblem(number, "witness-not-allowed", None, text, Rules.WITNESSED.value))

    def _probe(self, number: int, op: Op) -> Allowed:
        address = op.value("ipa")
        stale, is_anything = self._stale(address)
        return Allowed(number, not stale and not is_anything, (), is_anything, _reasons(stale))

    def _access(self, number: int, op: Op, record: Record) -> Allowed:
        books, guest, access = self._books, self._guest, access_of(op)
        address = op.value("ipa")
        leaf = books.leaf(address)
        fresh = self._fresh(record, access, address, leaf)
        if access is Access.WRITE and record.ret == 0 and leaf is not None:
            guest.write(leaf, address, op.value("value") if op.name == "write" else 0)
        stale, is_anything = self._stale(address)
        of_stub, is_any_stub = self._stale(STUB)
        aborts = None if is_any_stub else guest.at_stub(of_stub, books.leaf(STUB))
        reasons = _reasons([*stale, *of_stub])
        if is_anything or aborts is None:
            return Allowed(number, False, (fresh,), True, reasons)
        outcomes = [fresh]
        for one in (*aborts, *(guest.outcome((one.entry, one.level), access, address, one) for one in stale)):
            if not any(one[:2] == other[:2] for other in outcomes):
                outcomes.append(one)
        return Allowed(number, len(outcomes) == 1, tuple(outcomes), False, reasons)

    def _fresh(self, record: Record, access: Access, address: int, leaf: Leaf | None) -> Outcome:
        """What was recorded, which is what the table says."""
        esr, hpfar, value = record.outs
        if esr:
            return Outcome(esr, hpfar)
        if access is Access.READ or leaf is None:
            return Outcome(0, value)
        return self._guest.outcome(leaf, access, address)

    def _stale(self, address: int) -> tuple[list[Stale], bool]:
        """The stale entries for an address, and whether a table may be walked for it that is none any more."""
        stale = self._books.stale(address)
        return stale, self._books.is_abandoned(address) or any(is_table_entry(one.entry, one.level) for one in stale)


def _reasons(stale: Iterable[Stale]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{one}: {one.reason}" for one in stale))
