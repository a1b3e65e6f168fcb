"""What a fuzzing process says arrives as it was said, under the names that the wire has always had."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.engine.messages import (
    Begin,
    Edges,
    Failed,
    Found,
    Given,
    GoOver,
    LostKernel,
    Message,
    Order,
    ProcessState,
    Retried,
    WentOver,
    from_line,
    order_from_line,
    to_line,
)
from fuzz.engine.stats import Stats
from fuzz.triage.filed import Filed

STATE = ProcessState(
    done=False,
    seconds=1.5,
    stats=Stats(executions=3),
    findings=(Filed("tables-map", "divergence", Path("out/one"), 4, True),),
    identities=({"version": "6.12"}, {"linux": "6.12"}),
    boots=2,
    edges=(Edges("image", 319, 0b1011),),
    joint={"results": 0b10110},
)


@pytest.mark.parametrize(
    ("message", "event"),
    [
        (STATE, "progress"),
        (replace(STATE, done=True), "done"),
        (replace(STATE, waits=True), "waits"),
        (Failed(True, "no such side"), "failed"),
        (Retried(b"\x00\xff", False), "retried"),
        (LostKernel(b"", "QEMU ended by itself"), "incident"),
        (Found("out/one", "tables-map"), "finding"),
        (WentOver(1234), "went over"),
    ],
)
def test_a_message_arrives_as_it_was_said(message: Message, event: str) -> None:
    line = to_line(message)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert json.loads(line)["event"] == event
    assert from_line(line[:-1]) == message


@pytest.mark.parametrize("order", [Given(b"\x00\n\xff"), GoOver(Path("cache/a b")), Begin({"tables-map": 2})])
def test_an_order_arrives_as_it_was_given(order: Order) -> None:
    line = to_line(order)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    assert order_from_line(line[:-1]) == order


def test_names_on_the_wire() -> None:
    said = json.loads(to_line(STATE))
    assert sorted(said) == ["boots", "edges", "event", "findings", "identities", "joint", "seconds", "tally"]
    assert said["edges"] == [{"image": "image", "of": 319, "reached": "b"}]
    assert said["joint"] == {"results": "16"}
    (finding,) = said["findings"]
    assert finding == {"bucket": "tables-map", "class": "divergence", "directory": "out/one", "ops": 4, "shared": True}
    assert said["tally"]["executions"] == 3
