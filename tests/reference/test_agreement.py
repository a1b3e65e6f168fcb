"""Linux and the model see the same, word for word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sample_programs import BUSY, FAULTS, HYP_BUSY, SPECIAL, random_programs, special_programs
from seeds import refusal
from thinning import first

from harness.model.executor import Model
from harness.observation.events import EVENTS_BY_NUMBER, events_of
from harness.observation.executor import Executor
from harness.observation.layout import Digest
from harness.program.capabilities import EVERYTHING
from harness.program.codec import dialect_for
from harness.program.machine import Machine
from harness.program.program import Program
from harness.program.text import format_program, read
from reference.build.flags import CALLS, FLAVOURS
from reference.build.image import build
from reference.build.naming import SUPPORTED
from reference.build.sources import KernelChoice, prepare
from reference.link.executor import Reference

MODELS = {linux: Model(linux) for linux in SUPPORTED}
RANDOM = {
    linux: random_programs(seed=7, count=400, dialect=dialect_for(model.capabilities))
    for linux, model in MODELS.items()
}


def digest(executor: Executor, program: Program) -> Digest:
    executor.start(program)
    return executor.finish().digest


def disagreements(kernel: Reference, programs: list[Program], model: Model) -> list[str]:
    return [format_program(program) for program in programs if digest(kernel, program) != digest(model, program)]


@pytest.fixture(scope="session", params=first(2, FLAVOURS))
def both_sides(request: pytest.FixtureRequest, linux: str) -> Iterator[tuple[Reference, Model]]:
    """Every packaged version in every flavour, and the model that shows what this flavour can."""
    image = build(prepare(KernelChoice(linux)), request.param)
    with closing(Reference(image, f"kernel:{linux}+{request.param}")) as reference:
        yield reference, Model(linux, calls_only=request.param == CALLS)


def test_the_model_offers_what_the_kernel_declares(linux: str, each_kernel: Reference) -> None:
    assert each_kernel.capabilities == MODELS[linux].capabilities
    assert MODELS[linux].capabilities != EVERYTHING


def test_random_programs(both_sides: tuple[Reference, Model], linux: str) -> None:
    kernel, model = both_sides
    assert disagreements(kernel, RANDOM[linux], model) == []


def test_random_programs_are_varied(each_kernel: Reference, linux: str) -> None:
    """What the agreement is worth: nearly every program shows something else."""
    assert len({digest(each_kernel, program) for program in RANDOM[linux][:100]}) > 90


@pytest.mark.parametrize("name", SPECIAL)
def test_special_programs_word_for_word(each_kernel: Reference, linux: str, name: str) -> None:
    if refused := refusal(MODELS[linux], SPECIAL[name]):
        assert refusal(each_kernel, SPECIAL[name]) == refused.replace("model:", "kernel:")
        return
    theirs, ours = each_kernel.observe(SPECIAL[name]), MODELS[linux].observe(SPECIAL[name])
    assert theirs.words == ours.words
    assert (theirs.records, theirs.pages) == (ours.records, ours.pages)
    assert [note.record for note in theirs.notes] == [note.record for note in ours.notes]


LOG = read(Path(__file__).parents[2] / "corpora" / "seeds" / "memslot_log_manual.s2")
"""What is logged is told, and cleared."""


def test_every_kind_of_event_is_seen(each_kernel: Reference, linux: str) -> None:
    """By the programs on which both sides agree, above; but for what the version never does."""
    programs = [*special_programs(each_kernel.capabilities), BUSY, FAULTS, LOG, *RANDOM[linux][:100]]
    records = [record for program in programs for record in each_kernel.observe(program).records]
    kinds = {event.instruction for record in records for event in events_of(record.events)}
    names = {event.name.removeprefix("store_"): number for number, event in EVENTS_BY_NUMBER.items()}
    assert kinds == EVENTS_BY_NUMBER.keys() - {names[name] for name in MODELS[linux].version.never}


def test_the_kernel_records_the_other_kinds_too(altered) -> None:
    anchor = "\t/* Ensure zeroed PGD pages are visible to the hardware walker */"
    code = "isb(); __kvm_tlb_flush_vmid_ipa_nsh(mmu, 0x1000, -1); cmpxchg(&pgt->pgd[1], 5, 7); dsb(sy);"
    with altered({anchor: f"\t{code}"}) as kernel:
        seen = kernel.observe(Program(()))
    assert [str(event) for event in events_of(seen.records[0].events) if not event.is_in_call] == [
        "zalloc_pages_exact pa=0x44000000 size=0x2000",
        "isb",
        "tlbi_vmid_ipa_nsh ipa=0x1000 level=-1",
        "store cmpxchg 0x44000008 = 0x7",
        "dsb sy",
        "dsb ishst",
    ]


def test_random_programs_word_for_word(both_sides: tuple[Reference, Model], linux: str) -> None:
    kernel, model = both_sides
    for program in RANDOM[linux][:8]:
        assert kernel.observe(program).words == model.observe(program).words


def test_the_digest_is_that_of_the_observation(kernel: Reference) -> None:
    for program in RANDOM["6.12"][8:14]:
        assert digest(kernel, program) == kernel.observe(program).digest


@pytest.mark.parametrize("knobs", [{}, {"fwb": 0, "tlb_range": 0}, {"stage": 1}], ids=str)
def test_the_budget_cuts_at_the_same_event(each_kernel: Reference, linux: str, knobs: dict[str, int]) -> None:
    """For every budget, so at every event: a boundary that one side does not count would shift all that follow."""
    ops = HYP_BUSY if "stage" in knobs else BUSY.ops
    programs = [Program(ops, Machine.of(budget=budget, **knobs)) for budget in range(1, 201)]
    assert disagreements(each_kernel, programs, MODELS[linux]) == []
    assert len({digest(each_kernel, program) for program in programs}) > 100, "the budgets cut at different places"


def test_a_budget_that_just_suffices(kernel: Reference) -> None:
    budgets = [Program(BUSY.ops, Machine.of(budget=budget)) for budget in range(1, 3000, 100)]
    complete = [len(kernel.observe(program).records) == len(BUSY.ops) + 1 for program in budgets]
    assert complete == sorted(complete)
    assert set(complete) == {False, True}
