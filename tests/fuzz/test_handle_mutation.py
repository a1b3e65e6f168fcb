"""Whatever is dropped, moved or joined, what uses a handle uses the same thing, or another, or goes."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.generate.fresh import fresh
from fuzz.generate.handles import Handles
from fuzz.generate.mutation import crossover, mutate
from harness.program.codec import decode, encode
from harness.program.kinds import UNLINKED, Kind
from harness.program.machine import DEFAULT_MACHINE
from harness.program.parts import Part, Parts, split
from harness.program.program import Program
from harness.program.space import space_of
from harness.program.text import parse

MAKE = "create_unlinked phys=0x80000000 level={level} prot=rw mc=2"
TWO = [
    "t1 = " + MAKE.format(level=2),
    "t2 = " + MAKE.format(level=1),
    "link ipa=0x0 table=t2",
    "free_unlinked table=t1",
]


def parts_of(*lines: str) -> Parts:
    return split(encode(parse("\n".join(["s2 1", *lines]))))


def uses(parts: Parts) -> list[int | None]:
    """Of each op in order, the level of the table that it uses."""
    program = decode(parts.join())
    levels = [op.value("level") for op in program.ops if op.definition.makes]
    return [levels[op.value("table")] if op.definition.handles else None for op in program.ops]


def settled(handles: Handles, parts: Parts, ops: list[Part], seed: int = 1) -> Parts:
    parts.ops[:] = ops
    handles.settle(parts, Random(seed))
    return parts


def test_moved_makers_keep_their_users() -> None:
    parts = parts_of(*TWO)
    handles = Handles(parts)
    one, other, link, free = parts.ops
    assert uses(settled(handles, parts, [other, one, link, free])) == [None, None, 1, 2]
    assert uses(settled(handles, parts, [one, free, other, link])) == [None, 2, None, 1]


def test_users_of_what_is_gone_use_another_or_go() -> None:
    parts = parts_of(*TWO)
    handles = Handles(parts)
    one, other, link, free = parts.ops
    assert uses(settled(handles, parts, [one, link])) == [None, 2]
    parts = parts_of(*TWO)
    one, other, link, free = parts.ops
    assert settled(Handles(parts), parts, [link, free]).ops == []
    parts = parts_of(*TWO)
    one, other, link, free = parts.ops
    assert uses(settled(Handles(parts), parts, [other, free, link])) == [None, 1, 1], "the second is of what has ended"


def test_users_before_their_maker_go() -> None:
    parts = parts_of(*TWO)
    _, other, link, _ = parts.ops
    assert settled(Handles(parts), parts, [link, other]).ops == [other]


def test_what_is_not_made_stays_unmade() -> None:
    parts = parts_of(TWO[0], "free_unlinked table=7")
    handles = Handles(parts)
    for seed in range(20):
        handles.settle(parts, Random(seed))
    (_, free) = decode(parts.join()).ops
    assert free.args == (1,), "a number that nothing has"


def test_copies_make_and_use_their_own() -> None:
    parts = parts_of(TWO[0], "free_unlinked table=t1")
    handles = Handles(parts)
    copies = handles.copied(parts.ops)
    program = decode(settled(handles, parts, [*parts.ops, *copies]).join())
    assert [op.value("table") for op in program.ops if op.definition.handles] == [0, 1]
    parts = parts_of(TWO[0], "free_unlinked table=t1")
    handles = Handles(parts)
    (user,) = handles.copied(parts.ops[1:])
    assert uses(settled(handles, parts, [*parts.ops, user])) == [None, 2, 2], "of the same table, which has ended"


def test_a_new_user_mostly_uses_what_is_live() -> None:
    found = []
    for seed in range(300):
        parts = parts_of(*TWO[:2], "free_unlinked table=t2")
        handles = Handles(parts)
        new = [parts.ops[-1][0], UNLINKED.encode(9, space_of(DEFAULT_MACHINE), 0)]
        program = decode(settled(handles, parts, [*parts.ops, new], seed).join())
        found.append(program.ops[-1].value("table"))
    assert found.count(0) > 250
    assert set(found) == {0, 2}


@given(st.integers(0, 1 << 32))
def test_what_is_joined_keeps_its_own(seed: int) -> None:
    first, second = parts_of(*TWO[:2]), parts_of(*TWO)
    joined = Program(decode(crossover(first.join(), second.join(), Random(seed))).ops)
    makers: dict[int, int] = {}
    for op in joined.ops:
        if op.definition.makes:
            makers[len(makers)] = op.value("level")
        else:
            assert op.value("table") in makers


@pytest.mark.parametrize("change", [mutate, lambda data, choice: crossover(data, fresh(choice), choice)])
def test_most_uses_are_of_something_live(change: object) -> None:
    """After many changes, too."""
    assert callable(change)
    live = total = 0
    choice = Random(5)
    for _ in range(150):
        data = encode(parse("\n".join(["s2 1", *TWO])))
        for _ in range(6):
            data = change(data, choice)
        made: set[tuple[Kind, int | None]] = set()
        for op in decode(data).ops:
            if op.definition.makes:
                made.add((op.definition.makes, op.made))
            for place in op.definition.handles:
                used = op.definition.args[place].kind, op.args[place]
                total += 1
                live += used in made
                if op.definition.ends:
                    made.discard(used)
    assert total > 50
    assert live / total > 0.7
