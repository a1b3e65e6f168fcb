"""The books of one MMU of one side: what stores take out of its tree, and what of it is left under its VMID when it
counts. MMUs that share a tree have books of their own, for TLBs hold what it says under the VMID of each.

It counts when an op returns, when another entry takes the place, and when the page of a table is freed. That needs no
access: a CPU may cache whatever is valid, whenever it likes.
"""

from __future__ import annotations

from typing import Final

from harness.observation.calls import Whose
from harness.observation.descriptors import is_table_entry
from harness.observation.events import FOR_MMU, Event, each_event
from harness.observation.layout import FIRST_MMU, Record
from harness.observation.mmus import VCPU_OPS, vmid_loaded_by
from harness.program.definition import Op
from harness.program.kinds import MMU
from harness.program.machine import Machine
from harness.verdict.tlb.cpu import Cpu
from harness.verdict.tlb.held import EVERYWHERE, LOCAL, Held, Stale, Tlbi, missed_by
from harness.verdict.tlb.problems import LACKING, TOO_EARLY, StaleProblem
from harness.verdict.tlb.rules import (
    LOG_OPS,
    Duty,
    Part,
    Rules,
    duty_of,
    is_harmless,
    is_part_of_a_page,
    is_valid,
    may_be_cached,
    needs_break,
    overlaps,
    passed_over,
    same_for_hardware,
)
from harness.verdict.trees import Place, Table, Trees

_MOST_NAMED: Final = 1024
"""Entries that an op leaves of which each is looked at: it may be hundreds of thousands."""


class Books(Trees):
    """What a TLB may hold of one side's tables, for an MMU and the table that it has, by their numbers. `problems` are
    what was found so far."""

    def __init__(
        self, machine: Machine, tells_instructions: bool, mmu: int = FIRST_MMU, table: int = FIRST_MMU
    ) -> None:
        super().__init__(machine)
        self._mmu, self._only = mmu, table
        self._is_stage_1 = machine["stage"] == 1
        self.cpu = Cpu(machine, tells_instructions)
        self.held = Held(self._granule, self._is_stage_1)
        self.problems: list[StaleProblem] = []
        self._record = 0
        self._op: Op | None = None
        self._open: list[Stale] = []
        """Those that the op under way has made stale, and must invalidate."""
        self._ways: dict[Table, Stale] = {}
        """To tables that are out of the tree."""
        self._root_tables: list[Table] = []
        self._abandoned: list[Table] = []
        """Roots that were under test, and of whose trees a TLB may hold anything."""
        self._by_program = False
        """Whether it is the program itself that writes."""
        self._vmid = self._mmus.vmid()

    def follow_op(self, number: int, op: Op | None, record: Record) -> None:
        """Take in a record, the `number`-th; of an op, None for the implicit init."""
        self._record, self._op = number, op
        self._open = []
        self.begin(record)
        self._load(record)
        self.cpu.begin_op()
        if op is not None and op.name == "destroy" and self._making == self._only:
            self._abandon()
        for index, event in enumerate(each_event(record.events)):
            self._clock += 1
            if event.kind == FOR_MMU:
                self.cpu.is_called_for = event.a == self._mmu
            elif not self.follow(event, record, index):
                for tlbi in self.cpu.follow(event, self._clock):
                    self._complete(tlbi)
        if record.ret is not None:
            self._end_op()
        self.end(record)

    def end(self, record: Record) -> None:
        in_use = self._mmus.in_use
        super().end(record)
        if self._mmus.in_use != in_use or record.definition in VCPU_OPS:
            self._run()

    def be_born(self, vmid: int) -> None:
        """The MMU begins, with a VMID of its own under which no TLB holds anything yet. What was found before does not
        count."""
        self.problems = []
        self._hold_nothing()
        self._vmid = vmid
        self._run()

    def _hold_nothing(self) -> None:
        """No TLB holds anything of this MMU under its VMID."""
        self.held = Held(self._granule, self._is_stage_1)
        self._ways.clear()
        self._abandoned.clear()

    def _run(self) -> None:
        """Another MMU is in use, or this is another; or another vCPU runs, or none."""
        running = self._mmus.vmid(self._mmus.running)
        self.cpu.use(Whose(self._vmid, running, self._mmus.runs), self._mmus.in_use == self._mmu)

    def _load(self, record: Record) -> None:
        """The op loads a vCPU, if it does: first, the MMU gets a VMID that is good. What TLBs have under the one before
        nobody will run with, until a flush of all VMIDs."""
        loaded = self._mmus.loaded_by(record)
        if loaded is None:
            return
        if loaded == self._mmu and vmid_loaded_by(record) != self._vmid:
            self._vmid = vmid_loaded_by(record)
            self._hold_nothing()
        self.cpu.use(Whose(self._vmid, self._vmid, False), self._mmus.in_use == self._mmu)

    def _end_op(self) -> None:
        """The op has returned: what it took from the tree must be gone."""
        left: dict[tuple[str, int, bool], list[tuple[Stale, str, Rules]]] = {}
        for one in self._still_open()[:_MOST_NAMED]:
            word, phrase, rule = self._lacking(one)
            is_part = is_part_of_a_page(self._op, one.ipa, self.held.size(one.level), self._granule.page)
            if is_part:
                one.duty = Duty.PART_OF_A_PAGE
            left.setdefault((word, one.level, is_part), []).append((one, phrase, rule))
        for (word, level, is_part), several in left.items():
            first, phrase, rule = several[0]
            more = f", and so may {len(several) - 1} more" if several[1:] else ""
            text = f"when the op returns, {first} may be cached{more}: {phrase}"
            self._tell(f"left-{word}", level, text, rule, is_excused=is_part)
        for one in self._open:
            one.duty = one.duty or Duty.TOLD

    def _complete(self, tlbi: Tlbi) -> None:
        """A DSB has waited for a TLBI."""
        self.held.complete(tlbi, self._clock)
        if tlbi.in_context and tlbi.what.start is None and self.cpu.parts(tlbi) == Part.STAGE | Part.COMBINED:
            self._abandoned.clear()

    def leaf(self, address: int) -> tuple[int, int] | None:
        """The valid leaf that the tree has for an address, and its level."""
        table = next((one for one in self._root_tables if one.root and self._covers(one, address)), None)
        while table is not None and table.level is not None:
            level = table.level
            entry = table.entries.get(self._index(table, address), 0)
            if not is_valid(entry, level):
                return None
            if not is_table_entry(entry, level):
                return entry, level
            table = self._tables.get(self._addresses.address(entry))
        return None

    def stale(self, address: int) -> list[Stale]:
        """What a TLB of this CPU may hold for an address that the table does not say."""
        leaf = self.leaf(address)
        found = []
        for one in self.held.over(address):
            is_current = leaf is not None and leaf[1] == one.level and same_for_hardware(one.entry, leaf[0], one.level)
            if not is_current and not one.is_gone(LOCAL):
                found.append(one)
        return found

    def is_abandoned(self, address: int) -> bool:
        """Whether a TLB may hold something for an address from a tree that was under test before."""
        return any(
            self._covers(one, address) and is_valid(one.entries.get(self._index(one, address), 0), one.level or 0)
            for one in self._abandoned
        )

    # What stores do.

    def _store(self, event: Event) -> None:
        at = self._entry_at(event)
        if at is None:
            return
        table, index = at
        place, old = self._place(table, index), table.entries.get(index, 0)
        if place is not None:
            self._take(place, table, old, event.b)
        self._put(table, index, event.b)
        if place is not None and is_valid(event.b, place[2]):
            self._make(place, event.b)

    def _plant(self, event: Event) -> None:
        at = self._entry_at(event)
        place = None if at is None else self._place(*at)
        self._by_program = True
        if at is not None and place is not None:
            self._take(place, at[0], at[0].entries.get(at[1], 0), event.b)
        super()._plant(event)
        self._by_program = False
        if place is not None:
            self._return(place, event.b)

    def _take(self, place: Place, table: Table, old: int, new: int) -> None:
        """An entry of the tree goes, or changes."""
        _, ipa, level = place
        if not may_be_cached(old, level) or same_for_hardware(old, new, level):
            return
        is_in_place = is_valid(new, level) and not needs_break(old, new)
        duty = Duty.PROGRAM if self._by_program else duty_of(self._op, is_in_place)
        if is_in_place and is_harmless(old, new, self._is_stage_1):
            duty = Duty.GRANTS_LESS
        elif is_in_place and self._is_nested and self._op is not None and self._op.name in LOG_OPS:
            duty = Duty.NESTED_LOG
        child = self._child(table, old) if is_table_entry(old, level) else None
        one = self._forget(ipa, level, old, child, duty)
        if is_valid(new, level) and not is_in_place and duty is None:
            self._tell("bbm-direct", level, f"{one} becomes {new:#x} with nothing invalid in between", Rules.BREAK)
            one.duty = Duty.TOLD
        if child is not None and child is not self._child(table, new):
            self._take_below(child, one.duty)

    @property
    def _is_nested(self) -> bool:
        """Whether it is the table of another MMU of the VM in use than that one's first."""
        return self._only not in (None, self._mmus.first) and self._mmus.vm_of(self._mmu) == self._mmus.vm

    def _take_below(self, table: Table, duty: Duty | None, below: bool = True) -> None:
        """A table is out of the tree, with all that its entries say."""
        for (_, ipa, level), entry, child in self._leave(table, below):
            if may_be_cached(entry, level):
                self._forget(ipa, level, entry, child, duty)

    def _forget(self, ipa: int, level: int, entry: int, child: Table | None, duty: Duty | None) -> Stale:
        one = Stale(ipa, level, entry, child, self._clock, self._record, duty)
        self.held.add(one)
        if duty is None:
            self._open.append(one)
        if child is not None:
            self._ways[child] = one
        return one

    def _return(self, place: Place, new: int) -> None:
        """The table says again what it said before."""
        _, ipa, level = place
        for one in [one for one in self.held.at(ipa, level) if same_for_hardware(one.entry, new, level)]:
            self.held.discard(one)
            one.combined[:] = True, True

    def _make(self, place: Place, new: int) -> None:
        """A valid entry comes: of what it replaces, nothing may be cached."""
        self._return(place, new)
        _, ipa, level = place
        end = ipa + self.held.size(level)
        if not self._open:
            return
        left = [
            one
            for one in self._still_open()
            if one.level >= level and ipa <= one.ipa < end and (one.level != level or needs_break(one.entry, new))
        ]
        if not left:
            return
        word, phrase, rule = self._lacking(left[0])
        self._tell(f"bbm-{word}", level, f"when {new:#x} takes its place, {left[0]} may be cached: {phrase}", rule)
        for one in left:
            one.duty = Duty.TOLD

    # What becomes of tables.

    def _freed(self, table: Table) -> None:
        way = self._ways.pop(table, None)
        if table.root:
            self._freed_in_tree(table)
        elif way is not None and way.duty is None and not self._by_program and not way.is_gone(EVERYWHERE):
            word, phrase, rule = self._lacking(way)
            text = f"a table is freed while a TLB may hold {way}, which leads to it: {phrase}"
            self._tell(f"freed-{word}", way.level, text, Rules.FREED if rule is Rules.INVALIDATED else rule)
            way.duty = Duty.TOLD

    def _freed_in_tree(self, table: Table) -> None:
        duty: Duty | None = Duty.PROGRAM if self._by_program else duty_of(self._op, False)
        if duty is None:
            level = None if table.level is None else table.level - 1
            self._tell("freed-reachable", level, f"a table for {table.ipa:#x} is freed in the tree", Rules.FREED)
            duty = Duty.TOLD
        parent = table.parent
        if parent is not None and parent.freed is None and parent.level is not None:
            self._forget(table.ipa, parent.level, parent.entries.get(table.index, 0), None, duty)
        self._take_below(table, duty, below=False)

    def _rooted(self) -> None:
        self._root_tables = [one for one in self._tables.values() if one.root == self._roots]

    def _forget_root(self) -> None:
        self._abandon()
        super()._forget_root()

    def _abandon(self) -> None:
        """The tree is under test no more, by the header's leave. A TLB may hold any of it."""
        self._abandoned += [one for one in self._root_tables if one.root and one.entries]
        for table in self._tables.values():
            table.root = 0
        self._root_tables = []

    def _covers(self, table: Table, address: int) -> bool:
        if table.level is None:
            return False
        return table.ipa <= address < table.ipa + (self._granule.entries << self._granule.level_shift(table.level))

    def _index(self, table: Table, address: int) -> int:
        return address - table.ipa >> self._granule.level_shift(table.level or 0)

    # What is lacking.

    def _tell(self, what: str, level: int | None, text: str, rule: Rules, is_excused: bool = False) -> None:
        if self._mmu != FIRST_MMU:
            text = f"of MMU {MMU.format(self._mmu - 1)}: {text}"
        self.problems.append(StaleProblem(self._record, what, level, text, rule.value, is_excused))

    def _still_open(self) -> list[Stale]:
        """Of those that the op has made stale, what it must still invalidate."""
        self._open = [one for one in self._open if one.duty is None and not one.is_gone(EVERYWHERE)]
        return self._open

    def _lacking(self, one: Stale) -> tuple[str, str, Rules]:
        """What an entry's invalidation is without: for a bucket, for people, and by which rule."""
        rule = self._rule_of(one)
        if rule is Rules.INVALIDATED and any(self._came_early(tlbi, one) for tlbi in self.cpu.issued):
            return *TOO_EARLY, Rules.STORED
        return *LACKING[rule], rule

    def _rule_of(self, one: Stale) -> Rules:
        """The rule by which it is not gone."""
        pending = [tlbi for tlbi in self.cpu.pending if self._names(tlbi, one)]
        if one.stage[EVERYWHERE] is not None:
            waits = any(tlbi.in_context and self.cpu.parts(tlbi) & Part.COMBINED for tlbi in pending)
            return Rules.COMPLETED if waits else one.missed or Rules.STAGES
        if one.stage[LOCAL] is not None:
            return Rules.SHARED
        missed = [missed_by(tlbi, one) for tlbi in pending if self.cpu.parts(tlbi) & Part.STAGE]
        if None in missed:
            return Rules.COMPLETED
        return one.missed or (missed[-1] if missed else None) or Rules.INVALIDATED

    def _came_early(self, tlbi: Tlbi, one: Stale) -> bool:
        is_hit = self._names(tlbi, one) and passed_over(tlbi.what, one.entry, one.level) is None
        return tlbi.at < one.since and is_hit and bool(self.cpu.parts(tlbi) & Part.STAGE)

    def _names(self, tlbi: Tlbi, one: Stale) -> bool:
        return overlaps(tlbi.what, one.ipa, self.held.size(one.level), self._is_stage_1)
