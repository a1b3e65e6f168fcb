"""Programs that ask the hardware: `probe` ops behind a program's own, where its tables might be read in different ways.

What is probed follows from the program alone: the addresses that it touched, those at the edges of the entries that
translate them, of every level, and a few more.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

from harness.program.definition import Op
from harness.program.guest import STUB, WINDOW
from harness.program.machine import POOL_BASE, Machine
from harness.program.ops import STANDARD
from harness.program.program import MAX_OPS, Program
from harness.program.space import U64_MAX, Space, space_of

MAX_PROBES: Final = 48
"""Behind one program."""
PROBE: Final = STANDARD.by_name["probe"]

POOL_ELSEWHERE: Final = "its pool_base is not where the pool lies"
UNDEFINED: Final = "the architecture does not define its VTCR_EL2 (hyp: TCR_EL2)"
NO_TABLE: Final = "it has no table in the end"
OUTSIDE: Final = "its tables lead out of the pool"
CUT: Final = "its budget is spent before"
"""Why a program was not probed."""


def unprobeable(machine: Machine) -> str | None:
    """Why programs for such a machine cannot be probed, as far as its knobs tell; None where nothing is known against
    it. The hardware walks tables only where they are."""
    if machine["pool_base"] != POOL_BASE:
        return POOL_ELSEWHERE
    return None


def with_probes(program: Program) -> Program:
    """The program with probes at its end, MAX_PROBES at most, in order of their addresses. Itself where it has probes
    of its own, or none can be made."""
    if any(op.definition is PROBE for op in program.ops) or unprobeable(program.machine) is not None:
        return program
    room = min(MAX_PROBES, MAX_OPS - len(program.ops))
    probes = [Op(PROBE, (ipa,)) for ipa in probed_addresses(program)[:room]]
    return replace(program, ops=(*program.ops, *probes)) if probes else program


def probed_addresses(program: Program) -> list[int]:
    """Where `with_probes` asks, in ascending order: MAX_PROBES addresses at most, each the first of its page. Where
    there are more, those count first that the program names, then those near by, of the smallest entries first."""
    page = program.machine.granule.page
    found = dict.fromkeys(ipa & -page for ipa in _in_order(program) if 0 <= ipa <= U64_MAX)
    return sorted([*found][:MAX_PROBES])


def _in_order(program: Program) -> Iterator[int]:
    space = space_of(program.machine)
    yield from (0, space.limit - space.page, space.limit)
    if program.machine["guest"]:
        yield from (STUB, WINDOW)
    ranges = list(dict.fromkeys(_touched(program.ops)))
    for first, last in ranges:
        yield from (first, last)
    for first, last in ranges:
        yield from (first - 1, last + 1)
    for shift in space.units:
        for first, last in ranges:
            yield from _edges(first, shift, space)
            yield from _edges(last, shift, space)


def _touched(ops: Sequence[Op]) -> Iterator[tuple[int, int]]:
    """The first and the last address of what each op works on."""
    for op in ops:
        address, size = op.definition.address, op.definition.size
        if address is None:
            continue
        first = op.args[address]
        length = 1 if size is None else max(1, op.args[size])
        yield first, min(first + length - 1, U64_MAX)


def _edges(address: int, shift: int, space: Space) -> Iterator[int]:
    """Both ends of the entry that covers `address`, which has 2^`shift` bytes, on either side; none where one entry has
    all addresses."""
    if 1 << shift < space.limit:
        first = address >> shift << shift
        yield from (first, first - 1, first + (1 << shift) - 1, first + (1 << shift))


def why_unprobed(program: Program, returns: Sequence[int | None], has_table: bool) -> str | None:
    """Why none of a program's probes was answered, by the results of its records, the implicit init's first (None: over
    budget); None where one was. `has_table` is whether there is one in the end."""
    if (reason := unprobeable(program.machine)) is not None:
        return reason
    if returns[0]:
        return NO_TABLE
    answers = [ret for op, ret in zip(program.ops, returns[1:], strict=False) if op.definition is PROBE]
    if 0 in answers:
        return None
    if returns[-1] is None:
        return CUT
    if -errno.ENXIO in answers:
        return OUTSIDE
    if not has_table:
        return NO_TABLE
    return UNDEFINED
