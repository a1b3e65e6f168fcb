"""What the sides do together, counted: so much and no more."""

from __future__ import annotations

from fuzz.coverage.joint import EVENTS, RESULTS, JointCoverage
from harness.observation.execution import Feedback, Shape
from harness.program.text import parse
from reference.probe.coverage import LOOP

PROGRAM = parse("s2 1\nget_leaf ipa=0x0\n")


def feedback(ret: int | None = 0, levels: int = 0, *kinds: int) -> Feedback:
    return Feedback([0, ret], [0, levels], [frozenset(), frozenset(kinds)], Shape())


def counted(joint: JointCoverage) -> dict[str, int]:
    return {name: bits.bit_count() for name, bits in joint.reached.items()}


def test_each_kind_is_told_apart_and_stays_reached() -> None:
    joint = JointCoverage()
    joint.note(PROGRAM, feedback())
    assert counted(joint) == {RESULTS: 1, EVENTS: 1}
    joint.note(PROGRAM, feedback(-22))
    assert counted(joint) == {RESULTS: 2, EVENTS: 1}
    assert any(joint.take())
    joint.note(PROGRAM, feedback(0, 0, 1, 2))
    assert counted(joint) == {RESULTS: 2, EVENTS: 2}, "whatever libFuzzer clears"


def test_it_comes_to_an_end() -> None:
    """Whatever programs do, there are so many counters, and each counts so far."""
    joint = JointCoverage()
    for _ in range(3 * LOOP):
        for ret in range(-200, 10):
            for levels in range(32):
                joint.note(PROGRAM, feedback(ret, levels, ret & 7, levels))
    assert counted(joint)[RESULTS] == 7 * 32, "six return codes of their own that are among them, and all others"
    assert counted(joint)[EVENTS] <= 61
    assert max(joint.take()) == LOOP
