"""An operation and a kind that no list of the packages names: what they say of themselves is all that text, bytes,
mutation, minimising, refusal and the C header need."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Final

import pytest

from fuzz.generate.fresh import random_input
from fuzz.generate.mutation import crossover, mutate
from fuzz.triage.minimise import PASSES, cost
from harness.errors import BadInput
from harness.program.capabilities import Capabilities
from harness.program.codec import decode, dialect_for, encode
from harness.program.definition import Arg, Definitions, Op, OpDef
from harness.program.kinds import IPA, MAP_FLAGS, PROT, Handle, Kind
from harness.program.kinds.flags import Flags
from harness.program.kinds.kind import parse_choice
from harness.program.ops import OPS
from harness.program.program import Program
from harness.program.source import Source
from harness.program.space import Space
from harness.program.text import MalformedProgram, format_program, parse
from reference.build.header import generated_header

COLOURS: Final = ("black", "red", "green", "blue")


class _Colour(Kind):
    def __init__(self) -> None:
        super().__init__("colour", len(COLOURS) - 1)
        self.edges = (bytes((len(COLOURS) - 1,)),)

    def format(self, value: int) -> str:
        return COLOURS[value]

    def parse(self, text: str, name: str) -> int:
        return parse_choice(text, name, COLOURS)

    def decode(self, source: Source, space: Space, address: int) -> int:
        return source.byte() % len(COLOURS)


COLOUR: Final = _Colour()
GLOSS: Final = Flags("gloss", {"matt": 1, "shiny": 2}, (0, 1, 2), "GLOSS_")
BRUSH: Final = Handle("brush", 77, "b")

MAKE_BRUSH: Final = OpDef(201, "make_brush", (Arg("colour", COLOUR),), "make a brush", weight=40, makes=BRUSH)
PAINT: Final = OpDef(
    200,
    "paint",
    (Arg("brush", BRUSH), Arg("at", IPA), Arg("colour", COLOUR, default=1), Arg("gloss", GLOSS, default=0)),
    "paint what is there",
    weight=40,
)
OWN: Final = Definitions([*OPS, PAINT, MAKE_BRUSH])
EVERYTHING: Final = Capabilities(definitions=OWN)
DIALECT: Final = dialect_for(EVERYTHING)

TEXT: Final = """\
s2 1

b1 = make_brush colour=green
b2 = make_brush colour=black
map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=3
paint brush=b2 at=0x201000 colour=blue gloss=matt+shiny
paint brush=b1 at=0x0
"""


def program() -> Program:
    return parse(TEXT, definitions=OWN)


def test_text() -> None:
    assert format_program(program()) == TEXT
    with pytest.raises(MalformedProgram, match="expected blue or green or red or black for colour, got `pink`"):
        parse("s2 1\n\nmake_brush colour=pink\n", definitions=OWN)
    with pytest.raises(MalformedProgram, match="got `b1`"):
        parse(TEXT)


def test_names_are_as_people_choose_them() -> None:
    text = "s2 1\n\nwide = make_brush colour=red\nfine = make_brush colour=red\npaint brush=fine at=0x0\n"
    assert format_program(parse(text, definitions=OWN)).endswith("paint brush=b2 at=0x0\n")


def test_numbers_are_read_too() -> None:
    text = "s2 1\n\nmake_brush colour=red\nmake_brush colour=red\npaint brush=1 at=0x0\n"
    assert format_program(parse(text, definitions=OWN)).endswith("paint brush=b2 at=0x0\n")


def test_bytes() -> None:
    assert decode(encode(program(), DIALECT), DIALECT) == program()
    seen = {op.name for seed in range(30) for op in decode(random_input(Random(seed), DIALECT), DIALECT).ops}
    assert {"paint", "make_brush"} <= seen


def test_older_bytes_keep_their_meaning() -> None:
    """After an operation, an argument with a default, and a flag were added, old inputs decode to the same text."""
    more = Flags("gloss", {**GLOSS.bits, "satin": 4}, GLOSS.common, "GLOSS_")
    layers = Arg("layers", COLOUR, default=2)
    paint = replace(PAINT, args=(*PAINT.args[:3], Arg("gloss", more, default=0), layers))
    varnish = OpDef(202, "varnish", (Arg("at", IPA),), "varnish it", weight=40)
    grown = dialect_for(Capabilities(definitions=Definitions([*OPS, paint, MAKE_BRUSH, varnish])))
    for seed in range(200):
        data = mutate(random_input(Random(seed), DIALECT), Random(seed), DIALECT)
        assert format_program(decode(data, grown)) == format_program(decode(data, DIALECT))


def test_mutation() -> None:
    data = encode(program(), DIALECT)
    changed = [decode(mutate(data, Random(seed), DIALECT), DIALECT) for seed in range(400)]
    crossed = [decode(crossover(data, data, Random(seed), DIALECT), DIALECT) for seed in range(50)]
    painted = [op for one in (*changed, *crossed) for op in one.ops if op.definition is PAINT]
    assert {op.value("colour") for op in painted} == set(range(len(COLOURS)))
    assert {op.value("gloss") for op in painted} == {0, 1, 2, 3}
    for one in changed:
        EVERYTHING.check(one, "a side that has it")


def test_mutation_keeps_users_pointed_at_what_is_made() -> None:
    """Dropping or moving what makes a brush leaves few that paint with none."""
    data = encode(program(), DIALECT)
    without = made = 0
    for seed in range(400):
        one = decode(mutate(data, Random(seed), DIALECT), DIALECT)
        brushes = 0
        for op in one.ops:
            brushes += op.definition is MAKE_BRUSH
            made += op.definition is PAINT and op.value("brush") < brushes
            without += op.definition is PAINT and op.value("brush") >= brushes
    assert without < made / 5


def shrunk(start: Program, name: str) -> Program:
    """What a pass comes to that may do anything as long as something is painted."""
    steps = PASSES[name](start)
    best = start
    try:
        proposed = next(steps)
        while True:
            taken = cost(proposed) < cost(best) and any(op.definition is PAINT for op in proposed.ops)
            best = proposed if taken else best
            proposed = steps.send(taken)
    except StopIteration:
        return best


def test_minimising() -> None:
    best = program()
    for name in PASSES:
        best = shrunk(best, name)
    (painted,) = [op for op in best.ops if op.definition is PAINT]
    assert (painted.value("at"), painted.value("colour"), painted.value("gloss")) == (0, 1, 0)


def test_without_an_op_the_other_handles_stay_what_they_were() -> None:
    whole = program()
    without = replace(whole, ops=whole.ops[1:])
    assert "paint brush=b1 at=0x201000" in format_program(without), "the second brush is the first now"
    assert "paint brush=b2 at=0x0" in format_program(without), "what nothing makes comes after it"
    assert parse(format_program(without), definitions=OWN) == without


def test_a_side_without_it_refuses() -> None:
    lacking = Capabilities(frozenset({"paint", "gloss matt"}), OWN)
    with pytest.raises(BadInput, match="a side lacks paint, gloss matt, so it cannot run this program"):
        lacking.check(program(), "a side")
    dialect = dialect_for(lacking)
    assert {op.name for op in decode(encode(program(), DIALECT), dialect).ops} == {"make_brush", "map"}


def test_an_op_that_needs_a_flag_goes_with_it() -> None:
    picky = replace(PAINT, needs=("prot nc", "map flags shared"))
    own = Definitions([*OPS, picky, MAKE_BRUSH])
    assert Capabilities(definitions=own).has("paint")
    assert not Capabilities(frozenset({"prot nc"}), own).has("paint")
    assert {"nc", "shared"} <= {*PROT.bits, *MAP_FLAGS.bits}


def test_the_c_header() -> None:
    header = generated_header(OWN)
    assert "struct args_paint { u64 brush; u64 at; u64 colour; u64 gloss; };" in header
    assert "X(200, paint, 4, 4)" in header
    assert "X(201, BRUSH)" in header, "what makes one"
    assert "X(200, 0, BRUSH)" in header, "which argument is one"
    described = header.partition("#define S2FUZZ_OP_DESCRIPTIONS")[2]
    assert f'{{ "colour", 0x1ul, 0x0ul, {len(COLOURS) - 1:#x}ul' in described
    assert '"paint what is there"' in described


def test_numbers_up_to_the_last_one_that_bytes_hold() -> None:
    last = Definitions([*OPS, replace(PAINT, number=256), MAKE_BRUSH])
    dialect = dialect_for(Capabilities(definitions=last))
    painted = parse(TEXT, definitions=last)
    assert decode(encode(painted, dialect), dialect) == painted
    for number in (0, 257):
        with pytest.raises(ValueError, match="numbers from 1 to 256"):
            replace(PAINT, number=number)


def test_definitions_do_not_share_names_or_numbers() -> None:
    for wrong in (replace(PAINT, number=2), replace(PAINT, name="map")):
        with pytest.raises(ValueError, match="the same name or number"):
            Definitions([*OPS, wrong])


def test_an_argument_out_of_range() -> None:
    with pytest.raises(ValueError, match="colour=0x4 is out of range"):
        Op(MAKE_BRUSH, (len(COLOURS),))
