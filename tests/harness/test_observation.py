"""The words of an observation: read back as the parts they were made of, or refused."""

from __future__ import annotations

from array import array

import pytest
from executors import Patched
from hypothesis import given
from hypothesis import strategies as st
from observations import changed, lay_out, observe, with_record
from strategies import lively_programs

from harness.errors import ToolFailure
from harness.findings.trees import side_by_side, tree
from harness.model.executor import Model
from harness.observation.layout import (
    MAX_COMPLAINTS,
    MEMCACHE,
    POOL_MISUSE,
    SPLIT_CACHE,
    UBSAN,
    UNDER_TEST,
    WARN,
    Cache,
    Complaint,
    Digest,
    Holder,
    Root,
    describe_return,
    observation_of,
)
from harness.program.machine import DEFAULT_MACHINE
from harness.program.program import Program
from harness.program.space import U64_MAX
from harness.program.text import parse
from harness.verdict.compare.differences import differences
from pgtable.memory import PagePool

SPLIT = "map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=3\nwalk ipa=0x200000 size=4M flags=leaf+table_pre\n"
DYING = f"{SPLIT}destroy\ndestroy\n"


def test_the_parts_of_a_small_observation() -> None:
    seen = observe(SPLIT)
    assert [record.definition.name for record in seen.records] == ["init", "map", "walk"]
    assert [record.ret for record in seen.records] == [0, 0, 0]
    assert dict(zip((one.name for one in seen.records[0].definition.results), seen.records[0].outs, strict=True)) == {
        "vtcr": 0x802D_3558,
        "ia_bits": 40,
        "start_level": 1,
        "root_pages": 2,
    }
    table, block = 0x4400_4000 | 3, 0x8020_0000 | 0x7D9
    assert seen.records[2].outs == (2, 1, 0x20_0000, table, 1, 2, 0x20_0000, block, 1, 2, 0x40_0000, 0)
    assert seen.root == Root(0x4400_0000, 2, 1, 40, (Holder(UNDER_TEST, 0),))
    assert (seen.allocs, seen.frees) == (5, 0)
    assert seen.caches == (Cache(MEMCACHE, 0, (0x4400_2000, 0x4400_3000)), Cache(SPLIT_CACHE, 0, ()))
    assert {pa: page.refcount for pa, page in seen.pages.items()} == {
        0x4400_0000: 2,
        0x4400_1000: 1,
        0x4400_2000: 1,
        0x4400_3000: 1,
        0x4400_4000: 2,
    }
    assert seen.pages[0x4400_0000].entries[0] == table
    assert seen.pages[0x4400_4000].entries[1] == block
    assert seen.digest == Digest.of(seen.words)


def test_errors_complaints_and_a_missing_root() -> None:
    seen = observe(f"{DYING}get_leaf ipa=0x0\n")
    assert seen.records[-1].ret == -22
    assert seen.records[-1].outs == ()
    assert [str(one) for one in seen.records[4].complaints] == ["WARN", "pool: bad-free 0x0"]
    assert (seen.root, seen.roots) == (None, ())
    assert [note.record for note in seen.notes] == [4, 4]


def test_no_more_than_so_many_complaints_of_an_op_are_kept() -> None:
    """Both sides must cut them at the same number."""
    get_page = PagePool.get_page

    def get_page_and_a_wrong_one(pool: PagePool, pa: int, times: int = 1) -> None:
        for _ in range(times):
            get_page(pool, pa)
            get_page(pool, 0)

    noisy = Patched(PagePool, "get_page", get_page_and_a_wrong_one)
    seen = noisy.observe(parse("s2 1\nmap ipa=0x1000 size=128K phys=0x80001000 prot=rw mc=2\n"))
    assert len(seen.records[1].complaints) == MAX_COMPLAINTS == 16
    assert len(seen.notes) > MAX_COMPLAINTS


def test_an_op_over_budget_ends_the_records() -> None:
    seen = observe("unmap ipa=0x0 size=0xfffffffffffff000\ndestroy\n", budget=5)
    assert [record.ret for record in seen.records] == [0, None]
    assert [describe_return(ret) for ret in (0, None, -12, -11, -4000)] == [
        "0",
        "budget",
        "-ENOMEM",
        "-EAGAIN",
        "-4000",
    ]


@given(lively_programs)
def test_decoding_loses_nothing(program: Program) -> None:
    seen = Model().observe(program)
    assert lay_out(seen) == seen.words
    assert changed(seen) == seen


@pytest.mark.parametrize("text", [SPLIT, DYING])
def test_cut_anywhere_is_a_failure_of_the_tool(text: str) -> None:
    words = observe(text).words
    for length in range(len(words)):
        with pytest.raises(ToolFailure, match="ends too early"):
            observation_of(words[:length])


@given(st.lists(st.integers(0, U64_MAX), min_size=1, max_size=5))
def test_anything_more_is_a_failure_of_the_tool(more: list[int]) -> None:
    words = observe(DYING).words
    with pytest.raises(ToolFailure, match=f"{len(more)} words follow"):
        observation_of(words + array("Q", more))


WORDS = observe(SPLIT).words


HEAD = len(WORDS) - 515 * len(observation_of(WORDS).pages)
"""Words before the first page."""


def _survives(words: array[int]) -> None:
    """A kernel with a bug may observe anything; the tool must not be what breaks."""
    try:
        damaged = observation_of(words)
    except ToolFailure:
        return
    good = observation_of(WORDS)
    differences(good, damaged)
    differences(damaged, good)
    side_by_side(good, damaged, DEFAULT_MACHINE, ("left", "right"))
    tree(damaged, DEFAULT_MACHINE)


@pytest.mark.parametrize("value", [0, 1, 2, 3, 7, 0x4400_1000, 1 << 40, U64_MAX])
def test_damage_before_the_pages_is_refused_or_can_still_be_compared_and_shown(value: int) -> None:
    for at in range(HEAD):
        words = WORDS[:]
        words[at] = value
        _survives(words)


@given(st.integers(HEAD, len(WORDS) - 1), st.integers(0, 63))
def test_damage_in_a_page_is_refused_or_can_still_be_compared_and_shown(at: int, bit: int) -> None:
    words = WORDS[:]
    words[at] ^= 1 << bit
    _survives(words)


@pytest.mark.parametrize(("ops", "record", "count"), [("", 0, 3), ("destroy\n", 1, 1), (SPLIT, 2, 13)])
def test_out_values_come_complete(ops: str, record: int, count: int) -> None:
    seen = observe(ops)
    outs = (*seen.records[record].outs, 1, 2, 3, 4)[:count]
    with pytest.raises(ToolFailure, match=f"{count} out-values of"):
        with_record(seen, record, outs=outs)


def test_an_unknown_op_is_named() -> None:
    words = observe("").words
    words[0] = 99
    with pytest.raises(ToolFailure, match="unknown op 99"):
        observation_of(words)


@pytest.mark.parametrize(
    ("complaint", "text"),
    [
        (Complaint(WARN, 0, 0), "WARN"),
        (Complaint(POOL_MISUSE, 5, 0x4400_0000), "pool: poison 0x44000000"),
        (Complaint(POOL_MISUSE, 77, 0), "pool: 77 0x0"),
        (Complaint(UBSAN, 6, 0), "UBSan: shift-out-of-bounds"),
    ],
)
def test_complaints_in_words(complaint: Complaint, text: str) -> None:
    assert str(complaint) == text


def test_a_digest_is_the_length_and_the_crc_of_the_little_endian_words() -> None:
    assert Digest.of(array("Q", [1])) == Digest(1, 0xA988_DFF7)
    assert Digest.of(array("Q", [1, 2])) != Digest.of(array("Q", [2, 1]))
