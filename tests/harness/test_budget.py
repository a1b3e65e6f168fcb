"""The budget cuts a program at every boundary event, at the same place on both sides."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from seeds import runnable
from thinning import every

from harness.model.executor import Model
from harness.observation.layout import Observation
from harness.program.machine import Machine
from harness.program.program import Program
from harness.program.text import parse, read
from harness.verdict.cuts import counted_in
from harness.verdict.judge import Judge
from reference.link.executor import ByGranule, Reference

PROGRAMS = {
    "split, merge, unmap and destroy": """
        s2 1
        map ipa=0x200000 size=2M phys=0x80200000 prot=rwx mc=2
        map ipa=0x203000 size=8K phys=0x90000000 prot=rw mc=1
        map ipa=0x200000 size=2M phys=0x80200000 prot=rwx
        unmap ipa=0x200000 size=4K
        destroy
    """,
    "owners, walks and errors without range TLBI": """
        s2 1
        tlb_range = off
        ia_bits = 44
        map ipa=0x1000 size=4K phys=0x80001000 prot=r mc=3
        map ipa=0x1000 size=4K phys=0x80001000 prot=r+sw0
        set_owner ipa=0x1000 size=8K owner=1
        walk ipa=0x0 size=16K flags=leaf+table_pre+table_post
        map ipa=0x5000 size=4K phys=0x80001000 prot=rx+device
        unmap ipa=0x0 size=2M
        unmap ipa=16T size=4K
    """,
    "cache maintenance, twice destroyed": """
        s2 1
        fwb = off
        map ipa=0x40000000 size=4M phys=0x80000000 prot=rwx mc=1
        unmap ipa=0x40000000 size=2M
        destroy
        destroy
        init
        get_leaf ipa=0x40000000
    """,
}
MOST = 300
"""No program here needs more events."""


def with_budget(program: Program, budget: int) -> Program:
    """The same program on a machine with that budget."""
    return Program(program.ops, Machine.of(**{**program.machine.changed(), "budget": budget}))


def cut_programs(text: str) -> Iterator[Program]:
    """The program with every budget from 1 to the first that is enough for all of it."""
    whole = parse(text)
    for budget in range(1, MOST):
        program = with_budget(whole, budget)
        yield program
        if Model().observe(program).records[-1].ret is not None:
            return
    raise AssertionError("the program needs more events than it should")


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_results_before_the_cut_are_those_of_the_whole(text: str) -> None:
    whole = Model().observe(parse(text))
    lengths = []
    for program in cut_programs(text):
        seen = Model().observe(program)
        *before, last = seen.records
        assert tuple(before) == whole.records[: len(before)]
        in_whole = whole.records[len(before)]
        assert last.definition == in_whole.definition
        if last.ret is None:
            assert last.outs == in_whole.outs[: len(last.outs)]
            assert last.events == in_whole.events[: len(last.events)]
        else:
            assert seen.records == whole.records
            assert seen.words == whole.words
        lengths.append(len(before))
    assert lengths == sorted(lengths), "more budget went less far"
    assert len(lengths) > 25


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_a_bigger_budget_shows_one_event_more(text: str, kernel: Reference) -> None:
    """Of those that it counts, a visit of `walk` among them; all others cost nothing."""
    for executor in (Model(), kernel):
        for program in cut_programs(text):
            *_, last = records = executor.observe(program).records
            spent = sum(map(counted_in, records))
            assert spent == program.machine["budget"] if last.ret is None else spent <= program.machine["budget"]


@pytest.mark.parametrize("text", PROGRAMS.values(), ids=PROGRAMS)
def test_every_cut_is_the_kernel_s(text: str, kernel: Reference) -> None:
    for program in cut_programs(text):
        assert kernel.observe(program).words == Model().observe(program).words, program.machine["budget"]


@pytest.mark.parametrize(("path", "linux"), every(6, runnable()), indirect=["linux"])
def test_every_seed_cut_early_is_the_kernel_s(path: Path, linux: str, every_kernel: ByGranule) -> None:
    judge = Judge(Model(linux), every_kernel)
    seed = read(path)
    for budget in range(1, 41):
        program = with_budget(seed, budget)
        assert judge.agree(program), budget


def test_what_is_not_reached_is_not_done() -> None:
    """The event that finds the budget spent does not happen, and one more makes it happen."""

    def entries(seen: Observation) -> set[int]:
        return {entry for page in seen.pages.values() for entry in page.entries if entry}

    text = "s2 1\nbudget = {}\nmap ipa=1G size=1G phys=0x80000000 prot=r"
    locked, block = 1 << 10, 0x4000_0080_0007_59
    # init: 2; map: store, cache maintenance, get_page, store, barrier.
    assert [entries(Model().observe(parse(text.format(budget)))) for budget in range(2, 8)] == [
        set(),
        {locked},
        {locked},
        {locked},
        {block},
        {block},
    ]
    assert Model().observe(parse(text.format(6))).records[-1].ret is None
    assert Model().observe(parse(text.format(7))).records[-1].ret == 0


def test_filling_the_memcache_is_free() -> None:
    """A fault handler does it before it maps; it must not depend on the budget."""
    seen = Model().observe(parse("s2 1\nbudget = 2\npool_pages = 64\nmap ipa=0x1000 size=4K phys=0x5000 prot=r mc=40"))
    assert len(seen.memcache) == 40
    assert seen.records[-1].ret is None
