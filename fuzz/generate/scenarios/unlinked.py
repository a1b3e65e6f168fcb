"""Tables that no entry points to."""

from __future__ import annotations

from random import Random

from fuzz.generate.place import RW, Place, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.kinds import UNLINKED
from harness.program.ops import op_of


@step(weight=1, uses=("create_unlinked", "free_unlinked", "link"), dear=True)
def detach(at: Place, choice: Random) -> list[Op]:
    """A table is made apart from the tree, and it or an earlier one is linked or freed, mostly."""
    number = at.make(UNLINKED)
    made = op_of(
        "create_unlinked",
        phys=at.ipa + at.memory,
        level=choice.choice((2, 2, 1)),
        prot=RW,
        mc=2,
        force_pte=int(choice.random() < 0.2),
    )
    used = number if choice.random() < 0.8 else choice.randint(0, number)
    draw = choice.random()
    if draw < 0.1:
        return [made]
    if draw < 0.4:
        return [made, op_of("link", ipa=some_page(at, choice), table=used)]
    return [made, op_of("free_unlinked", table=used)]
