"""Metamorphic relations: two programs that must come to the same on one side, though neither says to what.

A relation takes a program and what came of it, and makes others of which it knows what must come: the same maplets at
the end. Its premise is checked on the observation first; where it does not hold, it makes none. What it is called and
its docstring go into docs/contracts.md, as for contracts.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final, NamedTuple

from harness.errors import BadInput
from harness.observation.executor import Executor
from harness.observation.layout import Observation
from harness.program.definition import Op
from harness.program.granule import GRANULES, Granule
from harness.program.kinds.kind import Role
from harness.program.machine import Machine
from harness.program.ops import op_of
from harness.program.program import Program
from harness.program.space import U64_MAX
from harness.verdict.contracts.contract import Contract, Violation
from harness.verdict.contracts.replay import transitions
from harness.verdict.contracts.states import Transition
from harness.verdict.contracts.terms import range_of
from harness.verdict.maplets import Change, changes

_CHANGES_STAGE_2: Final = frozenset(("map", "unmap", "set_owner", "wrprotect"))
_OTHERS: Final = frozenset(("plant", "race", "link", "fail_alloc"))
_MOST: Final = 2
"""Variants that one relation makes of a program."""


class Variant(NamedTuple):
    """A program to run beside another one: after its first `ops` ops it must say what the other says after its first
    `of`. The other is the program that was observed, or `base`."""

    program: Program
    ops: int
    of: int
    base: Program | None = None


Make = Callable[[Program, Sequence[Transition]], Iterator[Variant]]


@dataclass(frozen=True, slots=True)
class Relation:
    """One relation: its name, and what makes the variants."""

    name: str
    make: Make = field(compare=False)

    @property
    def promise(self) -> str:
        """In plain words."""
        return " ".join((self.make.__doc__ or "").split())

    @property
    def contract(self) -> Contract:
        """The relation as a contract, for who tells of both alike."""

        def asked_elsewhere(_op: Transition) -> None:
            """With programs of its own: see `broken_relations`."""

        asked_elsewhere.__doc__ = self.promise
        return Contract(self.name, (), "two programs that must come to the same", False, asked_elsewhere)


@dataclass(frozen=True, slots=True)
class Broken:
    """A relation that does not hold: the variant, and the first addresses that differ."""

    relation: Relation
    variant: Variant
    change: Change

    @property
    def sentence(self) -> str:
        return f"{self.change}, in a program that must come to the same"


def broken_relations(executor: Executor, program: Program, observation: Observation) -> list[Broken]:
    """The relations that do not hold on a side of which this is what it observed of a program. Runs the variants there.
    None of a program in which others write entries, or allocations are made to fail. Raises TargetDied."""
    if any(op.name in _OTHERS for op in program.ops):
        return []
    steps = list(transitions(program, observation))
    found = []
    for relation in RELATIONS:
        for number, variant in enumerate(relation.make(program, steps)):
            if number == _MOST:
                break
            change = _differs(executor, steps, variant)
            if change is not None:
                found.append(Broken(relation, variant, change))
    return found


def relation_violations(executor: Executor, program: Program, observation: Observation) -> list[Violation]:
    """The same as what breaks a contract: of the last op that ran. Raises TargetDied."""
    found = broken_relations(executor, program, observation)
    if not found:
        return []
    last = list(transitions(program, observation))[-1]
    return [Violation(one.relation.contract, last.number, last.op.name, one.sentence, last) for one in found]


def _differs(executor: Executor, steps: Sequence[Transition], variant: Variant) -> Change | None:
    mine = steps[: variant.of + 1] if variant.base is None else _run(executor, variant.base, variant.of)
    theirs = _run(executor, variant.program, variant.ops)
    if not mine or not theirs:
        return None
    return next(changes(mine[-1].after.all_maplets, theirs[-1].after.all_maplets), None)


def _run(executor: Executor, program: Program, ops: int) -> list[Transition]:
    """The first `ops` ops; nothing where the budget cuts them, or memory ran out: then it is another program. Nothing
    either on a side that runs no such program: one of another granule."""
    beginning = program.prefix(ops)
    try:
        steps = [*transitions(beginning, executor.observe(beginning))]
    except BadInput:
        return []
    cut = len(steps) <= ops or steps[-1].record.ret is None
    return [] if cut or any(step.record.ret == -errno.ENOMEM for step in steps) else steps


def _succeeded(step: Transition) -> bool:
    return step.record.ret == 0


def _with(program: Program, at: int, *ops: Op, instead: int = 1) -> Program:
    """The program with other ops in place of some from the `at`-th on."""
    return replace(program, ops=(*program.ops[:at], *ops, *program.ops[at + instead :]))


def _of_range(op: Op, start: int, size: int) -> Op:
    """The op on another part of its range; what it maps moves along."""
    values = list(op.args)
    for place, arg in enumerate(op.definition.args):
        if arg.kind.role is Role.PHYS:
            values[place] = op.args[place] + start - op.value("ipa")
    assert op.definition.address is not None
    assert op.definition.size is not None
    values[op.definition.address], values[op.definition.size] = start, size
    return Op(op.definition, tuple(values))


def _fresh_maps(steps: Sequence[Transition]) -> Iterator[tuple[Transition, int, int]]:
    """Maps that succeeded, of whole pages of which nothing was mapped or annotated, with their range."""
    for step in steps[1:]:
        span = range_of(step)
        if step.op.name != "map" or not _succeeded(step) or span is None or span[0] == span[1]:
            continue
        if step.value("phys") + step.value("size") > U64_MAX:
            continue
        if step.value("ipa") == span[0] and step.value("size") == span[1] - span[0] and not step.before.maplets(*span):
            yield step, *span


def two_calls_for_one(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """A map of a range of which nothing is mapped or annotated comes to the same in two calls for its halves, as long
    as both have memory for their tables."""
    page = program.machine.granule.page
    for step, start, end in _fresh_maps(steps):
        half = (end - start) // 2 & -page
        if half and not step.after.maplets(start, end)[1:]:
            two = _of_range(step.op, start, half), _of_range(step.op, start + half, end - start - half)
            ops = [_with_cache(op) for op in two]
            yield Variant(_with(program, step.number - 1, *ops), step.number + 1, step.number)


def _with_cache(op: Op) -> Op:
    """The op with a memcache that lasts, if it takes one."""
    values = [
        _FULL_CACHE if arg.name == "mc" else value for arg, value in zip(op.definition.args, op.args, strict=True)
    ]
    return Op(op.definition, tuple(values))


_FULL_CACHE: Final = 9
"""As the argument has it: 8 pages."""


def map_unmap_map(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """Where nothing was mapped or annotated in a range, to map, unmap and map it comes to the same as to map it."""
    for step, start, end in _fresh_maps(steps):
        unmap = op_of("unmap", ipa=start, size=end - start)
        again = _with_cache(step.op)
        yield Variant(_with(program, step.number, unmap, again, instead=0), step.number + 2, step.number)


def unmap_or_owner_0(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """With memory enough for tables and no locked entry, to give a range to owner 0 leaves what to unmap it leaves
    (seed 000: the unmap walker could be re-expressed as set_owner(0), but for cleaning)."""
    for step in steps[1:]:
        span = range_of(step)
        if step.op.name == "unmap" and _succeeded(step) and span is not None and span[0] < span[1]:
            owner = op_of("set_owner", ipa=span[0], size=span[1] - span[0], mc=_FULL_CACHE, owner=0)
            yield Variant(_with(program, step.number - 1, owner), step.number, step.number)


def handed_over_and_back(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """A caller that hands over what it owns, whole pages of which nothing was mapped or annotated before it mapped
    them, and is handed back them, by set_owner(0) and map, has what it had."""
    for step, start, end in _fresh_maps(steps):
        over, back = (op_of("set_owner", ipa=start, size=end - start, mc=_FULL_CACHE, owner=owner) for owner in (1, 0))
        if end - start <= _FEW_PAGES * program.machine.granule.page:  # an annotation takes a table of pages
            ops = over, back, _with_cache(step.op)
            yield Variant(_with(program, step.number, *ops, instead=0), step.number + 3, step.number)


_FEW_PAGES: Final = 512


def an_abort_handled_again(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """To handle an abort once more, as another vCPU's that made the same access, comes to what handling it once does,
    if nothing happened in between."""
    for step in steps[1:]:
        if step.op.name == "handle" and _succeeded(step):
            yield Variant(_with(program, step.number, step.op, instead=0), step.number + 1, step.number)


def either_order(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """Two operations that succeed, on ranges that share no block of the largest size, come to the same in either
    order."""
    largest = 1 << program.machine.granule.level_shift(1)
    for first, second in pairwise(steps[1:]):
        spans = range_of(first), range_of(second)
        names = first.op.name, second.op.name
        if not all(_succeeded(one) for one in (first, second)) or not _CHANGES_STAGE_2.issuperset(names):
            continue
        if spans[0] is None or spans[1] is None:
            continue
        (a, b), (c, d) = ((start // largest, (end - 1) // largest) for start, end in (spans[0], spans[1]))
        if b < c or d < a:
            swapped = (_with_cache(second.op), _with_cache(first.op))
            yield Variant(_with(program, first.number - 1, *swapped, instead=2), second.number, second.number)


def another_granule(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """Those operations of a program whose addresses and sizes are multiples of the largest blocks of both granules,
    and which name no level, come to the same with pages of another size."""
    if program.machine["stage"] != 2 or not _is_plain(program.machine):
        return
    for number, granule in enumerate(GRANULES):
        if granule is program.machine.granule or program.machine["pool_base"] % granule.page:
            continue
        unit = max(_largest(granule), _largest(program.machine.granule))
        ops = tuple(_with_cache(op) for op in program.ops if op.name in _CHANGES_STAGE_2 and _is_multiple(op, unit))
        if any(op.name == "map" for op in ops):
            machine = program.machine.replace("granule", number)
            yield Variant(replace(program, machine=machine, ops=ops), len(ops), len(ops), replace(program, ops=ops))


def _is_plain(machine: Machine) -> bool:
    # With a guest, a page of its own is mapped from the beginning.
    return not any(machine[name] for name in ("lpa2", "pa_bits_52", "force_pte", "guest"))


def _largest(granule: Granule) -> int:
    return 1 << granule.level_shift(1) if granule.has_large_blocks else granule.block


def _is_multiple(op: Op, unit: int) -> bool:
    roles = (Role.ADDRESS, Role.SIZE, Role.PHYS)
    return all(
        value % unit == 0 for arg, value in zip(op.definition.args, op.args, strict=True) if arg.kind.role in roles
    )


def other_maintenance(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """Whether the CPU forces write-back, invalidates ranges, or takes hints of levels changes what it takes to change a
    table, and nothing of what the table says."""
    if steps[-1].record.ret is None:
        return
    for knob in ("fwb", "tlb_range", "ttl"):
        if program.machine["stage"] != 2 or (knob == "fwb" and program.machine["nofwb"]):
            continue
        machine = program.machine.replace(knob, 1 - program.machine[knob])
        yield Variant(replace(program, machine=machine), len(steps) - 1, len(steps) - 1)


def more_memory(program: Program, steps: Sequence[Transition]) -> Iterator[Variant]:
    """More pages in the pool change nothing before the first operation that failed for lack of them."""
    failed = next((step.number for step in steps if step.record.ret == -errno.ENOMEM), None)
    last = len(steps) - 1 if failed is None else failed - 1
    if last < 1 or steps[last].record.ret is None:
        return
    pages = program.machine["pool_pages"]
    if pages < _MANY_PAGES:
        yield Variant(replace(program, machine=program.machine.replace("pool_pages", 2 * pages)), last, last)


_MANY_PAGES: Final = 100

RELATIONS: Final = tuple(
    Relation(make.__name__.replace("_", "-"), make)
    for make in (
        two_calls_for_one,
        map_unmap_map,
        unmap_or_owner_0,
        handed_over_and_back,
        an_abort_handled_again,
        either_order,
        another_granule,
        other_maintenance,
        more_memory,
    )
)
"""All of them."""
