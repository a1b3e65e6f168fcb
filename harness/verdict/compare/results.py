"""Results: return code and out-values of every op, in order. Those of ops that ask the hardware are a tier of their own
(`translations`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest

from harness.amounts import counted
from harness.observation.descriptors import AddressField, address_field, is_table_entry
from harness.observation.layout import Observation, Record, describe_return
from harness.program.definition import OpDef
from harness.program.results import ResultType, signed
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
        if mine.definition.asks_hardware:
            continue
        if mine.ret != theirs.ret:
            texts = describe_return(mine.ret), describe_return(theirs.ret)
            yield Difference(Tier.RESULTS, index, mine.definition.name, "return", *texts)
        elif mine.outs != theirs.outs:
            differing = (_group if mine.definition.repeats else _single)(mine, theirs, addresses)
            if differing is not None:
                yield Difference(Tier.RESULTS, index, mine.definition.name, *differing)


def describe_results(definition: OpDef, values: Sequence[int]) -> str:
    """Results in words, or one group of those that repeat: `leaf level=3 ipa=0x1000 pte=0x…`."""
    return " ".join(result.describe(value) for result, value in zip(definition.results, values, strict=False))


def _present(mine: Record | None, theirs: Record | None) -> tuple[str, str]:
    return "not run" if mine is None else "run", "not run" if theirs is None else "run"


_Differing = tuple[str, str, str]
"""What differs, and what the sides have there."""


def _single(mine: Record, theirs: Record, addresses: AddressField) -> _Differing | None:
    """In results that do not repeat, the first."""
    definition = mine.definition
    if not mine.outs or not theirs.outs:
        at: int | None = 0
    else:
        at = _Renaming(definition, addresses).differing(mine.outs, theirs.outs)
    if at is None:
        return None
    left, right = (f"{side.outs[at]:#x}" if side.outs else "none" for side in (mine, theirs))
    return definition.results[at].name, left, right


def _group(mine: Record, theirs: Record, addresses: AddressField) -> _Differing | None:
    """In results that do, the first group: a walk's visit."""
    definition = mine.definition
    renaming, what = _Renaming(definition, addresses), definition.results[0].name
    ours, others = _groups(mine), _groups(theirs)
    for number, (a, b) in enumerate(zip(ours, others, strict=False)):
        if renaming.differing(a, b) is not None:
            left, right = (f"#{number} {describe_results(definition, values)}" for values in (a, b))
            return what, left, right
    if len(ours) == len(others):
        return None
    return f"{what}s", counted(len(ours), what), counted(len(others), what)


def _groups(record: Record) -> list[Sequence[int]]:
    width = len(record.definition.results)
    return [record.outs[at : at + width] for at in range(0, len(record.outs), width)]


class _Renaming:
    """Entries carry the addresses of tables: they are equal up to a renaming within their op."""

    def __init__(self, definition: OpDef, addresses: AddressField) -> None:
        types = [result.type for result in definition.results]
        self._level = types.index(ResultType.LEVEL) if ResultType.LEVEL in types else 0
        self._is_entry = [one is ResultType.ENTRY and ResultType.LEVEL in types for one in types]
        self._addresses = addresses
        self._renamed: dict[int, int] = {}

    def differing(self, mine: Sequence[int], theirs: Sequence[int]) -> int | None:
        """Which of a group's results is the first that differs, if any."""
        level = signed(mine[self._level])
        pairs = enumerate(zip(self._is_entry, mine, theirs, strict=True))
        return next((at for at, (entry, a, b) in pairs if not (self._same(a, b, level) if entry else a == b)), None)

    def _same(self, a: int, b: int, level: int) -> bool:
        if not (is_table_entry(a, level) and is_table_entry(b, level)):
            return a == b
        if (a ^ b) & ~self._addresses.bits:
            return False
        mine, theirs = self._addresses.address(a), self._addresses.address(b)
        if mine not in self._renamed and theirs in self._renamed.values():
            return False
        return self._renamed.setdefault(mine, theirs) == theirs
