"""A guest reaches for its memory, at EL1."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import RW, RWX, Place, map_op, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.guest import WINDOW
from harness.program.ops import op_of

_ELSEWHERE: Final = 0.25
"""How many accesses go to another page than one of the window's: mostly nothing is mapped there."""
_GIVEN: Final = 0.6
"""How often the first of the pages has just been mapped."""
_KINDS: Final = ("read", "read", "write", "write", "exec", "probe")


@step(weight=120, uses=("read", "write", "exec"), guest=True)
def access(at: Place, choice: Random) -> list[Op]:
    """The guest reads, writes or runs what lies in some pages, mostly in the same one several times; often it has just
    got the memory."""
    page = _page(at, choice)
    given = [map_op(at, page, at.page, choice.choice((RWX, RWX, RW)), choice)] if choice.random() < _GIVEN else []
    accesses = [
        _access(page if choice.random() < 0.7 else _page(at, choice), choice) for _ in range(choice.randint(1, 3))
    ]
    return [*given, *accesses]


def _page(at: Place, choice: Random) -> int:
    if choice.random() < _ELSEWHERE:
        return some_page(at, choice) + choice.choice((0, at.block))
    return WINDOW - at.memory + choice.choice((0, 1, 2, 3)) * at.page


def _access(page: int, choice: Random) -> Op:
    kind = choice.choice(_KINDS)
    return op_of(kind, ipa=page, value=choice.getrandbits(16)) if kind == "write" else op_of(kind, ipa=page)
