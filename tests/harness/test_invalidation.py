"""Whether a TLB function does what it was called for: what is found wrong, even where both sides agree on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from random import Random

import pytest
from executors import Patched
from hypothesis import given
from strategies import lively_programs, machines

from fuzz.generate.fresh import fresh
from harness.findings.report import verdict_report
from harness.model.executor import Model
from harness.observation.calls import Call, calls_of
from harness.observation.events import (
    DSB,
    DSB_DOMAINS,
    FLUSH_CPU_CONTEXT,
    FLUSH_VM_CONTEXT,
    IC,
    IN_CALL,
    MSR,
    SYSREGS,
    TLBI,
    TLBI_TTL_UNKNOWN,
    TLBI_VMID,
    TLBI_VMID_IPA,
    TLBI_VMID_IPA_NSH,
    TLBI_VMID_RANGE,
    Event,
)
from harness.observation.tlbi import BY_NAME
from harness.program.codec import decode, dialect_for
from harness.program.machine import Machine
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.invalidation import Problem, problems
from harness.verdict.judge import Judge
from harness.verdict.known import known, mention, version_of
from harness.verdict.tiers import DEFAULT_TIERS, Tier
from harness.verdict.verdicts import Suspicion
from pgtable.tlb import HostTlbMaintenance, Instruction, TlbMaintenance
from reference.build.image import build
from reference.build.sources import KernelChoice, prepare
from reference.link.executor import Reference

VHE, PKVM_HOST = 1, 3


def call_of(kind: int, a: int = 0, b: int = 0, **knobs: int) -> tuple[list[Event], Machine]:
    """The instructions of a call, as the model has them."""
    ops = {
        TLBI_VMID_RANGE: f"tlb_flush_vmid_range ipa={a:#x} size={b * 4096:#x}",
        FLUSH_CPU_CONTEXT: "flush_cpu_context",
        FLUSH_VM_CONTEXT: "flush_vm_context",
        TLBI_VMID: "tlb_flush_vmid_range ipa=0x0 size=1G",
        TLBI_VMID_IPA: "map ipa=0x1000 size=4K phys=0x1000 prot=r mc=3\nmap ipa=0x1000 size=4K phys=0x2000 prot=r",
        TLBI_VMID_IPA_NSH: "map ipa=0x1000 size=4K phys=0x1000 prot=r mc=3\nrelax_perms ipa=0x1000 prot=w",
    }
    machine = Machine.of(**knobs, **({"tlb_range": 0} if kind == TLBI_VMID else {}))
    program = Program(parse(f"s2 1\n{ops[kind]}").ops, machine)
    (call,) = [call for call in calls_of(Model().observe(program)) if call.event.kind == kind]
    return list(call.instructions), machine


def judged(kind: int, instructions: list[Event], machine: Machine, a: int = 0, b: int = 0) -> str | None:
    if kind in (TLBI_VMID_IPA, TLBI_VMID_IPA_NSH):
        a, b = 0x1000, 3
    return next(all_judged(kind, instructions, machine, a, b), None)


def all_judged(kind: int, instructions: list[Event], machine: Machine, a: int = 0, b: int = 0) -> Iterator[str]:
    return (found.what for found in problems(Call(1, Event(kind, a, b), tuple(instructions)), machine))


def operation(name: str, operand: int = 0) -> Event:
    return Event(TLBI | IN_CALL, BY_NAME[name].number, operand)


def dsb(domain: str) -> Event:
    return Event(DSB | IN_CALL, DSB_DOMAINS[domain], 0)


def find(them: list[Event], what: Event) -> int:
    return next(i for i, event in enumerate(them) if event[:2] == what[:2])


@given(lively_programs, machines)
def test_the_model_does_what_it_is_called_for(program: Program, machine: Machine) -> None:
    given_ = Program(program.ops, machine.replace("stage", program.machine["stage"]))
    assert not list(all_problems(Model(), given_))


def all_problems(model: Model, program: Program) -> Iterator[Problem]:
    return (found for call in calls_of(model.observe(program)) for found in problems(call, program.machine))


@pytest.mark.parametrize("kind", [TLBI_VMID_IPA, TLBI_VMID_IPA_NSH, TLBI_VMID, FLUSH_CPU_CONTEXT])
@pytest.mark.parametrize("mode", range(4))
@pytest.mark.parametrize("vcpu", range(3))
def test_no_invalidation_and_no_barrier_may_be_left_out(kind: int, mode: int, vcpu: int) -> None:
    instructions, machine = call_of(kind, kvm_mode=mode, vcpu=vcpu)
    if mode in (0, 2) and vcpu == 2:
        return
    unnoticed = set()
    for index, event in enumerate(instructions):
        if judged(kind, instructions[:index] + instructions[index + 1 :], machine) is None:
            unnoticed.add(event.name)
    # For another vCPU nothing of the table has changed.
    assert unnoticed <= {"isb", "msr", *(["dsb"] if kind == FLUSH_CPU_CONTEXT else [])}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda them: None, None),
        (lambda them: them.__setitem__(0, dsb("nsh")), "stores-not-seen"),
        (lambda them: them.__setitem__(0, dsb("ishld")), "walks-under-way"),
        (lambda them: them.__setitem__(0, dsb("ishst")), "walks-under-way"),
        (lambda them: them.__setitem__(slice(0, 1), [dsb("ishst"), dsb("nsh")]), None),
        (lambda them: them.pop(3), "context"),
        (lambda them: them.__setitem__(2, them[2]._replace(b=2 << 48)), "vmid"),
        (lambda them: them.__setitem__(4, operation("ipas2e1", 7 << 44 | 1)), "shareability"),
        (lambda them: them.__setitem__(4, operation("ipas2e1os", 7 << 44 | 1)), None),
        (lambda them: them.__setitem__(4, operation("ipas2e1is", 7 << 44 | 2)), "not-covered"),
        (lambda them: them.__setitem__(4, operation("ipas2e1is", 1)), None),
        (lambda them: them.__setitem__(4, operation("ipas2e1is", 6 << 44 | 1)), "level"),
        (lambda them: them.__setitem__(4, operation("ipas2e1is", 11 << 44 | 1)), "granule"),
        (lambda them: them.__setitem__(4, operation("vae1is", 1)), "not-covered"),
        (lambda them: them.insert(4, operation("ipas2e1is", 9)), "too-much"),
        (lambda them: them.__setitem__(4, operation("vmalls12e1is")), None),
        (lambda them: them.__setitem__(5, dsb("ishst")), "order"),
        (lambda them: them.__setitem__(5, dsb("nsh")), "order"),
        (lambda them: them.pop(6), "stage-1-left"),
        (lambda them: them.pop(7), "not-waited-for"),
        (lambda them: them.__setitem__(7, dsb("ishst")), "not-waited-for"),
        (lambda them: them.pop(), None),  # the exception return to the host synchronises
        (lambda them: them.pop(-2), "context-left"),
        (lambda them: them.__setitem__(4, Event(TLBI | IN_CALL, 1, 0)), "unknown-operation"),
    ],
)
def test_one_page(change: Callable[[list[Event]], object], expected: str | None) -> None:
    instructions, machine = call_of(TLBI_VMID_IPA)
    change(instructions)
    assert judged(TLBI_VMID_IPA, instructions, machine) == expected


def test_a_table_is_not_a_leaf() -> None:
    instructions, machine = call_of(TLBI_VMID_IPA)
    instructions[4] = operation("ipas2le1is", 1)
    call = Call(1, Event(TLBI_VMID_IPA, 0x1000, TLBI_TTL_UNKNOWN), tuple(instructions))
    assert [found.what for found in problems(call, machine)] == ["last-level"]


@pytest.mark.parametrize(
    ("mode", "vcpu", "wait"), [(0, 0, True), (2, 0, True), (3, 1, False), (3, 2, True), (1, 2, False)]
)
def test_walks_are_waited_for_where_their_registers_change(mode: int, vcpu: int, wait: bool) -> None:
    """Hyp without VHE that stays in the context it is in changes none, nor does a VHE host under a walk."""
    instructions, machine = call_of(TLBI_VMID_IPA, kvm_mode=mode, vcpu=vcpu)
    assert judged(TLBI_VMID_IPA, instructions, machine) is None
    instructions[find(instructions, dsb("ishst" if mode == VHE else "ish"))] = dsb("ishst")
    assert list(all_judged(TLBI_VMID_IPA, instructions, machine, 0x1000, 3)) == ["walks-under-way"] * wait


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (["ripas2e1is 0x500000000003"], "not-covered"),  # 64 of 65 pages
        (["ripas2e1is 0x500000000003", "ipas2e1is 0x43"], None),
        (["ipas2e1is 0x43", "ripas2e1is 0x500000000003"], None),
        (["ripas2e1is 0x500000000003", "ipas2e1is 0x44"], "not-covered"),
        (["ripas2e1is 0x500000000003", "ipas2e1is 0x43", "ipas2e1is 0x44"], "too-much"),
        (["ripas2e1is 0x500000000002", "ripas2e1is 0x400000000042"], "too-much"),
        (["ripas2e1is 0x100000000003", "ipas2e1is 0x43"], "not-covered"),  # TG is 0
        (["ripas2e1is 0x506000000003", "ipas2e1is 0x43"], "level"),
        (["ripas2e1is 0xd00000000003", "ipas2e1is 0x43"], "not-covered"),  # 64K
        (["vmalls12e1is"], None),
    ],
)
def test_a_range(ranges: list[str], expected: str | None) -> None:
    instructions, machine = call_of(TLBI_VMID_RANGE, 0x3000, 65)
    at = find(instructions, operation("ripas2e1is"))
    words = [text.split() for text in ranges]
    instructions[at : at + 2] = [operation(word[0], int(word[1], 0) if word[1:] else 0) for word in words]
    assert judged(TLBI_VMID_RANGE, instructions, machine, 0x3000, 65) == expected


def test_a_vhe_host_invalidates_for_the_guests_regime_and_comes_back() -> None:
    instructions, machine = call_of(TLBI_VMID_IPA, kvm_mode=VHE)
    writes = [i for i, event in enumerate(instructions) if event.instruction == MSR and event.a == SYSREGS["hcr_el2"]]
    entering, leaving = ([*instructions[:index], *instructions[index + 1 :]] for index in writes)
    assert judged(TLBI_VMID_IPA, entering, machine) == "regime"
    assert judged(TLBI_VMID_IPA, leaving, machine) == "context-left"


def test_told_twice() -> None:
    instructions, machine = call_of(TLBI_VMID_IPA, repeat_tlbi=1)
    again = find(instructions, operation("vale2is"))
    assert judged(TLBI_VMID_IPA, instructions, machine) is None
    assert judged(TLBI_VMID_IPA, instructions[:again] + instructions[again + 2 :], machine) == "not-repeated"
    del instructions[again - 1]
    assert judged(TLBI_VMID_IPA, instructions, machine) == "not-repeated"


def test_everything() -> None:
    for kind, needed in ((FLUSH_VM_CONTEXT, "alle1is"), (TLBI_VMID, "vmalls12e1is"), (FLUSH_CPU_CONTEXT, "vmalle1")):
        instructions, machine = call_of(kind)
        assert judged(kind, instructions, machine) is None
        weaker = [event for event in instructions if event != operation(needed)]
        assert judged(kind, weaker, machine) == "not-covered"
    without_cache = [event for event in instructions if event.instruction != IC]
    assert judged(FLUSH_CPU_CONTEXT, without_cache, machine) == "not-covered"


def test_what_its_caller_may_not_ask_for_is_not_judged() -> None:
    assert judged(TLBI_VMID_IPA, [], Machine.of(vcpu=2)) is None
    assert judged(TLBI_VMID_IPA, [], Machine.of(vcpu=2, kvm_mode=PKVM_HOST)) is not None


# What is known


def test_all_that_is_wrong_with_6_1_is_known() -> None:
    model, seen = Model("6.1"), set()
    dialect = dialect_for(model.capabilities)
    for seed in range(300):
        for found in all_problems(model, decode(fresh(Random(seed), dialect), dialect)):
            assert known(found, "6.1") is not None, found
            seen.add(found.call.event.name)
    assert seen == {"tlbi_vmid_ipa", "tlbi_vmid", "flush_cpu_context"}


SWITCHES = parse("s2 1\nmap ipa=0x1000 size=4K phys=0x1000 prot=r mc=3\nunmap ipa=0x1000 size=4K\nflush_cpu_context")


def test_what_is_known_is_counted_and_no_finding() -> None:
    judge = Judge(Model("6.1"), Model("6.1"))
    seen = judge.look(SWITCHES)
    assert seen.suspicion is judge.check(SWITCHES) is judge.verdict(SWITCHES) is None
    assert seen.known == ("6.1 walks-under-way",) * 6, "three different calls a side"
    assert judge.look(SWITCHES).known == (), "they were met before"
    line = mention(seen.known[0], len(seen.known))
    assert line.startswith("known of Linux 6.1, no finding: walks-under-way in 6 different calls: nVHE hyp changes")


def stores_only(self: TlbMaintenance, domain: str) -> Instruction:
    return Instruction("dsb", domain + "st")


def test_the_same_in_another_version_is_a_finding() -> None:
    judge = Judge(*(Patched(TlbMaintenance, "_stores_waited_for", stores_only) for _ in range(2)))
    seen = judge.look(SWITCHES)
    assert isinstance(seen.suspicion, Suspicion)
    assert (seen.suspicion.what, seen.known) == ("invalidation-unmap-tlbi_vmid_ipa-walks-under-way", ())
    assert judge.confirm(SWITCHES, seen.suspicion).bucket == seen.suspicion.what


def test_anything_else_in_the_same_version_is_a_finding() -> None:
    def without(self: HostTlbMaintenance, domain: str) -> Instruction:
        return Instruction("isb")

    judge = Judge(*(Patched(HostTlbMaintenance, "_stores_waited_for", without, version="6.1") for _ in range(2)))
    verdict = judge.check(SWITCHES)
    assert verdict is not None
    assert verdict.bucket == "invalidation-unmap-tlbi_vmid_ipa-stores-not-seen"


@pytest.mark.parametrize(
    ("identity", "version"),
    [
        ({"linux": "6.1.192"}, "6.1"),
        ({"linux": "6.12"}, "6.12"),
        ({"linux": "6.1-rc3"}, "6.1"),
        ({"linux": "6.19.0-rc2"}, "6.19"),
        ({"version": "6.1"}, "6.1"),
        ({}, None),
    ],
)
def test_whose_linux(identity: dict[str, str], version: str | None) -> None:
    assert version_of(identity) == version


# As a finding


def without_stage_1(self: TlbMaintenance) -> Iterator[Instruction]:
    yield from (Instruction("dsb", "ish"), Instruction("isb"))


PROGRAM = parse("s2 1\nget_leaf ipa=0x0\ntlb_flush_vmid_range ipa=0x1000 size=4K\nget_leaf ipa=0x0")


def wrong() -> Model:
    return Patched(TlbMaintenance, "_stage_1_everywhere", without_stage_1)


def test_sides_that_agree_on_something_wrong() -> None:
    assert Judge(wrong(), wrong()).agree(PROGRAM)
    verdict = Judge(wrong(), wrong()).check(PROGRAM)
    assert verdict is not None
    assert verdict.bucket == "invalidation-tlb_flush_vmid_range-tlbi_vmid_range-stage-1-left"
    assert (verdict.kind, verdict.record, verdict.difference) == ("invalidation", 2, None)
    text = verdict_report(PROGRAM, verdict, ("a", "b"))
    assert "  tlbi_vmid_range ipa=0x1000 pages=1: combined entries of both stages are left" in text
    assert "    tlbi ipas2e1is, 0x1: stage 2, 0x1000, inner shareable\n" in text


def test_only_if_instructions_are_compared() -> None:
    judge = Judge(wrong(), wrong(), DEFAULT_TIERS - {Tier.INSTRUCTIONS})
    assert judge.check(PROGRAM) is None


def test_what_is_right_is_no_finding() -> None:
    assert Judge(Model(), Model()).check(PROGRAM) is None


def test_two_kernels_with_the_same_bug(tmp_path: Path) -> None:
    """No side tells its calls then, so that only now and then one is looked at."""
    path = "arch/arm64/include/asm/tlbflush.h"
    tree = prepare(KernelChoice())
    line = "\t\t__ta |= FIELD_PREP(TLBIR_TG_MASK, get_trans_granule());\t\\\n"
    before = (tree.root / path).read_text().splitlines(keepends=True)
    at = before.index(line)
    patch = tmp_path / "granule.patch"
    hunk = [" " + before[at - 1], "-" + line, "+\t\t\\\n", " " + before[at + 1]]
    patch.write_text("".join([f"--- a/{path}\n+++ b/{path}\n@@ -{at},3 +{at},3 @@\n", *hunk]))
    image = build(prepare(KernelChoice(patches=(patch,))))
    programs = [parse(f"s2 1\ntlb_flush_vmid_range ipa={page:#x}000 size=8K") for page in range(1, 513)]
    with ExitStack() as stack:
        left, right = (stack.enter_context(closing(Reference(image, f"kernel:{name}"))) for name in "ab")
        judge = Judge(left, right)
        seen = [judge.look(program).suspicion for program in programs]
        verdict = judge.verdict(programs[0])
    told = [one for one in seen if isinstance(one, Suspicion)]
    assert seen.count(None) + len(told) == len(programs)
    assert 0 < len(told) < 32
    assert verdict is not None
    assert {one.what for one in told} == {verdict.bucket}
    assert verdict.bucket == "invalidation-tlb_flush_vmid_range-tlbi_vmid_range-not-covered"
