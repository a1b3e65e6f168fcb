"""What a side is called, and what it is made of: objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fuzz.sides import (
    Side,
    capabilities_of,
    choose_sides,
    parse_side,
    side_from_json,
    side_to_json,
    switched_off,
)
from harness.errors import BadInput
from reference.build import sources
from reference.build.sources import KernelChoice, prepare
from reference.build.tree import KernelTree


def test_hyp_s_object_is_said_behind_the_side() -> None:
    left, right = choose_sides(sides="model:6.12+hyp,kernel:6.12+hyp")
    assert (left.what, left.kernel_object, left.name) == ("6.12", "hyp", "model:6.12+hyp")
    assert (right.what, right.kernel_object, right.name) == ("6.12", "hyp", "kernel:6.12+hyp")
    assert parse_side("kernel:6.12+host") == parse_side("kernel:6.12") == Side("kernel", "6.12")


def test_a_way_to_record_owners_goes_before_the_object() -> None:
    side = parse_side("model:6.12+flag+hyp")
    assert (side.what, side.kernel_object) == ("6.12+flag", "hyp")
    assert side.open().name == "model:6.12+flag+hyp"


def test_a_tree_may_be_called_so(tmp_path: Path) -> None:
    tree = tmp_path / "linux+hyp"
    tree.mkdir()
    assert parse_side(f"kernel:{tree}") == Side("kernel", str(tree))
    assert parse_side(f"kernel:{tree}+hyp") == Side("kernel", str(tree), kernel_object="hyp")


def test_an_object_chosen_for_a_run_is_both_sides() -> None:
    assert {side.kernel_object for side in choose_sides(kernel_object="hyp")} == {"hyp"}
    assert {side.kernel_object for side in choose_sides(sides="model:6.12+hyp,kernel:6.12+hyp")} == {"hyp"}
    sides = choose_sides(sides="model:6.12+hyp,kernel:6.12", kernel_object="host")
    assert {side.kernel_object for side in sides} == {"host"}


def test_a_finding_keeps_the_object() -> None:
    for side in choose_sides(kernel_object="hyp"):
        assert side_from_json(side_to_json(side), Path()) == side
    older = side_to_json(Side("kernel", "6.12"))
    del older["object"]
    assert side_from_json(older, Path()) == Side("kernel", "6.12")
    with pytest.raises(BadInput, match="`kernel` is not an object"):
        side_from_json({**older, "object": "kernel"}, Path())


def test_a_kernel_is_prepared_once_for_whoever_is_handed_the_side(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[KernelChoice] = []

    def counted(choice: KernelChoice, progress: Callable[[str], None]) -> KernelTree:
        asked.append(choice)
        return prepare(choice, progress)

    monkeypatch.setattr(sources, "prepare", counted)
    model, kernel = choose_sides()
    assert capabilities_of((model, kernel)).has("map")
    assert kernel.image(lambda _: None).tree is kernel.prepared().tree
    assert kernel.built_as("ubsan", "hyp").prepared() is kernel.prepared()
    assert switched_off((model, kernel)) == []
    assert len(asked) == 1
    assert replace(kernel).prepared() is not kernel.prepared(), "one that is made anew sees files as they are then"


def test_the_kernel_s_own_build_is_the_host_s_object() -> None:
    side = parse_side("kernel-make:6.12+hyp")
    assert side.kernel_object == "hyp"
    with pytest.raises(BadInput, match="there is the host's object only"):
        side.image(print)
