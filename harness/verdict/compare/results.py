"""Results: return code and out-values of every op, in order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from harness.observation.descriptors import AddressField, address_field, is_table_entry
from harness.observation.layout import Observation, Record, describe_return, signed
from harness.program.definition import OpDef
from harness.verdict.compare.difference import Difference
from harness.verdict.tiers import Tier


def results(left: Observation, right: Observation) -> Iterator[Difference]:
    """In return codes and out-values."""
    addresses = address_field(left.machine)
    for index, (mine, theirs) in enumerate(zip_longest(left.records, right.records)):
        if mine is None or theirs is None:
            op = (mine or theirs).definition.name
            yield Difference(Tier.RESULTS, index, op, "ran", *_present(mine, theirs))
            return
        yield from _result(index, mine, theirs, addresses)


def _present(mine: Record | None, theirs: Record | None) -> tuple[str, str]:
    return "not run" if mine is None else "run", "not run" if theirs is None else "run"


def _result(index: int, mine: Record, theirs: Record, addresses: AddressField) -> Iterator[Difference]:
    name = mine.definition.name
    if mine.ret != theirs.ret:
        yield Difference(Tier.RESULTS, index, name, "return", describe_return(mine.ret), describe_return(theirs.ret))
    elif mine.definition.repeats:
        yield from _visits(index, mine, theirs, addresses)
    elif mine.outs != theirs.outs:
        for out, a, b in zip_longest(mine.definition.outs, mine.outs, theirs.outs):
            if a != b:
                yield Difference(Tier.RESULTS, index, name, str(out), _hex(a), _hex(b))
                return


def _visits(index: int, mine: Record, theirs: Record, addresses: AddressField) -> Iterator[Difference]:
    """Visits carry entries, and so the addresses of tables: equal up to a renaming within this op."""
    width = len(mine.definition.outs)
    renamed: dict[int, int] = {}
    pairs = zip_longest(_groups(mine.outs, width), _groups(theirs.outs, width))
    for number, (a, b) in enumerate(pairs):
        if a is None or b is None:
            yield Difference(
                Tier.RESULTS, index, mine.definition.name, "visits", _count(mine, width), _count(theirs, width)
            )
            return
        same_place = a[:3] == b[:3]
        if not same_place or not _same_entry(a[3], b[3], a[1], renamed, addresses):
            left, right = describe_visit(mine.definition, a), describe_visit(theirs.definition, b)
            yield Difference(
                Tier.RESULTS, index, mine.definition.name, "visit", f"#{number} {left}", f"#{number} {right}"
            )
            return


def _groups(values: Sequence[int], width: int) -> Iterator[tuple[int, ...]]:
    return (tuple(values[i : i + width]) for i in range(0, len(values), width))


def _count(record: Record, width: int) -> str:
    return f"{len(record.outs) // width} visits"


def describe_visit(definition: OpDef, values: Sequence[int]) -> str:
    """One visit in words: `leaf level=3 ipa=0x1000 pte=0x…`."""
    names = {1: "leaf", 2: "table_pre", 4: "table_post"}
    rest = " ".join(map(describe_out, definition.outs[1:], values[1:]))
    return f"{names.get(values[0], values[0])} {rest}"


def describe_out(name: str, value: int) -> str:
    """An out-value with its name; levels may be negative."""
    return f"{name}={signed(value) if name in ('level', 'start_level') else value:#x}"


def _same_entry(a: int, b: int, level: int, renamed: dict[int, int], addresses: AddressField) -> bool:
    if not (is_table_entry(a, signed(level)) and is_table_entry(b, signed(level))):
        return a == b
    if (a ^ b) & ~addresses.bits:
        return False
    mine, theirs = addresses.address(a), addresses.address(b)
    if mine not in renamed and theirs in renamed.values():
        return False
    return renamed.setdefault(mine, theirs) == theirs


def _hex(value: int | None) -> str:
    return "none" if value is None else f"{value:#x}"
