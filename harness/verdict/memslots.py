"""The VMs' memory slots as user space knows them: by what its ioctls returned. What the kernel keeps of them is not
asked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from harness.observation.events import LOG_CLEARED, LOG_TOLD
from harness.observation.layout import EVENT_WORDS, FIRST_MMU, Observation, Record
from harness.observation.mmus import Mmus
from harness.program.definition import Op
from harness.program.kinds import LOGGING
from harness.program.machine import Machine
from harness.program.program import Program

_AT_ONCE, _, _INITIALLY_SET = range(len(LOGGING.words))
_GIVES_WRITE: Final = frozenset(
    {
        *("map", "relax_perms", "handle", "plant", "race", "link", "init", "destroy", "set_owner", "split"),
        *("annotate", "mmu_again", "mmu_init", "mmu_share", "mmu_free"),
    }
)
"""Ops that may let memory be written past its slot's log."""


@dataclass(frozen=True, slots=True)
class Slot:
    """A slot that is there. `protects` says that its log begins empty, with all of its pages write-protected,
    `by_others` that since then others may have let its memory be written."""

    ipa: int
    size: int
    phys: int
    is_readonly: bool
    is_logged: bool
    protects: bool = False
    by_others: bool = False
    begun: int = 0
    """The record that its log begins with."""

    @property
    def end(self) -> int:
        return self.ipa + self.size

    def has_memory(self, pa: int) -> bool:
        return self.phys <= pa < self.phys + self.size

    def overlaps(self, ipa: int, size: int) -> bool:
        return self.ipa < ipa + size and ipa < self.end


@dataclass(frozen=True, slots=True)
class Slots:
    """All of the VM in use, by number, with the mode of logs to come; the table in use, whose are the guest's
    addresses; and the VM, whose number is that of its first table as well."""

    of: Mapping[int, Slot]
    logging: int
    table: int
    vm: int

    def shares(self, start: int, end: int) -> list[Slot]:
        """What slots have of a range of addresses, each as a slot."""
        found = []
        for one in self.of.values():
            first, last = max(start, one.ipa), min(end, one.end)
            if first < last:
                found.append(replace(one, ipa=first, size=last - first, phys=one.phys + first - one.ipa))
        return found

    def logged_at(self, ipa: int) -> int | None:
        """The number of the logged slot that has an address."""
        return next((number for number, one in self.of.items() if one.is_logged and one.ipa <= ipa < one.end), None)


_NONE: Final = Slots({}, _AT_ONCE, FIRST_MMU, FIRST_MMU)


def slots_after(program: Program, observation: Observation) -> list[Slots]:
    """After each record."""
    mmus, of = Mmus(observation.machine), dict[int, Slots]()
    found = []
    for number, record in enumerate(observation.records):
        op = program.ops[number - 1] if number else None
        mmus.follow(record)
        now = replace(of.get(mmus.vm, _NONE), table=mmus.table, vm=mmus.vm)
        if op is not None:
            now = _after(now, number, op, record)
        of[mmus.vm] = now
        found.append(now)
    return found


def _after(now: Slots, number: int, op: Op, record: Record) -> Slots:
    name, of = op.name, dict(now.of)
    if name in _GIVES_WRITE:
        return replace(now, of={slot: replace(one, by_others=True) for slot, one in of.items()})
    if not name.startswith("memslot_") or record.ret != 0:
        return now
    if name == "memslot_mode":
        return replace(now, logging=op.value("logging"))
    wanted = wanted_by(now, op)
    if wanted is None:
        return now
    slot, old = op.value("slot"), of.get(op.value("slot"))
    if not wanted.size:
        of.pop(slot, None)
    elif old is not None and old.is_logged and wanted.is_logged:
        of[slot] = replace(wanted, by_others=old.by_others, begun=old.begun, protects=old.protects)
    else:
        of[slot] = replace(wanted, protects=now.logging != _INITIALLY_SET, begun=number)
    return replace(now, of=of)


def wanted_by(now: Slots, op: Op) -> Slot | None:
    """The slot that an op asks for, of size 0 where it is to go; None where the op is no change of a slot, or of none
    that is there."""
    if op.name not in ("memslot_add", "memslot_remove", "memslot_move", "memslot_log"):
        return None
    if op.name == "memslot_add":
        where = (op.value("ipa"), op.value("size"), op.value("phys"))
        return Slot(*where, bool(op.value("readonly")), bool(op.value("logging")))
    old = now.of.get(op.value("slot"))
    if old is None:
        return None
    if op.name == "memslot_remove":
        return replace(old, size=0)
    if op.name == "memslot_move":
        return replace(old, ipa=op.value("ipa"))
    return replace(old, is_logged=bool(op.value("logging")))


def pages_told(record: Record, kind: int = LOG_TOLD) -> Iterator[int]:
    """The addresses of pages that the log told of, or that were cleared."""
    words = record.events
    return (words[at + 1] for at in range(0, len(words), EVENT_WORDS) if words[at] == kind)


def logs_read(program: Program, observation: Observation, written: Mapping[int, int]) -> dict[int, list[int]]:
    """For each record that read a log, the pages that it did not tell of although the guest wrote them since they were
    last taken out of the log, or since that began. `written` is the memory that records wrote.

    Nothing is said of a log while which tables let memory be written was changed by others than its own ops. Whose page
    it is that was written, the address says in the first MMU's table; in another one the memory does, if a handled
    abort has given it to that table and only one slot has it."""
    reader, found = _Reader(observation.machine), {}
    before = dict[int, Slots]()
    for number, now in enumerate(slots_after(program, observation)):
        if number:
            op, record = program.ops[number - 1], observation.records[number]
            told = reader.follow(op, record, before.get(now.vm, _NONE), now, written.get(number))
            if told is not None:
                found[number] = told
        before[now.vm] = now
    return found


class _Reader:
    """What guests wrote to logged slots: pages by their place in the slot, which is known by its VM and number."""

    def __init__(self, machine: Machine) -> None:
        self._page = machine.granule.page
        self._written: dict[tuple[int, int], set[int]] = {}
        self._given: set[tuple[int, int]] = set()
        """The pages of memory that handled aborts gave to other tables than that of their VM's first MMU, by VM."""

    def follow(self, op: Op, record: Record, before: Slots, now: Slots, pa: int | None) -> list[int] | None:
        """Take in a record. The pages that it failed to tell of, if it read a log."""
        for number, slot in now.of.items():
            old = before.of.get(number)
            if old is None or old.begun != slot.begun or not slot.is_logged:
                self._written[now.vm, number] = set()
        if pa is not None:
            self._write(op.value("ipa"), pa, now)
        if op.name == "memslot_handle" and record.ret == 0 and now.table != now.vm:
            for slot in now.of.values():
                if slot.ipa <= op.value("l1") < slot.end:
                    self._given.add((now.vm, slot.phys + (op.value("l1") & -self._page) - slot.ipa))
        if op.name not in ("memslot_dirty", "memslot_clear") or record.ret != 0:
            return None
        return self._read(op, record, now)

    def _read(self, op: Op, record: Record, now: Slots) -> list[int] | None:
        number = op.value("slot")
        slot = now.of.get(number)
        if slot is None:
            return None
        pages = self._written.setdefault((now.vm, number), set())
        missed = sorted(slot.ipa + page for page in pages - self._pages(record, slot, LOG_TOLD))
        pages -= self._pages(record, slot, LOG_CLEARED)
        return missed if op.name == "memslot_dirty" and slot.is_logged and not slot.by_others else None

    def _pages(self, record: Record, slot: Slot, kind: int) -> set[int]:
        return {page - slot.ipa for page in pages_told(record, kind)}

    def _write(self, ipa: int, pa: int, now: Slots) -> None:
        page = ipa & -self._page
        if now.table == now.vm:
            for number, slot in now.of.items():
                if slot.ipa <= page < slot.end:
                    self._written.setdefault((now.vm, number), set()).add(page - slot.ipa)
            return
        page = pa & -self._page
        having = [number for number, slot in now.of.items() if slot.has_memory(page)]
        if len(having) == 1 and (now.vm, page) in self._given:
            self._written.setdefault((now.vm, having[0]), set()).add(page - now.of[having[0]].phys)
