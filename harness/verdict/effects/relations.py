"""What the effects of an op are, in relations between its events: which of them hold, entry by entry."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from harness.observation.descriptors import address_field
from harness.observation.tlbi import Invalidation, Target
from harness.verdict.effects.done import NEVER_EXECUTED, XN, Effects, Gone, Made, Tlbi
from harness.verdict.effects.maintained import NEVER
from harness.verdict.trees import Place


class Told(NamedTuple):
    """What a side did, and by which event of the op (None: by none)."""

    what: str
    number: int | None = None

    def __str__(self) -> str:
        return self.what if self.number is None else f"{self.what} #{self.number}"


class Mark(NamedTuple):
    """Whether a relation holds on one side. `what` is lacking where it does not, in one phrase; `asked_for` says that
    the architecture asks for it."""

    holds: bool
    what: str
    asked_for: bool
    told: tuple[Told, ...]


NOTHING_DUE: Final = Mark(True, "", False, (Told("has nothing to do here"),))

_RELATIONS: Final = (
    *("complaint", "broken", "make", "free", "end", "everywhere", "visible", "cleaned", "icache"),
    *("cleaned after", "tlb", "flushed", "barrier", "isb", "pages", "references"),
)
"""What weighs most comes first."""
_LEAVES_TO_CALLERS: Final = "kvm_pgtable_stage2_set_owner"
"""A function whose stores are waited for only where an invalidation happens to."""
OF_BREAKS: Final = frozenset(("broken", "make", "free", "end", "everywhere"))
_MEMATTR_CACHEABLE: Final = 1 << 5
"""Of MemAttr without FEAT_S2FWB: write-through or write-back (Arm ARM, stage 2 MemAttr[3:2])."""
_VA_MASK: Final = (1 << 56) - 1
"""What an operand has of hyp's address."""
RANKS: Final[Mapping[str, int]] = {relation: rank for rank, relation in enumerate(_RELATIONS)}

Key = tuple[str, Place | None]
Marks = dict[Key, Mark]


def relations(effects: Effects) -> Marks:
    """Every relation that an op had to do with."""
    invalidations = _Invalidations(effects)
    maintenance = _Maintenance(effects)
    marks: Marks = {}
    for gone in effects.gone:
        done = invalidations.of(gone)
        for relation, mark in (*_of_gone(gone, done), *maintenance.after(gone, done)):
            _keep(marks, (relation, gone.place), mark)
    for made in effects.made:
        for relation, mark in maintenance.before(made):
            _keep(marks, (relation, made.place), mark)
    for place, is_visible, number in effects.links:
        told = (Told("linked", number), Told("its contents visible" if is_visible else "its contents perhaps not"))
        _keep(marks, ("visible", place), Mark(is_visible, "table not visible before make", True, told))
    if effects.last_made != NEVER and _LEAVES_TO_CALLERS not in effects.definition.functions:
        made_told = Told("last store", effects.last_made_number)
        holds = effects.last_barrier > effects.last_made
        told = (made_told, Told("a barrier behind it" if holds else "no barrier behind it"))
        marks["barrier", None] = Mark(holds, "no barrier at end", False, told)
        if effects.is_stage_1:
            holds = effects.last_isb > effects.last_made
            told = (made_told, Told("an ISB behind it" if holds else "no ISB behind it"))
            marks["isb", None] = Mark(holds, "no isb at end", False, told)
    return marks


class _Done(NamedTuple):
    """When an entry that went was gone from all TLBs, None if never; how far it came; whether on all CPUs; and by
    what."""

    at: int | None
    status: int
    everywhere: bool
    told: Told


def _of_gone(gone: Gone, done: _Done) -> Iterator[tuple[str, Mark]]:
    """What an entry that went was given."""
    cause, status = gone.cause, done.status
    start = _start_of(gone)
    asked_for = not gone.is_weaker
    ends = (Told("made", cause.made_number),) if cause.made is not None else ()
    if cause.made is not None and not gone.is_weaker:
        yield "broken", Mark(not cause.is_direct, "not broken before make", True, (start, *ends))
        holds = done.at is not None and done.at < cause.made
        yield "make", Mark(holds, _phrase(status, " before make"), True, (start, done.told, *ends))
    if gone.child is not None and gone.child.freed is not None:
        holds = done.at is not None and done.at < gone.child.freed
        freed = Told("its table freed", gone.child.freed_number)
        yield "free", Mark(holds, _phrase(status, " before free"), True, (start, done.told, freed))
    yield "end", Mark(done.at is not None, _phrase(status, ""), asked_for, (start, done.told, *ends))
    lacking = _phrase(status, "") if done.at is None else "invalidated on this CPU alone"
    yield "everywhere", Mark(done.everywhere, lacking, asked_for, (start, done.told))


def _start_of(gone: Gone) -> Told:
    return Told("left as it was") if gone.cause.at is None else Told("gone", gone.cause.number)


class _Maintenance:
    """What memory was given before or after an entry made it reachable."""

    def __init__(self, effects: Effects) -> None:
        machine = effects.machine
        self._effects = effects
        self._cleans = not effects.is_stage_1 and not machine.forces_write_back
        self._address = address_field(machine).address
        self._level_shift = machine.granule.level_shift

    def after(self, gone: Gone, done: _Done) -> Iterator[tuple[str, Mark]]:
        """Of the memory of an entry that is not made again."""
        cause, dcache = gone.cause, self._effects.dcache
        if gone.child is not None or cause.made is not None or gone.is_weaker:
            return
        if not self._cleans or not gone.entry & _MEMATTR_CACHEABLE:
            return
        start = _start_of(gone)
        memory, size = self._memory(gone.place[2], gone.entry)
        since = cause.at if done.at is None else done.at
        number = None if since is None else dcache.when(memory, size, after=since)
        if number is not None:
            yield "cleaned after", Mark(True, "", False, (start, done.told, Told("cleaned", number)))
            return
        early = dcache.when(memory, size)
        cleaned = Told("not cleaned") if early is None else Told("cleaned", early)
        what = "not cleaned" if early is None else "cleaned before invalidation"
        yield "cleaned after", Mark(False, what, False, (start, done.told, cleaned))

    def before(self, made: Made) -> Iterator[tuple[str, Mark]]:
        """Of the memory of a leaf, before it could be reached."""
        if self._effects.is_stage_1:
            return
        memory, size = self._memory(made.place[2], made.entry)
        may_run = made.entry & XN != NEVER_EXECUTED
        needs_cleaning = self._cleans and not made.is_stronger and bool(made.entry & _MEMATTR_CACHEABLE)
        for relation, is_due, maintained, verb in (
            ("cleaned", needs_cleaning, self._effects.dcache, "cleaned"),
            ("icache", may_run, self._effects.icache, "instruction cache invalidated"),
        ):
            if not is_due:
                continue
            number = maintained.when(memory, size, before=made.at)
            late = maintained.when(memory, size) if number is None else number
            act = Told(f"not {verb}") if late is None else Told(verb, late)
            what = f"{'' if verb == 'cleaned' else 'instruction cache '}not {verb.split()[-1]} before make"
            yield relation, Mark(number is not None, what, True, (act, Told("made", made.number)))

    def _memory(self, level: int, entry: int) -> tuple[int, int]:
        """Physical address and bytes of what a leaf maps."""
        return self._address(entry), 1 << self._level_shift(level)


class _Invalidations:
    """Those of an op, by what they reach."""

    def __init__(self, effects: Effects) -> None:
        self._granule = effects.machine.granule
        self._stage_1 = effects.is_stage_1
        useful = [one for one in effects.tlbis if self._is_ours(one.what)]
        self._others = [one for one in useful if one.what.start is None or one.what.size is not None]
        self._by_address = sorted(
            (one for one in useful if one.what.start is not None and one.what.size is None), key=self._start
        )
        self._starts = [self._start(one) for one in self._by_address]

    def of(self, gone: Gone) -> _Done:
        """How far the invalidation of an entry that went came."""
        since, is_table = gone.cause.at, gone.child is not None
        if since is None:
            return _Done(None, _NOT_AT_ALL, False, Told("not invalidated"))
        _, ipa, level = gone.place
        size = 1 << self._granule.level_shift(level)
        done, status, everywhere, number = None, _NOT_AT_ALL, False, None
        for one in self._candidates(ipa & _VA_MASK if self._stage_1 else ipa, size):
            reached = self._progress(one, level, is_table, since)
            if reached == _DONE:
                everywhere |= one.everywhere
                if done is None or (one.after is not None and one.after < done):
                    done, number = one.after, one.number
            elif done is None and reached > status:
                number = one.number
            status = max(status, reached)
        return _Done(done, status, everywhere, Told(_TOLD[status], number))

    def _is_ours(self, what: Invalidation) -> bool:
        """Whether it is of the regime and stage of the table under test, and does anything."""
        if what.flaw is not None or what.operation.regime != (2 if self._stage_1 else 1):
            return False
        if what.page_shift is not None and what.page_shift != self._granule.shift:
            return False
        return self._stage_1 or what.operation.target not in (Target.STAGE_1, Target.STAGE_1_OF_VMID)

    def _start(self, one: Tlbi) -> int:
        assert one.what.start is not None
        return one.what.start & _VA_MASK if self._stage_1 else one.what.start

    def _candidates(self, ipa: int, size: int) -> Iterator[Tlbi]:
        """Whatever reaches some of an entry's addresses."""
        for at in range(bisect_left(self._starts, ipa), len(self._starts)):
            if self._starts[at] >= ipa + size:
                break
            yield self._by_address[at]
        for one in self._others:
            if one.what.size is None or ((start := self._start(one)) < ipa + size and ipa < start + one.what.size):
                yield one

    @staticmethod
    def _progress(one: Tlbi, level: int, is_table: bool, since: int) -> int:
        what = one.what
        # A hint is of the level of a leaf, so that one that hints any is not for tables.
        if (what.operation.last_level_only and is_table) or what.level not in (None, None if is_table else level):
            return _OTHER_LEVEL
        if one.at < since:
            return _TOO_EARLY
        if one.before < since:
            return _UNORDERED
        return _UNFINISHED if one.after is None else _DONE


_NOT_AT_ALL, _OTHER_LEVEL, _TOO_EARLY, _UNORDERED, _UNFINISHED, _DONE = range(6)
"""How far the invalidation of an entry came."""
_TOLD: Final = (
    "not invalidated",
    "invalidated at another level",
    "invalidated too early",
    "invalidated without a barrier before",
    "invalidated but not waited for",
    "invalidated",
)
_LACKING: Final = (
    "no invalidation",
    "invalidated at another level",
    "invalidated too early",
    "no barrier before invalidation",
    "invalidation not waited for",
    "no invalidation",
)


def _phrase(status: int, deadline: str) -> str:
    """What is lacking. One that is complete was too late for the deadline."""
    return _LACKING[status] + (deadline if status in (_NOT_AT_ALL, _DONE) else "")


def _keep(marks: Marks, key: Key, mark: Mark) -> None:
    """Of several, the one that does not hold."""
    if key not in marks or marks[key].holds:
        marks[key] = mark
