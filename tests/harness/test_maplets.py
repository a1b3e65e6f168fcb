"""What a table says: hand-made trees of every format, and lists of maplets against their addresses one by one."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from random import Random

import pytest
from contract_cases import program_of
from hypothesis import given
from hypothesis import strategies as st

from fuzz.generate.fresh import fresh
from harness.model.executor import Model
from harness.observation.descriptors import address_field
from harness.program.codec import decode, dialect_for
from harness.program.granule import GRANULES, Granule
from harness.program.machine import DEFAULT_MACHINE, Machine
from harness.verdict.maplets import (
    Leaf,
    Maplet,
    Memory,
    Tree,
    at,
    changes,
    coalesced,
    leaves,
    maplet_of,
    maplets,
    tree_of,
    within,
)

ROOT, LAST = 0x4400_0000, 0x4410_0000
PAGE, BLOCK, TABLE, AF = 0b11, 0b01, 0b11, 1 << 10
RW = 0b11 << 6
NEVER = 0b10 << 53
"""Of stage 2: executes nowhere."""
RAM = 0x8000_0000
EACH_GRANULE = pytest.mark.parametrize("granule", GRANULES, ids=lambda one: one.name)


def machine_of(granule: Granule, **knobs: int) -> Machine:
    machine = DEFAULT_MACHINE.replace("granule", GRANULES.index(granule))
    for name, value in knobs.items():
        machine = machine.replace(name, value)
    return machine


def said(machine: Machine, root: dict[int, int], last: dict[int, int] | None = None) -> list[str]:
    """What a tree of two levels says, in words; entry 1 of its root leads to the table of the last level."""
    tables = {ROOT: {**root, **({} if last is None else {1: LAST | TABLE})}, LAST: last or {}}
    return [str(one) for one in maplets(Tree(ROOT, 1, 2, 40, tables, {}), machine)]


@EACH_GRANULE
def test_pages_and_blocks_of_a_granule(granule: Granule) -> None:
    machine, page, block = machine_of(granule), granule.page, granule.block
    entry = RAM | AF | RW | NEVER | 0b0110 << 2
    pages = {0: entry | PAGE, 1: entry + page | PAGE, 3: entry + page | PAGE}
    assert said(machine, {0: entry | BLOCK, 2: entry + block | BLOCK}, pages) == [
        f"0x0-{block:#x} -> {RAM:#x} rw normal write-back",
        f"{block:#x}-{block + 2 * page:#x} -> {RAM:#x} rw normal write-back",
        f"{block + 3 * page:#x}-{block + 4 * page:#x} -> {RAM + page:#x} rw normal write-back",
        f"{2 * block:#x}-{3 * block:#x} -> {RAM + block:#x} rw normal write-back",
    ]


@EACH_GRANULE
def test_a_block_and_the_same_memory_by_pages_say_the_same(granule: Granule) -> None:
    machine, page, block = machine_of(granule), granule.page, granule.block
    entry = RAM | AF | RW | 0b0110 << 2
    pages = {number: entry + number * page | PAGE for number in range(granule.entries)}
    start = f"{block:#x}-{2 * block:#x} -> {RAM:#x} rwx normal write-back"
    assert said(machine, {1: entry | BLOCK}) == said(machine, {}, pages) == [start]


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        (AF | RW | NEVER, "rw device nGnRnE"),
        (AF | RW | NEVER | 0b0001 << 2, "rw device nGnRE"),
        (AF | 1 << 6 | NEVER | 0b0101 << 2, "r normal non-cacheable"),
        (AF | 1 << 6 | 0b01 << 53 | 0b0110 << 2, "ru normal write-back"),
        (AF | 1 << 6 | 0b11 << 53 | 0b0111 << 2, "rp normal as stage 1"),
        (1 << 7 | NEVER | 0b0110 << 2, "w normal write-back old"),
        (AF | NEVER | 0b0110 << 2, "no-access normal write-back"),
        (AF | RW | NEVER | 0b1111 << 2, "rw reserved 0xf"),
        (AF | RW | NEVER | 0b0110 << 2 | 0b101 << 55, "rw normal write-back software 0x5"),
        (AF | RW | NEVER | 0b0110 << 2 | 1 << 51, "rw normal write-back other 0x8000000000000"),
    ],
)
def test_attributes_of_stage_2_where_it_forces_write_back(bits: int, words: str) -> None:
    assert said(DEFAULT_MACHINE, {0: RAM | bits | BLOCK}) == [f"0x0-0x200000 -> {RAM:#x} {words}"]


@pytest.mark.parametrize(
    ("attribute", "kind"),
    [
        (0b0001, "device nGnRE"),
        (0b0101, "normal non-cacheable"),
        (0b1111, "normal write-back"),
        (0b1010, "normal write-through"),
        (0b0111, "normal non-cacheable, inner write-back"),
        (0b0100, "reserved 0x4"),
    ],
)
def test_memory_types_of_stage_2_without_fwb(attribute: int, kind: str) -> None:
    machine = DEFAULT_MACHINE.replace("fwb", 0)
    assert said(machine, {0: RAM | AF | RW | NEVER | attribute << 2 | BLOCK}) == [f"0x0-0x200000 -> {RAM:#x} rw {kind}"]


@pytest.mark.parametrize(
    ("hvhe", "bits", "words"),
    [
        (0, AF, "rwx attribute 0"),
        (0, AF | 1 << 7 | 1 << 54, "r attribute 0"),
        (0, AF | 0b100 << 2 | 1 << 54, "rw attribute 4"),
        (0, AF | 1 << 54 | 1 << 53, "rw attribute 0 other 0x20000000000000"),
        (1, AF | 1 << 53 | 1 << 54, "rw attribute 0"),
        (1, AF | 1 << 54, "rwx attribute 0"),
    ],
)
def test_attributes_of_hyp(hvhe: int, bits: int, words: str) -> None:
    """With E2H, EL2 has a bit of its own for what it does not execute (Arm ARM, D8.4)."""
    machine = machine_of(GRANULES[0], stage=1, hvhe=hvhe)
    assert said(machine, {0: RAM | bits | BLOCK}) == [f"0x0-0x200000 -> {RAM:#x} {words}"]


@EACH_GRANULE
def test_addresses_of_52_bits_with_lpa2(granule: Granule) -> None:
    """Bits 51 and 50 are where shareability is without."""
    machine = machine_of(granule, lpa2=1)
    memory = 0b11 << 50 | RAM
    entry = address_field(machine).put(AF | RW | NEVER | 0b0110 << 2 | BLOCK, memory)
    assert entry & 0b11 << 8 == 0b11 << 8
    assert said(machine, {0: entry}) == [f"0x0-{granule.block:#x} -> {memory:#x} rw normal write-back"]


def test_shareability_is_part_of_what_a_table_says() -> None:
    inner, none = (maplet_of(Leaf(0, 2, RAM | AF | RW | sh << 8 | BLOCK), DEFAULT_MACHINE) for sh in (0b11, 0b00))
    assert not inner.says(none)


def test_annotations_are_said_by_their_bits_and_locks_as_such() -> None:
    assert said(DEFAULT_MACHINE, {0: 0x8, 2: 0x400}, {0: 0x4, 1: 0x4}) == [
        "0x0-0x200000 annotated 0x8",
        "0x200000-0x202000 annotated 0x4",
        "0x400000-0x600000 locked",
    ]


def test_concatenated_roots_follow_on_each_other() -> None:
    entry = RAM | AF | RW | BLOCK | 0b0110 << 2
    tables = {ROOT: {511: entry}, ROOT + 0x1000: {0: entry + (1 << 30)}}
    tree = Tree(ROOT, 2, 1, 40, tables, {})
    start = 511 << 30
    assert [str(one) for one in maplets(tree, DEFAULT_MACHINE)] == [
        f"{start:#x}-{start + (2 << 30):#x} -> {RAM:#x} rwx normal write-back"
    ]


def test_a_table_that_leads_to_itself_ends() -> None:
    """As one may in a kernel with a bug: all its entries for all its entries, and so on, would be 2^36 pages."""
    tables = {ROOT: dict.fromkeys(range(512), ROOT | TABLE)}
    tree = Tree(ROOT, 1, 0, 48, tables, {})
    assert 0 < len(list(leaves(tree, DEFAULT_MACHINE))) < 10 * 512
    assert 0 < len(maplets(tree, DEFAULT_MACHINE)) < 10 * 512


def test_nothing_is_said_of_no_tree_and_of_no_addresses() -> None:
    tree = Tree(ROOT, 1, 2, 30, {ROOT: {0: RAM | AF | BLOCK}}, {})
    assert maplets(None, DEFAULT_MACHINE) == []
    assert within(maplets(tree, DEFAULT_MACHINE), 0x1000, 0x1000) == []
    assert within(maplets(tree, DEFAULT_MACHINE), 1 << 30, 1 << 40) == []
    assert maplets(tree._replace(ia_bits=20), DEFAULT_MACHINE)[0].end == 1 << 20
    assert maplets(tree._replace(level=7), DEFAULT_MACHINE) == []


@EACH_GRANULE
def test_tables_by_runs_say_what_their_entries_say_one_by_one(granule: Granule) -> None:
    """And so does any part of them."""
    model, choice = Model(), Random(16)
    dialect = dialect_for(model.capabilities, granule)
    told = 0
    for number in range(90):
        program = decode(fresh(Random(number), dialect), dialect)
        seen = model.observe(program)
        for root in seen.roots:
            tree = tree_of(root, seen)
            each = [maplet_of(leaf, seen.machine) for leaf in leaves(tree, seen.machine)]
            assert maplets(tree, seen.machine) == coalesced(each)
            for start, end in _windows(choice, each, granule):
                inside = [one.clipped(start, end) for one in each if one.start < end and start < one.end]
                assert within(maplets(tree, seen.machine), start, end) == coalesced(inside)
            told += len(each)
    assert told > 1000


def _windows(choice: Random, each: list[Maplet], granule: Granule) -> Iterator[tuple[int, int]]:
    for one in each[:4]:
        start = max(0, one.start + choice.randrange(-2, 3) * granule.page)
        yield start, start + choice.randrange(1, 5) * granule.page


def test_a_maplet_of_an_unlinked_table_begins_at_0() -> None:
    seen = Model().observe(program_of("create_unlinked phys=0x80000000 level=2 prot=rw mc=4\n"))
    unlinked = [root for root in seen.roots if not root.ia_bits]
    assert [str(one) for root in unlinked for one in maplets(tree_of(root, seen), seen.machine)] == [
        "0x0-0x200000 -> 0x80000000 rw normal write-back"
    ]


_MEMORIES = tuple(Memory(allows, "normal write-back", 3, True, 0, 0) for allows in ("r", "rw"))


@st.composite
def _lists(draw: st.DrawFn) -> list[Maplet]:
    """Maplets in order, of some of sixteen pages."""
    edges = sorted(draw(st.sets(st.integers(0, 16), max_size=8)))
    kinds = st.sampled_from([None, "owned", *_MEMORIES])
    found = []
    for start, end in pairwise(edges):
        kind = draw(kinds)
        if kind == "owned":
            found.append(Maplet(start, end, annotation=4))
        elif isinstance(kind, Memory):
            found.append(Maplet(start, end, draw(st.sampled_from([0, 8])), kind))
    return found


def _says(several: list[Maplet], address: int) -> tuple[object, ...] | None:
    one = next((one for one in several if one.start <= address < one.end), None)
    return None if one is None else (one.offset, one.memory, one.annotation)


@given(_lists())
def test_coalesced_maplets_say_the_same_and_are_as_few_as_can_be(several: list[Maplet]) -> None:
    fewer = coalesced(several)
    assert all(_says(fewer, address) == _says(several, address) for address in range(17))
    assert not any(a.end == b.start and a.says(b) for a, b in pairwise(fewer))


@given(_lists(), _lists())
def test_changes_are_the_addresses_of_which_two_lists_say_something_else(
    before: list[Maplet], after: list[Maplet]
) -> None:
    found = list(changes(before, after))
    changed = {address for change in found for address in range(change.start, change.end)}
    assert changed == {address for address in range(17) if _says(before, address) != _says(after, address)}
    for change in found:
        for address in range(change.start, change.end):
            assert _says([change.before] if change.before else [], address) == _says(before, address)
            assert _says([change.after] if change.after else [], address) == _says(after, address)
    assert all(a.end <= b.start for a, b in pairwise(found))


@given(_lists())
def test_the_maplet_of_an_address(several: list[Maplet]) -> None:
    for address in range(17):
        one = at(several, address)
        assert (None if one is None else (one.offset, one.memory, one.annotation)) == _says(several, address)


@given(_lists(), st.integers(0, 16), st.integers(0, 16))
def test_what_is_said_of_a_part_is_what_the_whole_says_of_its_addresses(
    several: list[Maplet], start: int, end: int
) -> None:
    part = within(several, start, end)
    assert all(start <= one.start < one.end <= end for one in part)
    assert all(_says(part, address) == _says(several, address) for address in range(start, end))
