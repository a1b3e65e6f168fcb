"""Whether the handler of aborts keeps its rules, judged by what one side observes.

The memcache is there so that nothing need be allocated under the MMU's lock. So the handler takes pages only from a
cache that it has topped up itself, and where it goes by the fault's granule (the thread "KVM: arm64: Distinguish cases
of memcache allocations completely", 2021), it tops up only where a table is needed. What may sleep is not done under
the lock, which is dropped at the end. And after a result of 0 the guest gets on: at the latest in its third round.

Which rule keeps this, and when, is weighed (`harness.verdict.topup_rules`): the handler is ours, and a program that
shows what a rule comes to is an example. A finding is what the rule does not account for (`surprises`).
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from harness.amounts import counted
from harness.observation.events import ALLOC, PLANTED, STORE_KINDS, each_event
from harness.observation.layout import LOCKING, LOCKING_REPORTS, Observation, Record
from harness.program.definition import Op
from harness.program.machine import KNOBS_BY_NAME, Machine
from harness.program.program import Program

_BY_STATUS: Final = KNOBS_BY_NAME["topup_rule"].names.index("fault_status")
STUCK: Final = "stuck"
WRONGS: Final = ("untopped", "needless", STUCK, *LOCKING_REPORTS.values())
"""What may be wrong with a handling, in a word each."""
_HANDLES: Final = frozenset({"handle", "memslot_handle"})
_RESULTS: Final = 4
"""Those that both have."""
_ROUNDS: Final = 3
"""In which the guest gets on."""
OF_LOCKS: Final = {
    "sleeps-in-atomic": "the memcache was topped up, which may sleep, with the MMU's lock held",
    "left-held": "it returned with the MMU's lock held",
}


@dataclass(frozen=True, slots=True)
class Handling:
    """One `handle` or `memslot_handle` that handled an abort.

    `size`, `topped_up`, `added` and `used` are its results; `asked` counts the pages that its walk asked for, whether
    it got them or not. `stale` says that the table was changed between the access and this, and `tampered` that entries
    are as somebody else has written them. `retried` says that the same access followed, and `again` that it aborted
    again, though the result was 0; `round` counts such, of this access and this handling with nothing in between, from
    1. `broken` is what locks complained of; `access` and `esr` are the access that aborted and its syndrome."""

    record: int
    ret: int | None
    size: int
    topped_up: bool
    added: int
    used: int
    asked: int
    stale: bool
    tampered: bool
    retried: bool
    again: bool
    round: int
    broken: tuple[str, ...]
    access: Op
    esr: int


@dataclass(frozen=True, slots=True)
class AbortProblem:
    """What is wrong with one handling. `what` is short and stable; `stale` is as there. `record` is the handling's or,
    where the guest is stuck, its access's."""

    record: int
    what: str
    text: str
    stale: bool


def handles_aborts(program: Program) -> bool:
    """Whether there is anything to judge in a program."""
    return any(op.name in _HANDLES for op in program.ops)


def problems(program: Program, seen: Observation) -> Iterator[AbortProblem]:
    """What is wrong with the handlings of a program that one side observed, in order."""
    for one in handlings(program, seen):
        for what, text in wrong(one, program.machine):
            yield AbortProblem(one.record + (what == STUCK), what, text, one.stale)


def surprises(program: Program, seen: Observation) -> Iterator[AbortProblem]:
    """Those of the problems that the rule does not account for: then it is the page-table code, or the handler.

    Accounted for is what the table's change since the access has brought about; what Linux's rule forgets, permission
    faults that break a block for another access than a write (`corpora/violations/abort_untopped_exec.s2`); blocks that
    the setting `force_pte` has mapped in pages; and locks, where the patch is as it was posted."""
    rule = KNOBS_BY_NAME["topup_rule"].names[program.machine["topup_rule"]]
    known = {
        "fault_status": {"untopped"},
        "fault_granule": {"untopped"} if program.machine["force_pte"] else set(),
        "posted": {"sleeps-in-atomic", "left-held"} | ({"untopped"} if program.machine["force_pte"] else set()),
    }[rule]
    for one in problems(program, seen):
        excused = one.stale and one.what in ("untopped", "needless")
        if one.what not in known and not excused:
            yield one


def wrong(one: Handling, machine: Machine) -> Iterator[tuple[str, str]]:
    """What is wrong with one handling: what, short and stable, and a sentence."""
    by_granule = machine["topup_rule"] != _BY_STATUS
    if one.asked and not one.topped_up:
        yield "untopped", f"{counted(one.asked, 'page')} asked of a memcache that was not topped up for it"
    if by_granule and one.topped_up and one.ret == 0 and not one.used and not one.tampered:
        yield "needless", "the memcache was topped up, and no table was needed"
    for rule in one.broken:
        yield rule, OF_LOCKS.get(rule, f"locks complain: {rule}")
    if one.again and one.round >= _ROUNDS and not one.tampered:
        yield STUCK, f"the access still aborts after {counted(one.round, 'round')} that ended with 0"


def _asked_for(record: Record) -> int:
    """The pages that the walk asked for; not what somebody else took for a table that they put there meanwhile."""
    kinds = [event.kind for event in each_event(record.events)]
    return sum(kind == ALLOC and after != PLANTED for kind, after in pairwise([*kinds, 0]))


def handlings(program: Program, seen: Observation) -> Iterator[Handling]:
    """The handlings of a program that one side observed, in order."""
    done = list(zip(program.ops, seen.records[1:], strict=False))
    written = _Written()
    fault: int | None = None
    last: tuple[int, Op, int] | None = None
    for at, (op, record) in enumerate(done):
        stale = written.changed
        written.add(record)
        if op.name == "fault":
            fault = at if record.ret == -errno.EFAULT else None
            written.changed = False
        if op.name not in _HANDLES or len(record.outs) < _RESULTS or fault is None:
            continue
        is_next = fault == at - 1
        repeats = is_next and last is not None and last[:2] == (at - 2, op) and done[at - 3][0] == done[fault][0]
        number = last[2] + 1 if last is not None and repeats else 1
        retried = [record for op, record in done[at + 1 : at + 2] if op == done[fault][0]]
        again = record.ret == 0 and any(record.ret == -errno.EFAULT for record in retried)
        size, topped_up, added, used = record.outs[:_RESULTS]
        broken = [LOCKING_REPORTS.get(one.code, str(one)) for one in record.complaints if one.kind == LOCKING]
        yield Handling(
            at + 1,
            record.ret,
            size,
            bool(topped_up),
            added,
            used,
            _asked_for(record),
            stale,
            bool(written.planted),
            bool(retried),
            again,
            number,
            tuple(broken),
            done[fault][0],
            done[fault][1].outs[0],
        )
        last = (at, op, number) if record.ret == 0 else None


class _Written:
    """What was written to entries: whether anything since `changed` was last cleared, and which are as somebody else
    has `planted` them."""

    def __init__(self) -> None:
        self.changed = False
        self.planted: set[int] = set()

    def add(self, record: Record) -> None:
        """Take in what an op wrote."""
        for event in each_event(record.events):
            if event.kind not in STORE_KINDS:
                continue
            self.changed = True
            if event.kind == PLANTED and event.b:
                self.planted.add(event.a)
            else:
                self.planted.discard(event.a)
