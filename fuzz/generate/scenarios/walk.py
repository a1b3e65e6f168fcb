"""Somebody walks the table."""

from __future__ import annotations

from random import Random

from fuzz.generate.place import Place, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.ops import op_of


@step(weight=20, uses=("walk", "get_leaf"), stages=(1, 2))
def look(at: Place, choice: Random) -> list[Op]:
    """A range is walked, sometimes by a visitor that does something, and one leaf looked up."""
    flags = choice.choice((1, 3, 5, 6, 7))
    visitor = choice.randrange(1, 32) if choice.random() < 0.2 else 0
    size = choice.choice((1, 4, 16)) * at.page
    walk = op_of("walk", ipa=some_page(at, choice), size=size, flags=flags, visitor=visitor)
    return [walk, op_of("get_leaf", ipa=some_page(at, choice))]
