"""Makes the program of a finding small and readable, keeping the bucket it falls into.

Named passes propose programs that are simpler by `cost`; one that falls into the bucket is gone on with. They are
repeated until none of them finds anything simpler: a fixpoint. Nothing here is random, nor depends on a clock. The
passes know kinds of argument and knobs, not operations: one that is added is minimised without a line here.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from fuzz.triage.telling import is_telling, telling_variant
from harness.errors import BadInput
from harness.program.definition import Arg, Op
from harness.program.kinds.kind import Kind, Role, level_shifts
from harness.program.machine import KNOBS, Knob, Machine
from harness.program.program import Program
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Verdict

Steps = Generator[Program, bool, None]
"""A pass under way: it proposes programs, and is told of each whether it was taken."""


@dataclass(frozen=True, slots=True)
class Minimised:
    """What came of minimising: `verdict` is that on `program`, on fresh targets. `complete` is whether it is a
    fixpoint, which it is unless the tries were used up."""

    program: Program
    verdict: Verdict
    tries: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Step:
    """How far minimising has come, for whoever watches."""

    name: str
    """Of the pass."""
    tries: int
    program: Program


class NotReproduced(BadInput):
    """The program does not fall into its bucket (any more)."""


class _UsedUp(Exception):
    """There are no tries left."""


def minimise(
    program: Program,
    judge: Judge,
    bucket: str | None = None,
    told: Callable[[Step], None] = lambda _: None,
    most: int | None = None,
) -> Minimised:
    """The simplest program that the passes come to, in `bucket`: that of `program` by default; one that shows what is
    wrong (`fuzz.triage.telling`), where `program` does or another machine would.

    `told` hears of every try; `most` bounds them, for what takes seconds to go wrong. Raises NotReproduced when on
    fresh targets `program` does not fall into the bucket, or the result does not. Raises as executors do.
    """
    before = judge.verdict(program)
    if before is None or (bucket is not None and before.bucket != bucket):
        seen = "the sides agree" if before is None else f"it is {before.bucket}"
        raise NotReproduced(f"does not reproduce: {seen}" + ("" if bucket is None else f", where it was {bucket}"))
    better = telling_variant(program, before, judge)
    if better is not None:
        program, before = better
    search = _Search(judge, before, is_telling(before, program.machine), told, most)
    complete = search.run(program)
    after = judge.verdict(search.program)
    if after is None or after.bucket != before.bucket:
        seen = "nothing" if after is None else after.bucket
        raise NotReproduced(f"what {before.bucket} was minimised to comes to {seen} on fresh targets")
    return Minimised(search.program, after, search.tries, complete)


class _Search:
    def __init__(
        self, judge: Judge, verdict: Verdict, telling: bool, told: Callable[[Step], None], most: int | None
    ) -> None:
        self.judge = judge
        self.telling = telling
        """Whether what it comes to is to show what is wrong: where the program at first does."""
        self.bucket = verdict.bucket
        self.kind = verdict.kind
        self.told = told
        self.most = most
        self.tries = 0
        self.program = Program(())
        self._name = ""
        self._record = verdict.record
        self._refused: set[Program] = set()

    def run(self, program: Program) -> bool:
        """Whether it came to a fixpoint; `self.program` is the simplest found."""
        self.program = replace(program.prefix(self._record), comment="")
        try:
            before = None
            while self.program != before:
                before = self.program
                for name, begin in PASSES.items():
                    self._name = name
                    self._pass(begin(self.program))
                    self.program = self.program.prefix(self._record)
        except _UsedUp:
            self.program = self.program.prefix(self._record)
            return False
        return True

    def _pass(self, steps: Steps) -> None:
        try:
            proposed = next(steps)
            while True:
                proposed = steps.send(self._try(proposed))
        except StopIteration:
            return

    def _try(self, proposed: Program) -> bool:
        """Whether the program is simpler than the present one and in the bucket; then it becomes the present one."""
        if proposed in self._refused or cost(proposed) >= cost(self.program):
            return False
        if self.tries == self.most:
            raise _UsedUp
        self.tries += 1
        self.told(Step(self._name, self.tries, self.program))
        try:
            verdict = self.judge.quick(proposed, self.kind)
        except BadInput:  # one of the sides cannot run it
            verdict = None
        if verdict is None or verdict.bucket != self.bucket or self._hides(verdict, proposed):
            self._refused.add(proposed)
            return False
        self.program, self._record = proposed, verdict.record
        return True

    def _hides(self, verdict: Verdict, proposed: Program) -> bool:
        return self.telling and not is_telling(verdict, proposed.machine)


# What is simple


def cost(program: Program) -> tuple[int, int, int]:
    """How far from simple a program is: fewer ops count first, then the machine's default settings, then arguments
    that are easy to read."""
    page = program.machine.granule.page
    knobs = sum(_knob_cost(index, value) for index, value in enumerate(program.machine.values))
    args = (arg.cost(value, page) for op in program.ops for arg, value in zip(op.definition.args, op.args, strict=True))
    return len(program.ops), knobs + len(program.requires), sum(args)


_CHANGED: Final = 1 << 53
"""Far from every default."""


def _knob_cost(index: int, value: int) -> int:
    knob = KNOBS[index]
    if value == knob.default:
        return 0
    if knob.names:
        return _CHANGED + value
    return _CHANGED + abs(value - knob.default)


# Passes


def _drop(program: Program) -> Steps:
    """Leave out ops: half of them, then fewer, down to each."""
    size = max(1, len(program.ops) // 2)
    while True:
        end = len(program.ops)
        while end > 0:
            start = max(0, end - size)
            for proposed in _without(program, start, end):
                if (yield proposed):
                    program = proposed
                    break
            end = start
        if size == 1:
            return
        size //= 2


def _without(program: Program, start: int, end: int) -> Iterator[Program]:
    """The program without these ops. Those that use what they make are pointed to another handle that is live there, or
    go as well, or, at last, use what nothing makes."""
    rest = program.ops[:start] + program.ops[end:]
    lost = {(op.definition.makes, op.made) for op in program.ops[start:end] if op.definition.makes is not None}
    if any(handle in lost for op in rest for _, handle in _used(op)):
        yield replace(program, ops=_pointed_elsewhere(rest, lost))
        yield replace(program, ops=tuple(op for op in rest if not any(handle in lost for _, handle in _used(op))))
    yield replace(program, ops=rest)


def _used(op: Op) -> Iterator[tuple[int, tuple[Kind, int]]]:
    """Places and values of an op's handles, each with its kind."""
    return ((place, (op.definition.args[place].kind, op.args[place])) for place in op.definition.handles)


def _pointed_elsewhere(ops: Sequence[Op], lost: AbstractSet[tuple[Kind | None, int | None]]) -> tuple[Op, ...]:
    """The ops with the youngest live handle in the place of each lost one; without those for which there is none."""
    live: dict[Kind, list[int]] = {}
    kept = []
    for op in ops:
        args = list(op.args)
        for place, (kind, number) in _used(op):
            of_kind = live.setdefault(kind, [])
            if (kind, number) in lost:
                if not of_kind:
                    break
                args[place] = of_kind[-1]
            if op.definition.ends and args[place] in of_kind:
                of_kind.remove(args[place])
        else:
            kept.append(Op(op.definition, tuple(args), op.made))
            if op.definition.makes is not None and op.made is not None:
                live.setdefault(op.definition.makes, []).append(op.made)
    return tuple(kept)


def _merge(program: Program) -> Steps:
    """Let one op do what two of its kind do: on the range that covers both of theirs."""
    first = 0
    while first < len(program.ops):
        second = first + 1
        while second < len(program.ops):
            for proposed in _merged(program, first, second):
                if (yield proposed):
                    program = proposed
                    break
            else:
                second += 1
        first += 1


def _merged(program: Program, first: int, second: int) -> Iterator[Program]:
    one, other = program.ops[first], program.ops[second]
    address, size = one.definition.address, one.definition.size
    if one.definition is not other.definition or address is None or size is None:
        return
    low = min(one.args[address], other.args[address])
    length = max(one.args[address] + one.args[size], other.args[address] + other.args[size]) - low
    for keep, drop, like in ((first, second, one), (second, first, other)):
        args = [*like.args]
        args[address], args[size] = low, length
        if all(arg.allows(value) for arg, value in zip(like.definition.args, args, strict=True)):
            ops = [*program.ops]
            ops[keep] = Op(like.definition, tuple(args), like.made)
            del ops[drop]
            yield replace(program, ops=tuple(ops))


def _take_over(program: Program) -> Steps:
    """Leave out an op whose effect another can have, if only one argument of that is larger or otherwise: a call that
    fails may be there for the pages alone that it put into the memcache."""
    tries = 0
    dropped = len(program.ops) - 1
    while dropped >= 0:
        for proposed in _taken_over(program, dropped):
            tries += 1
            if tries > _TAKE_OVER_TRIES:
                return
            if (yield proposed):
                program = proposed
                dropped = min(dropped, len(program.ops))
                break
        dropped -= 1


_TAKE_OVER_TRIES: Final = 600
"""Programs that one pass of `_take_over` may propose: all of them, for a program of some five ops."""
_WIDE: Final = 1 << 16
"""From this limit on, an argument is an address or the like, and its largest value says little."""


def _taken_over(program: Program, dropped: int) -> Iterator[Program]:
    """The program without that op, and one argument of another changed: of the nearest op first, the later one."""
    rest = program.ops[:dropped] + program.ops[dropped + 1 :]
    lost = program.ops[dropped]
    if lost.definition.makes is not None:  # its users have nothing to use then: that is for `_drop`
        return
    for index in sorted(range(len(rest)), key=lambda index: (abs(index - dropped + 0.4), index)):
        op = rest[index]
        for place, arg in enumerate(op.definition.args):
            for value in _other_values(program, arg, op.args[place]):
                changed = Op(op.definition, (*op.args[:place], value, *op.args[place + 1 :]), op.made)
                yield replace(program, ops=(*rest[:index], changed, *rest[index + 1 :]))


def _other_values(program: Program, arg: Arg, value: int) -> list[int]:
    """What an argument might be instead, so that its op does more: what others of its kind are in the program, and,
    where that is a small number, the largest; of flags, one bit more."""
    if arg.kind.role is Role.HANDLE:
        return []
    found = [
        other
        for op in program.ops
        for one, other in zip(op.definition.args, op.args, strict=True)
        if one.kind is arg.kind
    ]
    if arg.kind.role is Role.FLAGS:
        found += [value | bit for bit in arg.kind.bits.values()]
    elif arg.limit < _WIDE:
        found.append(arg.limit)
    return [one for one in dict.fromkeys(found) if one != value and arg.allows(one)]


def _knobs(program: Program) -> Steps:
    """Give the machine its default settings: all at once, each, or at least nearer to them. Ask for nothing."""
    if (yield (proposed := replace(program, requires=()))):
        program = proposed
    if (yield (proposed := replace(program, machine=_plain(program.machine)))):
        program = proposed
    for knob in KNOBS:
        if knob.name == _GRANULE:
            continue
        nearer = _nearer(program, knob)
        while nearer:
            if (yield (proposed := nearer.pop(0))):
                program = proposed
                nearer = _nearer(program, knob)


_GRANULE: Final = "granule"
"""It stays: each granule has a kernel compiled for it, so with another one a finding would be another's."""


def _plain(machine: Machine) -> Machine:
    """The default settings, for the stage and the granule that the machine has."""
    return Machine.of(stage=machine["stage"], granule=machine[_GRANULE])


def _nearer(program: Program, knob: Knob) -> list[Program]:
    """The program with that knob at its default, or nearer to it."""
    value, default = program.machine[knob.name], knob.default
    away = value - default
    if knob.names:
        values = [default, *range(value)]
    else:
        halves = (abs(away) >> n for n in range(1, abs(away).bit_length()))
        values = [default, *(value - half if away > 0 else value + half for half in halves)] if away else []
    found = []
    for one in dict.fromkeys(values):
        with suppress(ValueError):  # the machine cannot have it, or its stage lacks an op
            found.append(replace(program, machine=program.machine.replace(knob.name, one)))
    return found


def _values_of(*roles: Role) -> Callable[[Program], Steps]:
    def each(program: Program) -> Steps:
        for value, arg in _distinct(program, roles):
            for one in arg.simpler(value, program.machine.granule.page):
                proposed = _with(program, _instead(value, one), roles)
                if proposed is not None and (yield proposed):
                    program = proposed
                    break
        for index in range(len(program.ops)):
            for place, arg in enumerate(program.ops[index].definition.args):
                if arg.kind.role in roles:
                    program = yield from _one_value(program, index, place)

    return each


def _one_value(program: Program, index: int, place: int) -> Generator[Program, bool, Program]:
    """Simplify one argument as far as that goes."""
    op = program.ops[index]
    proposals = op.definition.args[place].simpler(op.args[place], program.machine.granule.page)
    while proposals:
        args = (*op.args[:place], proposals.pop(0), *op.args[place + 1 :])
        changed = Op(op.definition, args, op.made)
        proposed = replace(program, ops=(*program.ops[:index], changed, *program.ops[index + 1 :]))
        if (yield proposed):
            program, op = proposed, proposed.ops[index]
            proposals = op.definition.args[place].simpler(op.args[place], program.machine.granule.page)
    return program


def _move(program: Program) -> Steps:
    """Move what lies in the same region of addresses together, towards 0 or a round number."""
    for roles in ((Role.ADDRESS, Role.PHYS), (Role.ADDRESS,), (Role.PHYS,)):
        for shift in level_shifts(program.machine.granule.page):
            bases = {value >> shift for value, _ in _distinct(program, roles)}
            for base in sorted(bases, reverse=True):
                for target in _bases(base):
                    change = (target - base) << shift
                    proposed = _with(program, _moved(base, shift, change), roles)
                    if proposed is not None and (yield proposed):
                        program = proposed
                        break
            low = min((value >> shift for value, _ in _distinct(program, roles)), default=0) << shift
            proposed = _with(program, _lowered(low), roles)
            if proposed is not None and (yield proposed):
                program = proposed


def _instead(value: int, new: int) -> Callable[[int], int]:
    return lambda old: new if old == value else old


def _moved(base: int, shift: int, change: int) -> Callable[[int], int]:
    return lambda old: old + change if old >> shift == base else old


def _lowered(change: int) -> Callable[[int], int]:
    return lambda old: old - change


def _bases(base: int) -> list[int]:
    """Simpler numbers for a region, the simplest first."""
    found = {0, 1, 2, 3, *(base & ~(1 << bit) for bit in range(base.bit_length()) if base >> bit & 1)}
    return sorted((one for one in found if _roundness(one) < _roundness(base)), key=_roundness)


def _roundness(value: int) -> tuple[int, int]:
    return value.bit_count(), value


def _distinct(program: Program, roles: Sequence[Role]) -> list[tuple[int, Arg]]:
    """The values of these roles in the program, in order, each with an argument that has it."""
    found: dict[int, Arg] = {}
    for op in program.ops:
        for arg, value in zip(op.definition.args, op.args, strict=True):
            if arg.kind.role in roles:
                found.setdefault(value, arg)
    return list(found.items())


def _with(program: Program, change: Callable[[int], int], roles: Sequence[Role]) -> Program | None:
    """The program with arguments of these roles changed; None where one cannot be."""
    ops = []
    for op in program.ops:
        args = [
            change(value) if arg.kind.role in roles else value
            for arg, value in zip(op.definition.args, op.args, strict=True)
        ]
        if not all(arg.allows(value) for arg, value in zip(op.definition.args, args, strict=True)):
            return None
        ops.append(Op(op.definition, tuple(args), op.made))
    return replace(program, ops=tuple(ops))


PASSES: Final[dict[str, Callable[[Program], Steps]]] = {
    "drop ops": _drop,
    "merge ops": _merge,
    "take over": _take_over,
    "simplify the machine": _knobs,
    "clear flags": _values_of(Role.FLAGS),
    "shrink sizes": _values_of(Role.SIZE),
    "move addresses": _move,
    "simplify addresses": _values_of(Role.ADDRESS, Role.PHYS),
    "simplify the rest": _values_of(Role.HANDLE, Role.OTHER),
}
"""In the order they run; what takes most away comes first."""
