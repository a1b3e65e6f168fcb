"""What a CPU may have of other vCPUs' stage 1, as one side's events tell."""

from __future__ import annotations

import pytest
from observations import with_events

from harness.model.executor import Model
from harness.observation.events import FOR_MMU, IN_CALL, MSR, SYSREGS, TLB_CALLS, TLBI_KINDS, Event, events_of
from harness.observation.layout import Observation
from harness.program.text import parse
from harness.verdict.contracts.families import violations
from harness.verdict.invalidation import problems
from harness.verdict.tlb.judge import stale_problems
from harness.verdict.vcpus import loads

TURNS = """s2 1

vcpu_load_first cpu=0 vcpu=0
vcpu_put cpu=0
{between}vcpu_load_first cpu=0 vcpu=1
"""
MODES = ("nvhe", "vhe", "pkvm_guest")


def seen(text: str) -> tuple[Observation, int]:
    """What the model shows of a program, and the number of its last record."""
    observation = Model().observe(parse(text))
    return observation, len(observation.records) - 1


def silent(observation: Observation, record: int) -> Observation:
    events = events_of(observation.records[record].events)
    return with_events(observation, record, [one for one in events if not is_of_call(one)])


def is_of_call(event: Event) -> bool:
    return event.is_in_call or event.kind in TLB_CALLS or event.kind == FOR_MMU


def test_without_the_flush_the_other_one_s_stage_1_may_be_used() -> None:
    text = TURNS.format(between="")
    observation, last = seen(text)
    assert not stale_problems(parse(text), observation)
    found = stale_problems(parse(text), silent(observation, last))
    assert [(one.record, one.what) for one in found] == [(last, "loaded-stage-1-left")]


@pytest.mark.parametrize("between", ["tlb_flush_vmid\n", "flush_vm_context\n", "unmap ipa=0x0 size=4K\n"])
def test_what_reaches_every_cpu_is_as_good(between: str) -> None:
    mapped = "map ipa=0x0 size=4K phys=0x80000000 prot=rw mc=3\n" if between.startswith("unmap") else ""
    text = TURNS.format(between=mapped + between)
    observation, last = seen(text)
    quiet = silent(observation, last)
    assert not stale_problems(parse(text), quiet)


def test_a_flush_on_another_cpu_is_none() -> None:
    text = TURNS.format(between="vcpu_load_first cpu=1 vcpu=2\nvcpu_put cpu=1\n")
    observation, last = seen(text)
    assert stale_problems(parse(text), silent(observation, last))


def test_a_flush_for_another_vmid_is_none() -> None:
    text = TURNS.format(between="")
    observation, last = seen(text)
    wrong = [
        one._replace(b=one.b ^ 1 << 50) if one.kind == MSR | IN_CALL and one.a == SYSREGS["vttbr_el2"] else one
        for one in events_of(observation.records[last].events)
    ]
    elsewhere = with_events(observation, last, wrong)
    assert stale_problems(parse(text), elsewhere)
    names = {one.contract.name for one in violations(parse(text), elsewhere)}
    assert {"another-vcpu-s-stage-1-is-gone", "a-load-invalidates-this-cpu-and-this-vmid-alone"} <= names


@pytest.mark.parametrize("mode", MODES)
def test_a_load_flushes_in_every_mode(mode: str) -> None:
    text = TURNS.format(between="").replace("s2 1\n", f"s2 1\nkvm_mode = {mode}\n")
    observation, last = seen(text)
    load = loads(parse(text), observation)[last]
    assert [(one.vmid, one.everywhere) for one in load.flushes.done] == [(1, False)]
    assert (load.last, load.left_by) == (0, ())


def test_what_runs_goes_on_to_leave_entries() -> None:
    """CPU 1 runs vCPU 1 while everything is flushed, and has entries of it when vCPU 0 comes."""
    text = """s2 1

vcpu_load_first cpu=1 vcpu=1
flush_vm_context
vcpu_put cpu=1
vcpu_load_first cpu=1 vcpu=0
"""
    observation, last = seen(text)
    assert loads(parse(text), silent(observation, last))[last].left_by == (1,)


def test_a_new_vmid_has_nothing_left() -> None:
    """A rollover gives the MMU another VMID, under which nobody has run."""
    text = """s2 1
vmid_bits = 2

vmid_init
vcpu_load_first cpu=0 vcpu=0
vcpu_put cpu=0
vmid_update cpu=1 owner=0
vmid_update cpu=1 owner=1
vmid_update cpu=1 owner=2
vcpu_load_first cpu=0 vcpu=1
"""
    observation, last = seen(text)
    found = loads(parse(text), observation)
    assert found[last].vmid != found[2].vmid
    assert loads(parse(text), silent(observation, last))[last].left_by == ()


def test_a_context_s_calls_are_judged_by_what_runs_there() -> None:
    """Of one model: a vCPU that runs because the machine says so, and one that was loaded where the machine says that
    another VM's does. What TLB functions do is the same, and kept; whose context it was is told for each."""
    maps = "map ipa=0x1000 size=4K phys=0x80001000 prot=rw mc=3\nunmap ipa=0x1000 size=4K\n"
    model = Model()
    told = []
    for vcpu, load in (("own", "mmu_first\n"), ("foreign", "vcpu_load_first cpu=0 vcpu=0\n")):
        program = parse(f"s2 1\nkvm_mode = vhe\nvcpu = {vcpu}\n\n{load}{maps}")
        model.start(program)
        calls = model.finish().new_calls
        assert not [one for call in calls for one in problems(call, program.machine)]
        told.append({call.whose and call.whose.runs for call in calls if call.event.kind in TLBI_KINDS})
    assert told == [{None}, {True}]
