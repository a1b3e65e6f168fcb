"""Tables that no entry points to."""

from __future__ import annotations

from random import Random

from fuzz.generate.place import RW, Place, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.ops import op_of


@step(weight=1, uses=("create_unlinked", "free_unlinked", "link"), dear=True)
def detach(at: Place, choice: Random) -> list[Op]:
    """A table is made apart from the tree, and linked or freed."""
    level = choice.choice((2, 2, 1))
    made = op_of(
        "create_unlinked", phys=at.ipa + at.memory, level=level, prot=RW, mc=2, force_pte=int(choice.random() < 0.2)
    )
    if choice.random() < 0.3:
        return [made, op_of("link", ipa=some_page(at, choice), table=choice.choice((0, 0, 1)))]
    return [made, op_of("free_unlinked", table=choice.choice((0, 0, 1, 2)))]
