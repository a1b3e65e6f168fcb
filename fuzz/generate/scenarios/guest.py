"""A guest reaches for its memory, at EL1."""

from __future__ import annotations

from random import Random
from typing import Final

from fuzz.generate.place import RW, RWX, Place, map_op, some_page
from fuzz.generate.step import step
from harness.program.definition import Op
from harness.program.granule import LAST_LEVEL
from harness.program.guest import WINDOW
from harness.program.kinds import ACCESS, BACKING
from harness.program.kinds.entries import PLANTED_NAMES
from harness.program.kinds.flags import PROT_BITS
from harness.program.ops import op_of

_ELSEWHERE: Final = 0.25
"""How many accesses go to another page than one of the window's: mostly nothing is mapped there."""
_BACKINGS: Final = tuple(map(BACKING.words.index, ("page", "page", "page", "block", "block", *BACKING.words)))
_HVA: Final = (0, 0, 0, 0, 1, 16)
"""By how many pages host addresses are out of line with guest addresses."""
_READ_OR_EXEC: Final = tuple(map(ACCESS.words.index, ("read", "exec")))
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


@step(weight=110, uses=("fault", "handle"), guest=True)
def abort(at: Place, choice: Random) -> list[Op]:
    """What the guest reaches for is gone, or may not be written; its access aborts, and is handled until it succeeds.
    Others may come in between, or be faster."""
    page = _page(at, choice)
    access = op_of("fault", ipa=page, access=choice.randrange(len(ACCESS.words)))
    handling = _handle(at, page, choice)
    ops = [choice.choice(_missing(at, page)), access]
    if choice.random() < 0.25:
        ops += _meanwhile(at, page, choice)
    ops += [handling, access]
    if choice.random() < 0.15:
        ops += [handling, access]
    if choice.random() < 0.4:
        ops += [op_of("fault", ipa=page, access=choice.randrange(len(ACCESS.words))), _handle(at, page, choice)]
    return ops


@step(weight=40, uses=("fault", "handle", "wrprotect"), guest=True)
def log_and_stop(at: Place, choice: Random) -> list[Op]:
    """A block is logged page by page, and is one again when the log is over."""
    page, beside = _page(at, choice), _page(at, choice)
    block = op_of("handle", phys=page + at.memory, backing=BACKING.words.index("block"))
    logged = op_of("handle", phys=page + at.memory, backing=BACKING.words.index("block"), logging=1)
    accesses = (choice.choice(_READ_OR_EXEC), ACCESS.words.index("write"))
    first, second = (op_of("fault", ipa=one, access=choice.choice(accesses)) for one in (page, beside))
    return [
        *(first, block, first),
        op_of("wrprotect", ipa=page & -at.block, size=at.block),
        *(second, logged, second),
        *(first, block, first),
    ]


@step(weight=30, uses=("fault", "handle", "map", "wrprotect"), guest=True)
def run_dry(at: Place, choice: Random) -> list[Op]:
    """The memcache is used up by others. Then the guest runs what lies in a block that is logged."""
    page = _page(at, choice)
    block = page & -at.block
    access = op_of("fault", ipa=page, access=ACCESS.words.index("exec"))
    far = [page + number * at.large for number in (1, 2, 3)]
    return [
        op_of("map", ipa=block, size=at.block, phys=block + at.memory, prot=RW, mc=4),
        *(op_of("map", ipa=ipa, size=at.page, phys=page + at.memory, prot=RW, mc=1) for ipa in far),
        op_of("wrprotect", ipa=block, size=at.block),
        *(access, op_of("handle", phys=page + at.memory, logging=1), access),
    ]


@step(weight=40, uses=("fault", "handle", "map"), guest=True)
def come_back(at: Place, choice: Random) -> list[Op]:
    """The guest comes back to a page that has grown old."""
    page = _page(at, choice)
    access = op_of("fault", ipa=page, access=choice.randrange(len(ACCESS.words)))
    ages = (op_of("test_clear_young", ipa=page, size=at.page, mkold=1), op_of("mkold", ipa=page))
    meanwhile = _meanwhile(at, page, choice) if choice.random() < 0.2 else []
    return [
        map_op(at, page, at.page, choice.choice((RW, RWX)), choice),
        *ages,  # each side has one of them
        *(access, *meanwhile, _handle(at, page, choice), access),
    ]


def _handle(at: Place, page: int, choice: Random) -> Op:
    """The abort at that page is handled, with the machine's memory behind it."""
    return op_of(
        "handle",
        phys=page + at.memory,
        backing=choice.choice(_BACKINGS),
        hva=choice.choice(_HVA),
        thp=int(choice.random() < 0.35),
        logging=int(choice.random() < 0.25),
        readonly=int(choice.random() < 0.1),
        device=int(choice.random() < 0.15),
    )


def _missing(at: Place, page: int) -> list[Op]:
    """What makes an access to that page abort, one way or another."""
    block = page & -at.block
    return [
        op_of("unmap", ipa=page, size=at.page),
        op_of("unmap", ipa=block, size=at.block),
        op_of("wrprotect", ipa=block, size=at.block),
        op_of("map", ipa=page, size=at.page, phys=page + at.memory, prot=PROT_BITS["r"], mc=4),
    ]


def _meanwhile(at: Place, page: int, choice: Random) -> list[Op]:
    """What others do between an abort and its handling."""
    return [
        choice.choice(
            (
                op_of("unmap", ipa=page & -at.block, size=at.block),
                op_of("unmap", ipa=page, size=at.page),
                op_of("plant", ipa=page, level=LAST_LEVEL, pte=PLANTED_NAMES["locked"]),
                op_of("fail_alloc", nth=1),
                map_op(at, page, at.page, RW, choice),
                _handle(at, page, choice),
            )
        )
    ]
