"""One side judged by itself: what is wrong with how it keeps TLBs and its table in step, and what accesses may see.

Recorded of an access is always what the table says, for what a TLB holds is the hardware's choice. `Allowed` says what
else it may have been.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence
from typing import Final

from harness.observation.descriptors import is_table_entry
from harness.observation.events import IN_CALL
from harness.observation.layout import EVENT_WORDS, Observation, Record
from harness.program.definition import Op
from harness.program.guest import STUB
from harness.program.program import Program
from harness.verdict.tlb.books import Books
from harness.verdict.tlb.held import Stale
from harness.verdict.tlb.outcomes import MAKE_ACCESSES, Allowed, Guest, Outcome, access_of
from harness.verdict.tlb.problems import StaleProblem
from harness.verdict.tlb.rules import Access, Rules

Witness = tuple[int, int, int]
"""Of an access that saw something else than the table says: its record, the syndrome, and HPFAR_EL2 or the value."""

_HAPPENED: Final = (0, -errno.EFAULT)
"""Results of an access that was made."""


def judged(program: Program, observation: Observation) -> tuple[list[StaleProblem], list[Allowed]]:
    """`stale_problems` and `allowed_outcomes`, for who wants both."""
    witnesses = [(one.record, one.esr, one.told) for one in observation.witnesses]
    judgement = _Judgement(program, observation, witnesses)
    return judgement.problems, judgement.allowed


def stale_problems(program: Program, observation: Observation, witnesses: Sequence[Witness] = ()) -> list[StaleProblem]:
    """What is wrong, in order. `observation` is one side's, of the program or of a beginning of it. An op that was cut
    by its budget is judged up to there, and not for what it leaves."""
    return _Judgement(program, observation, witnesses).problems


def allowed_outcomes(program: Program, observation: Observation) -> list[Allowed]:
    """What each access and each probe may see that was made, in order."""
    return _Judgement(program, observation, ()).allowed


class _Judgement:
    """Of one side's observation."""

    def __init__(self, program: Program, observation: Observation, witnesses: Iterable[Witness]) -> None:
        records = observation.records
        tells_instructions = any(max(one.events[::EVENT_WORDS], default=0) >= IN_CALL for one in records)
        self._books = books = Books(observation.machine, tells_instructions)
        self._guest = Guest(observation.machine)
        self._witnesses = list(witnesses)
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
        for at, esr, other in self._witnesses:
            if at == number and not allowed.admits(esr, other):
                seen = f"syndrome {esr:#x}" if esr else f"value {other:#x}"
                text = f"`{op.name}` at {op.value('ipa'):#x} saw {seen}, which neither the table nor a TLB may say"
                self.problems.append(StaleProblem(number, "witness-not-allowed", None, text, Rules.WITNESSED.value))

    def _probe(self, number: int, op: Op) -> Allowed:
        address = op.value("ipa")
        stale, is_anything = self._stale(address)
        return Allowed(number, not stale and not is_anything, (), is_anything, _reasons(stale))

    def _access(self, number: int, op: Op, record: Record) -> Allowed:
        books, guest, access = self._books, self._guest, access_of(op)
        address = op.value("ipa")
        esr, hpfar, value = record.outs
        fresh = Outcome(esr, hpfar, value)
        if access is Access.WRITE and record.ret == 0 and (leaf := books.leaf(address)) is not None:
            guest.write(leaf, address, op.value("value") if op.name == "write" else None)
        stale, is_anything = self._stale(address)
        of_stub, is_any_stub = self._stale(STUB)
        aborts = None if is_any_stub else guest.at_stub(of_stub, books.leaf(STUB))
        if is_anything or aborts is None:
            return Allowed(number, False, (fresh,), True, _reasons([*stale, *of_stub]))
        outcomes = [fresh]
        for one in (*aborts, *(guest.outcome(one, access, address) for one in stale)):
            if not any(one[:3] == other[:3] for other in outcomes):
                outcomes.append(one)
        return Allowed(number, len(outcomes) == 1, tuple(outcomes), False, _reasons([*stale, *of_stub]))

    def _stale(self, address: int) -> tuple[list[Stale], bool]:
        """The stale entries for an address, and whether a table may be walked for it that is none any more."""
        stale = self._books.stale(address)
        return stale, self._books.is_abandoned(address) or any(is_table_entry(one.entry, one.level) for one in stale)


def _reasons(stale: Iterable[Stale]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(f"{one}: {one.reason}" for one in stale))
