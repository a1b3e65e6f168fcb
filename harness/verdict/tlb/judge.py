"""One side judged by itself: what is wrong with how it keeps TLBs and its table in step, and what accesses may see.

Recorded of an access is always what the table says, for what a TLB holds is the hardware's choice. `Allowed` says what
else it may have been.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Final, NamedTuple

from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.events import IN_CALL
from harness.observation.layout import EVENT_WORDS, FIRST_MMU, Observation, Record
from harness.observation.mmus import MAKES_TABLE, MMU_SHARE, Mmus, named_by, vmid_made_by
from harness.program.definition import Op
from harness.program.guest import STUB, virtual_address
from harness.program.program import Program
from harness.verdict.tlb.books import Books
from harness.verdict.tlb.held import Stale
from harness.verdict.tlb.outcomes import MAKE_ACCESSES, Allowed, Guest, Leaf, Outcome, access_of
from harness.verdict.tlb.problems import StaleProblem
from harness.verdict.tlb.rules import AF, LOG_OPS, Access, Duty, Rules, allows, output_address
from harness.verdict.vcpus import loads, runs_at

_HAPPENED: Final = (0, -errno.EFAULT)
"""Results of an access that was made."""


def stale_problems(program: Program, observation: Observation) -> list[StaleProblem]:
    """`Judgement.problems`."""
    return Judgement(program, observation).problems


def allowed_outcomes(program: Program, observation: Observation) -> list[Allowed]:
    """`Judgement.allowed`."""
    return Judgement(program, observation).allowed


class Writable(NamedTuple):
    """What a TLB may hold that lets memory be written, under the VMID of an MMU: where, of how many bytes, and to what
    memory."""

    mmu: int
    ipa: int
    size: int
    pa: int
    text: str


class _Cached(NamedTuple):
    """Stale entries for an address; whether a table may be walked for it that is none any more; and why."""

    entries: list[Stale]
    is_anything: bool
    reasons: tuple[str, ...]


def _of_loads(program: Program, observation: Observation) -> Iterator[StaleProblem]:
    """Loads behind which a vCPU may use what another one's stage 1 has left on that CPU."""
    for number, load in loads(program, observation).items():
        if load.left_by:
            others = " and ".join(f"vCPU {one}" for one in load.left_by)
            text = (
                f"vCPU {load.vcpu} is loaded on CPU {load.cpu} under MMU {load.mmu}, whose TLB may hold stage-1 entries"
                f" of {others} under VMID {load.vmid:#x}: never invalidated there"
            )
            yield StaleProblem(number, "loaded-stage-1-left", None, text, Rules.PRIVATE.value)


class Judgement:
    """Of one side's observation of a program, or of a beginning of it.

    `allowed` is what each access and each probe may see that was made, in order. `all_problems` is what is wrong, in
    order, `problems` what of it is not excused. An op that was cut by its budget is judged up to there, and not for
    what it leaves. `written` is, by record, what the guest wrote, as the address of the memory's piece, and `writable`
    what TLBs may let it write after ops that write-protect memory for a log."""

    def __init__(self, program: Program, observation: Observation) -> None:
        records = observation.records
        self._program, self._observation = program, observation
        self._tells_instructions = any(max(one.events[::EVENT_WORDS], default=0) >= IN_CALL for one in records)
        self._books = Books(observation.machine, self._tells_instructions)
        """Of the MMU in use."""
        self._of_mmus = {FIRST_MMU: self._books}
        self._mmus = Mmus(observation.machine)
        self._guest = Guest(observation.machine)
        self._witnesses = observation.witnesses
        self._witnessed: list[StaleProblem] = []
        self._of_freed: list[StaleProblem] = []
        self.allowed: list[Allowed] = []
        self.written: dict[int, int] = {}
        self.writable: dict[int, list[Writable]] = {}
        for number, record in enumerate(records):
            op = program.ops[number - 1] if number else None
            self._follow(number, op, record)
            if op is not None and record.ret in _HAPPENED:
                self._look(number, op, record)
                if op.name in LOG_OPS and record.ret == 0:
                    self.writable[number] = [*self._writable()]
        of_loads = [*_of_loads(program, observation)]
        of_mmus = [one for books in self._of_mmus.values() for one in books.problems]
        self.all_problems = sorted([*of_mmus, *self._of_freed, *self._witnessed, *of_loads], key=lambda one: one.record)
        self.problems = [one for one in self.all_problems if not one.is_excused]

    def _follow(self, number: int, op: Op | None, record: Record) -> None:
        """Take in a record, in the books of every MMU."""
        mmu = named_by(record)
        if mmu is not None and record.definition in MAKES_TABLE:
            self._of_mmus[mmu] = self._new_books(mmu, mmu, number, record)
        else:
            for ended in self._mmus.ended_by(record) if mmu is not None else ():
                books_of_it = self._of_mmus.pop(ended, None)
                self._of_freed += [] if books_of_it is None else books_of_it.problems
        for books in self._of_mmus.values():
            books.follow_op(number, op, record)
        if mmu is not None and record.definition is MMU_SHARE:
            self._of_mmus[mmu] = self._new_books(mmu, self._mmus.table, number + 1, record)
        if mmu is not None or self._mmus.are_several:
            self._mmus.follow(record)
            self._books = self._of_mmus.get(self._mmus.in_use, self._books)

    def _new_books(self, mmu: int, table: int, number: int, made_by: Record) -> Books:
        """Of an MMU that begins with the `number`-th record, and has a table since before, or makes it."""
        books = Books(self._observation.machine, self._tells_instructions, mmu, table)
        for earlier, record in enumerate(self._observation.records[:number]):
            books.follow_op(earlier, self._program.ops[earlier - 1] if earlier else None, record)
        books.be_born(vmid_made_by(made_by))
        return books

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
                self._witnessed.append(StaleProblem(number, "witness-not-allowed", None, text, Rules.WITNESSED.value))

    def _probe(self, number: int, op: Op) -> Allowed:
        seen = self._stale(op.value("ipa"))
        return Allowed(number, not seen.entries and not seen.is_anything, (), seen.is_anything, seen.reasons)

    def _access(self, number: int, op: Op, record: Record) -> Allowed:
        books, guest, access = self._books, self._guest, access_of(op)
        address = op.value("ipa")
        leaf = books.leaf(address)
        fresh = self._fresh(record, access, address, leaf)
        if access is Access.WRITE and record.ret == 0 and leaf is not None:
            self.written[number] = guest.write(leaf, address, op.value("value") if op.name == "write" else 0)
        target, stub = self._stale(address), self._stale(STUB)
        if op.name == "vcpu_read":
            return self._vcpu_read(number, address, fresh, target, stub)
        aborts = None if stub.is_anything else guest.at_stub(stub.entries, books.leaf(STUB))
        reasons = tuple(dict.fromkeys(target.reasons + stub.reasons))
        if target.is_anything or aborts is None:
            return Allowed(number, False, (fresh,), True, reasons)
        outcomes = [fresh]
        for one in (*aborts, *(guest.outcome((one.entry, one.level), access, address, one) for one in target.entries)):
            if not any(one[:2] == other[:2] for other in outcomes):
                outcomes.append(one)
        return Allowed(number, len(outcomes) == 1, tuple(outcomes), False, reasons)

    def _vcpu_read(self, number: int, ipa: int, fresh: Outcome, target: _Cached, stub: _Cached) -> Allowed:
        """What a vCPU may see that reads through its stage 1: also what another one's stage 1, of which its CPU may
        still have entries, makes of its virtual address."""
        runs = runs_at(self._program, self._observation, number)
        seen = [(ipa, target.entries)]
        reasons = [*target.reasons, *stub.reasons]
        is_anything = target.is_anything or bool(stub.entries) or stub.is_anything or runs is None
        for vcpu, other in () if runs is None else ((runs.vcpu, other) for other in runs.others):
            there = virtual_address(other, virtual_address(vcpu, ipa))
            cached = self._stale(there)
            is_anything |= cached.is_anything
            seen.append((there, cached.entries))
            reasons.append(f"stage 1 of vCPU {other}, by which that is {there:#x}: never invalidated on this CPU")
        if is_anything:
            return Allowed(number, False, (fresh,), True, tuple(reasons))
        outcomes = {fresh[:2]: fresh}
        for at, entries in seen:
            leaf = self._books.leaf(at)
            if at != ipa and leaf is not None and leaf[0] & AF:
                one = self._guest.outcome(leaf, Access.READ, at)
                outcomes.setdefault(one[:2], one)
            for entry in entries:
                one = self._guest.outcome((entry.entry, entry.level), Access.READ, at, entry)
                outcomes.setdefault(one[:2], one)
        return Allowed(number, len(outcomes) == 1, tuple(outcomes.values()), False, tuple(reasons))

    def _writable(self) -> Iterator[Writable]:
        """What of stale entries lets memory be written, of every MMU."""
        for mmu, books in self._of_mmus.items():
            for one in books.held:
                size = books.held.size(one.level)
                if is_table_entry(one.entry, one.level) or not allows(one.entry, False) & Access.WRITE:
                    continue
                pa = output_address(one.entry, one.ipa, size, address_field(self._observation.machine))
                yield Writable(mmu, one.ipa, size, pa, str(one))

    def _fresh(self, record: Record, access: Access, address: int, leaf: Leaf | None) -> Outcome:
        """What was recorded, which is what the table says."""
        esr, hpfar, value = record.outs
        if esr:
            return Outcome(esr, hpfar)
        if access is Access.READ or leaf is None:
            return Outcome(0, value)
        return self._guest.outcome(leaf, access, address)

    def _stale(self, address: int) -> _Cached:
        """What a TLB may hold for an address that the table does not say."""
        entries = self._books.stale(address)
        reasons = [f"{one}: {one.reason}" for one in entries]
        is_abandoned = self._books.is_abandoned(address)
        if is_abandoned:
            reasons.append(f"a tree that was under test before: {Duty.UNREACHABLE.value}")
        may_walk_on = any(is_table_entry(one.entry, one.level) for one in entries)
        return _Cached(entries, is_abandoned or may_walk_on, tuple(reasons))
