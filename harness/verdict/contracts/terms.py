"""What contracts are written with: the range that an op names, what it was to become, and what changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any, Final

from harness.observation.descriptors import address_field, is_table_entry
from harness.observation.events import Event
from harness.observation.layout import EVENT_WORDS, WARN
from harness.program.granule import LAST_LEVEL
from harness.program.kinds.flags import PROT_BITS
from harness.program.machine import Machine
from harness.program.results import signed
from harness.program.space import U64_MAX
from harness.verdict.contracts.states import State, Transition
from harness.verdict.maplets import Change, Leaf, Maplet, Memory, Tree, maplet_of
from harness.verdict.memslots import Slot

_VALID: Final = 1
_DEVICE, _NORMAL_NC, _NORMAL = "device nGnRE", "normal non-cacheable", "normal write-back"
_SOFTWARE: Final = ("sw0", "sw1", "sw2", "sw3")


@dataclass(frozen=True, slots=True)
class Asked:
    """The range that an op names, [start, end) in whole pages, and what it was to become: mapped, `offset` bytes to its
    memory; else (None) not. The header: the address's offset within a page is ignored, the size is rounded up."""

    start: int
    end: int
    offset: int | None
    allows: str
    kind: str
    software: int

    @property
    def is_empty(self) -> bool:
        return self.start == self.end

    def is_there(self, op: Transition) -> bool:
        """Whether the memory asked for lies within the machine's physical addresses."""
        assert self.offset is not None
        return self.start + self.offset >= 0 and self.end + self.offset <= 1 << op.machine.phys_bits

    def is_like(self, one: Maplet) -> bool:
        """Whether a maplet says what was asked for, permissions apart."""
        if self.offset is None or one.memory is None:
            return self.offset is None and one.memory is None
        return (one.offset, one.memory.kind) == (self.offset, self.kind)

    def is_one_leaf(self, op: Transition) -> bool:
        """Whether the range is just the leaf that translates it, and may stay so: the callback of a table that is to be
        mapped in pages splits blocks."""
        page = op.machine.granule.page
        may_stay = not op.machine["force_pte"] or self.end - self.start == page
        return may_stay and leaf_span(op.before, self.start) == (self.start, self.end)


@lru_cache(maxsize=1)  # for the next contract of the same op
def range_of(op: Transition, may_warn: bool = False) -> tuple[int, int] | None:
    """The range that the op names, in whole pages.

    None where it names none, where there is no table, where the range leaves the addresses that the table has, or
    wraps, where the program itself has written entries, and where the kernel warned, unless it `may_warn`: nothing is
    promised then."""
    tree = op.before.tree
    if tree is None or op.record.ret is None or op.tampered or (is_warned(op) and not may_warn):
        return None
    definition, page = op.op.definition, op.machine.granule.page
    if definition.address is None:
        return None
    size = page if definition.size is None else op.op.args[definition.size]
    start = op.op.args[definition.address] & -page
    end = start + (size + page - 1 & -page)
    return None if size > U64_MAX - page or end > 1 << tree.ia_bits else (start, end)


def slots_in_range(op: Transition) -> list[Slot]:
    """What memory slots have of the range that an op on them names, in whole pages."""
    page = op.machine.granule.page
    start, end = op.value("ipa") & -page, op.value("ipa") + op.value("size") + page - 1 & -page
    return op.judged.slots[op.number - 1].shares(start, end)


def trees_of(op: Transition, state: State) -> tuple[Tree | None, list[Tree]]:
    """The tree of the first MMU of the VM in use, and those of its other tables."""
    mmus = op.judged.mmus(op.number)
    trees = {number: tree for number, tree in state.others.items() if mmus.vm_of_table(number) == mmus.vm}
    if state.tree is not None:
        trees[op.judged.slots[op.number - 1].table] = state.tree
    first = trees.pop(mmus.vm, None)
    return first, [trees[number] for number in sorted(trees)]


@lru_cache(maxsize=1)
def asked_in(op: Transition) -> Asked | None:
    """What the op asks for, in stage 2; None where `range_of` has no range."""
    span = range_of(op)
    if span is None:
        return None
    start, end = span
    if not any(arg.name == "phys" for arg in op.op.definition.args):
        return Asked(start, end, None, "", "", 0)
    page, prot = op.machine.granule.page, op.value("prot")
    return Asked(start, end, (op.value("phys") & -page) - start, allowed_by(prot), _kind_of(prot), _software(prot))


@cache
def allowed_by(prot: int) -> str:
    """The permissions of a protection, as `Memory.allows` has them."""
    return "".join(name for name in "rwx" if prot & PROT_BITS[name])


@cache
def _software(prot: int) -> int:
    return sum(1 << number for number, name in enumerate(_SOFTWARE) if prot & PROT_BITS[name])


@cache
def _kind_of(prot: int) -> str:
    """The memory type that a protection asks for in stage 2."""
    if prot & PROT_BITS["device"]:
        return _DEVICE
    return _NORMAL_NC if prot & PROT_BITS.get("nc", 0) else _NORMAL


_KINDS: Final = {_DEVICE: PROT_BITS["device"], _NORMAL_NC: PROT_BITS["nc"], _NORMAL: 0}


def memory_of(entry: int, machine: Machine) -> Memory | None:
    """What a page's entry says of its memory; None where it is not valid."""
    return maplet_of(Leaf(0, LAST_LEVEL, entry), machine).memory


def prot_of(memory: Memory) -> int | None:
    """The protection that memory of stage 2 would be mapped with; None where no protection asks for such."""
    if memory.kind not in _KINDS or memory.other or set(memory.allows) & set("up"):
        return None
    software = sum(PROT_BITS[name] for number, name in enumerate(_SOFTWARE) if memory.software >> number & 1)
    return _KINDS[memory.kind] | software | sum(PROT_BITS[name] for name in memory.allows)


def left_empty(op: Transition) -> Iterator[str] | None:
    """Tables that the op has emptied and that are still in use, roots apart, and those that had a reference too
    many already. None where the program itself has written entries, where the kernel warned, and where nobody counts
    references."""
    tree = op.after.tree
    if tree is None or op.tampered or op.record.ret is None or is_warned(op) or not op.machine["page_count"]:
        return None
    roots = [
        range(one.root, one.root + one.pages * op.machine.granule.page) for one in (tree, *op.after.others.values())
    ]
    return (
        f"the table {page:#x} is empty, and still in use"
        for page, entries in sorted(op.after.tables.items())
        if not entries
        and not any(page in one for one in roots)
        and op.before.tables.get(page)
        and not op.before.excess(page)
    )


def is_warned(op: Transition) -> bool:
    """Whether the kernel warned of the op."""
    return any(complaint.kind == WARN for complaint in op.record.complaints)


def events_in(op: Transition, kinds: Collection[int]) -> Iterator[Event]:
    """The op's events of some kinds, in order."""
    words = op.record.events
    return (
        Event(kind, words[number * EVENT_WORDS + 1], words[number * EVENT_WORDS + 2])
        for number, kind in enumerate(words[::EVENT_WORDS])
        if kind in kinds
    )


def unlike(several: list[Maplet], asked: Asked) -> Iterator[str]:
    """What of the range is not what was asked for."""
    reached = asked.start
    for one in several:
        if one.start > reached:
            yield f"{reached:#x}-{one.start:#x} is not mapped"
        reached = one.end
        memory = one.memory
        if memory is None:
            yield f"{one} is not mapped"
        elif one.offset != asked.offset:
            yield f"{one} is other memory than asked for"
        elif (memory.allows, memory.kind, memory.software) != (asked.allows, asked.kind, asked.software):
            yield f"{one} is not {asked.allows} {asked.kind} software {asked.software:#x}"
    if reached < asked.end:
        yield f"{reached:#x}-{asked.end:#x} is not mapped"


def unlike_prot(several: list[Maplet], start: int, end: int, offset: int, prot: int) -> Iterator[str]:
    """What of [start, end) is not mapped `offset` bytes further, as a protection says. Of stage 1 the memory type is an
    index whose meaning no table tells, and is left out."""
    kinds = {one.memory.kind for one in several if one.memory is not None}
    kind = _kind_of(prot) if not kinds or not next(iter(kinds)).startswith("attribute") else next(iter(kinds))
    return unlike(several, Asked(start, end, offset, allowed_by(prot), kind, _software(prot)))


def changes_in(op: Transition, start: int, end: int) -> Iterator[Change]:
    """What changed of [start, end)."""
    return (change for change in op.changes if change.start < end and start < change.end)


def changes_outside(op: Transition, start: int, end: int) -> Iterator[Change]:
    """What changed of everything else; of a change that reaches over an edge, the part outside."""
    for change in op.changes:
        if change.start < start:
            yield _part(change, change.start, min(change.end, start))
        if change.end > end:
            yield _part(change, max(change.start, end), change.end)


def _part(change: Change, start: int, end: int) -> Change:
    before, after = (None if one is None else one.clipped(start, end) for one in (change.before, change.after))
    return Change(start, end, before, after)


def beyond_blocks(op: Transition, asked: Asked, is_meant: Callable[[Change], bool]) -> Iterator[str]:
    """What changed outside the range, but for blocks that reach into it, which may change as `is_meant` says."""
    if asked.is_empty:
        return (f"{change}" for change in op.changes)
    blocks = [span for end in (asked.start, asked.end - 1) if (span := leaf_span(op.before, end)) is not None]
    return (
        f"{change}, outside the range"
        for change in changes_outside(op, asked.start, asked.end)
        if not (is_meant(change) and any(start <= change.start and change.end <= end for start, end in blocks))
    )


def is_only(change: Change, **allowed: Callable[[Any, Any], bool]) -> bool:
    """Whether both are mapped to the same memory, and differ only in what is `allowed`: fields of Memory, each with
    whether its change, from and to, is."""
    before, after = change.before, change.after
    if before is None or after is None or before.memory is None or after.memory is None:
        return False
    if before.offset != after.offset:
        return False
    for name in ("allows", "kind", "shareability", "is_young", "software", "other"):
        was, now = getattr(before.memory, name), getattr(after.memory, name)
        if was != now and not (name in allowed and allowed[name](was, now)):
            return False
    return True


def leaf_span(state: State, address: int) -> tuple[int, int] | None:
    """The addresses of the valid leaf that translates `address`; None where there is none."""
    if state.tree is None or address >> state.tree.ia_bits:
        return None
    entry, level = entry_of(state, address)
    if not entry & _VALID:
        return None
    size = 1 << state.machine.granule.level_shift(level)
    return address & -size, (address & -size) + size


def entry_of(state: State, address: int) -> tuple[int, int]:
    """The entry that ends the walk of `address`, and its level. There is a tree."""
    entry, level = entry_at(state, address)
    return entry, signed(level)


def entry_at(state: State, address: int) -> tuple[int, int]:
    """The entry that ends the walk of `address`, and its level as a word in two's complement. There is a tree."""
    tree, granule = state.tree, state.machine.granule
    assert tree is not None
    decode = address_field(state.machine).address
    level, table, base = tree.level, tree.root, 0
    size = granule.entries << granule.level_shift(level)
    table, base = tree.root + address // size * granule.page, address // size * size
    while True:
        shift = granule.level_shift(level)
        index = address - base >> shift
        entry = tree.tables.get(table, {}).get(index, 0)
        if not is_table_entry(entry, level):
            return entry, level & U64_MAX
        table, base, level = decode(entry), base + (index << shift), level + 1
