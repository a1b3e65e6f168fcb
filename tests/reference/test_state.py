"""No state survives a program."""

from __future__ import annotations

from array import array

import pytest
from altered_tree import IN_MAP, MAP_SIGNATURE, before
from sample_programs import BUSY, DESTROY, map_op, random_programs, special_programs

from harness.errors import ToolFailure
from harness.model.executor import Model
from harness.observation.executor import TargetDied
from harness.observation.layout import Observation
from harness.program.codec import dialect_for
from harness.program.program import Program
from harness.program.text import parse
from reference.link.executor import Reference

COMMON = dialect_for(Model("6.1").capabilities & Model("6.12").capabilities)
"""What every packaged kernel can run."""
SPECIAL = special_programs(COMMON.capabilities)
PROGRAMS = [*SPECIAL, *random_programs(seed=60, count=60 - len(SPECIAL), dialect=COMMON)]
OTHERS = random_programs(seed=61, count=1000, longest=20, dialect=COMMON)


@pytest.fixture(scope="module")
def alone(each_kernel: Reference) -> list[array[int]]:
    """Every program's observation, each made by a kernel that ran nothing before."""
    words = []
    for program in PROGRAMS:
        each_kernel.refresh()
        words.append(each_kernel.observe(program).words)
    return words


@pytest.fixture(scope="module")
def in_order(each_kernel: Reference) -> list[array[int]]:
    """All of them, one after the other on one kernel."""
    each_kernel.refresh()
    return [each_kernel.observe(program).words for program in PROGRAMS]


def test_programs_are_varied(in_order: list[array[int]]) -> None:
    assert len({bytes(words) for words in in_order}) > 50


def test_after_each_other(alone: list[array[int]], in_order: list[array[int]]) -> None:
    assert in_order == alone


def test_in_reverse_order(each_kernel: Reference, in_order: list[array[int]]) -> None:
    reverse = [each_kernel.observe(program).words for program in reversed(PROGRAMS)]
    assert reverse[::-1] == in_order


def test_after_a_thousand_others(each_kernel: Reference, alone: list[array[int]]) -> None:
    boots = each_kernel.boots
    for program in OTHERS:
        each_kernel.start(program)
        each_kernel.finish()
    for program, words in zip(PROGRAMS, alone, strict=True):
        assert each_kernel.observe(program).words == words
    assert each_kernel.boots == boots


def test_after_requests_that_were_refused(own_kernel: Reference) -> None:
    """A request may be refused when its program has already run in part."""
    expected = own_kernel.observe(BUSY).words
    for payload in (b"", b"\x00\xff", b"\x01", b"\x00\x02\x00", b"\x00\x07\x01\x02"):
        own_kernel.link.send(type(own_kernel._request)("F", 77, payload))
        own_kernel.link.receive(10)
        assert own_kernel.observe(BUSY).words == expected
    assert own_kernel.boots == 1


def warnings(observation: Observation) -> list[int]:
    """The WARNs of each record."""
    return [len(record.complaints) for record in observation.records]


def test_once_is_once_in_every_program(altered) -> None:
    with altered(before(IN_MAP, "WARN_ON_ONCE(1);")) as kernel:
        program = Program((map_op(0), map_op(0x1000), DESTROY))
        for _ in range(3):
            assert warnings(kernel.observe(program)) == [0, 1, 0, 0]


@pytest.mark.parametrize("flavour", ["plain", "ubsan"])
def test_statics_of_hosted_files_are_restored(altered, flavour: str) -> None:
    statics = "static u64 s2fuzz_data = 5, s2fuzz_bss, s2fuzz_table[300] = { [299] = 1 }; "
    count = "WARN_ON(s2fuzz_data++ != 5 || s2fuzz_bss++ || s2fuzz_table[299]++ != 1);"
    with altered({MAP_SIGNATURE: statics + MAP_SIGNATURE, **before(IN_MAP, count)}, flavour) as kernel:
        program = Program((map_op(0), map_op(0x1000)))
        for _ in range(3):
            assert warnings(kernel.observe(program)) == [0, 0, 1]


def test_more_statics_than_can_be_restored_are_refused(altered) -> None:
    much = "u64 s2fuzz_much[10000]; "
    problem = pytest.raises(ToolFailure, match="hosted files keep more data than we can restore")
    with altered({MAP_SIGNATURE: much + MAP_SIGNATURE}) as kernel, problem:
        kernel.observe(BUSY)


def test_what_no_op_ended_is_ended_after_the_program(altered) -> None:
    """Unobserved: but for a crash, nobody could tell."""
    made = parse("s2 1\ncreate_unlinked phys=0x80000000 level=2 prot=rw mc=1\n")
    with altered(before("\tWARN_ON(mm_ops->page_count(pgtable) != 1);", "*(volatile u64 *)0 = 1;")) as kernel:
        with pytest.raises(TargetDied, match="kvm_pgtable_stage2_free_unlinked"):
            kernel.observe(made)
        assert kernel.observe(Program(())).records[0].ret == 0
