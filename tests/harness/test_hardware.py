"""The hardware as a judge: translations as a tier, which programs are judged, and when the emulator is suspected."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.findings.report import observation_text, verdict_report
from harness.model.executor import Model
from harness.model.ops import guest
from harness.observation.execution import Execution
from harness.observation.executor import Executor
from harness.observation.layout import Observation
from harness.program import syndromes
from harness.program.guest import WINDOW
from harness.program.probing import PROBE, with_probes
from harness.program.program import Program
from harness.program.text import parse, read
from harness.verdict import emulator
from harness.verdict.buckets import problem_with
from harness.verdict.judge import Judge
from harness.verdict.judging import SAMPLE, Judging, is_sampled
from harness.verdict.known import mention
from harness.verdict.tiers import DEFAULT_TIERS, ORDER_EXPECTED, Tier
from harness.verdict.verdicts import FirstLook, Verdict
from pgtable import Fault, Translation
from tests.executors import Patched

SEEDS = Path(__file__).parents[2] / "corpora/seeds"
MAP = parse("s2 1\nmap ipa=0x201000 size=8K phys=0x80000000 prot=rw mc=4\n")
PROBED = parse("s2 1\nmap ipa=0x201000 size=8K phys=0x80000000 prot=rw mc=4\nprobe ipa=0x201000\n")
ALONE = frozenset({Tier.TRANSLATION})
PAR_OF = guest.par_of


class Emulated(Patched):
    """Another walker than the model's, that tells `par` of what the model's finds."""

    def __init__(self, par: Any) -> None:
        super().__init__(guest, "par_of", par)

    @property
    def name(self) -> str:
        return "kernel:emulated"

    @property
    def identity(self) -> Mapping[str, str]:
        return {"qemu": "QEMU emulator version 7.2.22 (Debian 1:7.2)"}


def outer(found: Translation | Fault) -> int:
    """A walker that makes memory outer shareable."""
    return PAR_OF(found) if isinstance(found, Fault) else syndromes.par(found.pa, found.memory, 2)


def verdict(judge: Judge, program: Program) -> Verdict:
    found = judge.verdict(program)
    assert found is not None
    return found


def report_lines(report: str, word: str) -> list[str]:
    """Those of the three voices with that word."""
    begin = report.index("What each table says")
    lines = report[begin : report.index("\n\n", begin)].splitlines()[1:]
    return [line.strip() for line in lines if re.search(rf"\b{word}\b", line)]


class WrongPages(Model):
    """Maps what is to be read alone so that it can be written, too: wrong tables."""

    def start(self, program: Program) -> None:
        ops = [op if op.name != "map" else replace(op, args=(*op.args[:3], 7, *op.args[4:])) for op in program.ops]
        super().start(replace(program, ops=tuple(ops)))


def test_wrong_tables_are_seen_by_their_translation_alone() -> None:
    program = with_probes(parse("s2 1\nmap ipa=0x201000 size=8K phys=0x80000000 prot=r mc=4\n"))
    found = verdict(Judge(Model(), WrongPages(), ALONE), program)
    assert (found.kind, found.bucket) == ("divergence", "translation-probe-write_faults")
    assert program.ops[found.record - 1].definition is PROBE
    assert problem_with(found.bucket) == ""
    report = verdict_report(program, found, ("model", "kernel"))
    assert "translation differs: write faults" in report
    assert report_lines(report, "table") == [
        "model's table   stage 2 permission fault, level 3",
        "kernel's table  pa=0x80000000 normal-wb inner-shareable",
        "The hardware and kernel's table agree: the table is another one.",
    ]
    earlier = verdict(Judge(Model(), WrongPages()), program)
    assert earlier.bucket == "tables-map-entry-level3", "whoever compares tables hears of it sooner"


def test_answers_of_the_hardware_are_no_results() -> None:
    judge = Judge(Model(), Emulated(outer), DEFAULT_TIERS - ALONE)
    assert judge.verdict(PROBED) is None
    assert Tier.TRANSLATION in DEFAULT_TIERS & ORDER_EXPECTED


@pytest.mark.parametrize(
    ("par", "what"),
    [
        (outer, "read_attributes"),
        (lambda _: 1 | 7 << 1, "read_faults"),
        (lambda found: PAR_OF(found._replace(pa=found.pa ^ 0x1000)), "read_address"),
    ],
)
def test_what_differs_is_in_the_bucket(par: Any, what: str) -> None:
    found = verdict(Judge(Model(), Emulated(par), ALONE), PROBED)
    assert found.bucket == f"emulator-probe-{what}"
    assert problem_with(found.bucket) == ""


def test_an_emulator_is_suspected_where_all_else_is_the_same() -> None:
    found = verdict(Judge(Model(), Emulated(outer)), PROBED)
    assert (found.kind, found.bucket, found.blamed) == ("emulator", "emulator-probe-read_attributes", "QEMU 7.2.22")
    report = verdict_report(PROBED, found, ("model", "kernel"))
    assert "the code under test has no part in this" in report
    assert "QEMU 7.2.22" in report
    assert report_lines(report, "tables") == [
        "Both tables say the same: the hardware is at odds with them, or with the reading."
    ]
    assert report_lines(report, "MMU") == ["MMU of kernel   pa=0x80000000 normal-wb outer-shareable"]


class EmulatedWrongPages(WrongPages):
    """Runs in an emulator, which is not at fault."""

    @property
    def identity(self) -> Mapping[str, str]:
        return {"qemu": "QEMU emulator version 7.2.22"}


class EmulatedReserved(EmulatedWrongPages):
    """Has a defect besides."""

    def observe(self, program: Program) -> Observation:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(guest, "par_of", defective)
            return super().observe(program)

    def finish(self) -> Execution:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(guest, "par_of", defective)
            return super().finish()


def test_an_emulator_is_not_suspected_where_tables_differ() -> None:
    program = with_probes(parse("s2 1\nmap ipa=0x201000 size=8K phys=0x80000000 prot=r mc=4\n"))
    assert verdict(Judge(Model(), EmulatedWrongPages(), ALONE), program).kind == "divergence"


def test_nor_where_both_sides_run_in_one() -> None:
    assert verdict(Judge(Emulated(PAR_OF), Emulated(outer)), PROBED).kind == "divergence"


class EmulatedElsewhere(Emulated):
    """Its own walk leads out of the pool."""

    def __init__(self) -> None:
        super().__init__(PAR_OF)
        self._patch = (guest, "leaves_pool", lambda _: True)


def test_nor_where_the_sides_walked_themselves() -> None:
    found = verdict(Judge(Model(), EmulatedElsewhere()), PROBED)
    assert (found.kind, found.bucket) == ("divergence", "translation-probe-return")


PAGE_64K = "s2 1\ngranule = 64k\nparange = 48\nmap ipa=0x20000000 size=64K phys=0x80000000 prot=rwx mc=4\n"
DEFECTS = {
    "block-beyond-ps": "s2 1\nstage = 1\ngranule = 64k\nparange = 40\nplant ipa=0 level=1 pte=0x7fd\n{}",
    "reserved-block": "s2 1\nia_bits = 48\nplant ipa=0 level=0 pte=0x7fd\n{}",
    "stage1-shareability": "s2 1\nstage = 1\nhyp_map va=0x1000 size=4K phys=0x80000000 prot=rw+device\n{}",
    "stage1-walk-level": "s2 1\nguest = on\nmap ipa=0x42201000 size=4K phys=0x80000000 prot=rw mc=4\n"
    "unmap ipa=0x42200000 size=4K\nvcpu_load_first cpu=0 vcpu=0\n{}",
    "bits-beyond-ps": PAGE_64K + "plant ipa=0x20000000 level=3 pte=0x800057df\n{}",
}
"""A program that shows each, but for its last op."""
ASKED = {
    "block-beyond-ps": "probe ipa=0x20000000000\n",
    "reserved-block": "probe ipa=0x42000000\n",
    "stage1-walk-level": "vcpu_read ipa=0x1000\n",
    "bits-beyond-ps": "probe ipa=0x20000000\n",
    "stage1-shareability": "probe ipa=0x1000\n",
}


def defective(found: Translation | Fault) -> int:
    """A walker that takes what faults for a page, and device memory for inner shareable."""
    if isinstance(found, Fault):
        return syndromes.par(WINDOW, 0xFF, 3)
    return syndromes.par(found.pa, found.memory, 3)


def test_every_known_defect_has_a_program() -> None:
    assert {one.what for one in emulator.DEFECTS} == DEFECTS.keys() == ASKED.keys()


@pytest.mark.parametrize("what", DEFECTS)
def test_a_known_defect_is_no_finding(what: str, kernels: Executor) -> None:
    program = parse(DEFECTS[what].format(ASKED[what]))
    judge = Judge(Model(), kernels)
    assert not judge.agree(program), "it is there to be known"
    look = judge.look_deeper(program)
    assert (look.suspicion, look.known) == (None, (f"QEMU {what}",))
    assert judge.verdict(program) is None
    assert mention(f"QEMU {what}", 3).startswith(f"known of QEMU 7.2, no finding: {what} in 3 executions: ")


def test_the_level_of_stage_1_is_known_of_that_version_alone(kernels: Executor) -> None:
    what = "stage1-walk-level"
    program = parse(DEFECTS[what].format(ASKED[what]))
    op, ours, theirs = program.ops[-1], Model().observe(program), kernels.observe(program)
    known = [emulator.known_defect(op, "esr", ours, theirs, (1, version)) for version in ("7.2.22", "10.0.2")]
    assert [one and one.what for one in known] == [what, None]
    level_3 = kernels.observe(parse(DEFECTS["bits-beyond-ps"].format(ASKED["bits-beyond-ps"])))
    assert emulator.known_defect(op, "esr", ours, level_3, (1, "7.2.22")) is None


@pytest.mark.parametrize("what", [what for what, asked in ASKED.items() if asked.startswith("probe")])
def test_it_is_known_of_that_version_and_entry_alone(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program = parse(DEFECTS[what].format(ASKED[what]))
    assert Judge(Model(), Emulated(defective)).verdict(program) is None
    elsewhere = parse(DEFECTS[what].format("probe ipa=0x8000000000\n" + ASKED[what]))
    assert verdict(Judge(Model(), Emulated(defective)), elsewhere).record == len(elsewhere.ops) - 1
    monkeypatch.setattr(Emulated, "identity", {"qemu": "QEMU emulator version 10.0.2"})
    assert verdict(Judge(Model(), Emulated(defective)), program).blamed == "QEMU 10.0.2"


def test_several_defects_in_a_program_are_known_each() -> None:
    asked = 2 * "probe ipa=0x1000\n"
    assert Judge(Model(), Emulated(defective)).verdict(parse(DEFECTS["stage1-shareability"].format(asked))) is None


def test_what_changed_behind_a_known_defect_does_not_unmask_it() -> None:
    """The table is looked at as it was when the hardware was asked."""
    what = "reserved-block"
    program = parse(DEFECTS[what].format(ASKED[what] + "plant ipa=0 level=0 pte=0x0\n"))
    assert Judge(Model(), Emulated(defective)).check(program) is None


def test_a_wrong_table_is_found_behind_a_known_defect() -> None:
    what = "reserved-block"
    program = parse(DEFECTS[what].format(ASKED[what] + "map ipa=0x8000000000 size=4K phys=0 prot=r mc=4\n"))
    assert verdict(Judge(Model(), EmulatedReserved()), program).bucket == "tables-map-entry-level3"


# Which programs


class Asked(Model):
    """Counts the probes that it runs."""

    probes = 0

    def start(self, program: Program) -> None:
        self.probes += sum(op.definition is PROBE for op in program.ops)
        super().start(program)


def sample(count: int) -> list[Program]:
    return [replace(MAP, machine=MAP.machine.replace("vmid", number)) for number in range(count)]


def test_a_sample_is_one_in_so_many_and_always_the_same() -> None:
    programs = sample(32 * SAMPLE)
    chosen = [is_sampled(one) for one in programs]
    assert 16 < sum(chosen) < 64
    assert chosen == [is_sampled(replace(one, comment="the same program")) for one in programs]


@pytest.mark.parametrize(
    ("judging", "is_new", "wants"),
    [
        (Judging.ALL, False, True),
        (Judging.SAMPLE, True, True),
        (Judging.SAMPLE, False, False),
        (Judging.NONE, True, False),
    ],
)
def test_which_programs_are_judged(judging: Judging, is_new: bool, wants: bool) -> None:
    judge = Judge(Model(), Model(), judging=judging)
    program = next(one for one in sample(1000) if not is_sampled(one))
    assert judge.wants_hardware(program, FirstLook(), is_new) is wants
    sampled = next(one for one in sample(1000) if is_sampled(one))
    assert judge.wants_hardware(sampled, FirstLook()) is (judging is not Judging.NONE)
    witness = FirstLook()
    witness.witnessed = True
    assert judge.wants_hardware(program, witness) is (judging is not Judging.NONE)
    assert not judge.is_chosen(program) or judging is Judging.ALL


def test_none_is_judged_without_the_tier() -> None:
    judge = Judge(Model(), Model(), DEFAULT_TIERS - ALONE)
    assert not judge.wants_hardware(MAP, FirstLook(), is_new=True)
    assert judge.with_probes(MAP) is MAP


def test_no_probes_for_sides_that_lack_them() -> None:
    lacking = Model()
    lacking.capabilities = replace(lacking.capabilities, lacks=lacking.capabilities.lacks | {"probe"})
    assert Judge(Model(), lacking).with_probes(MAP) is MAP
    assert Judge(Model(), Model()).with_probes(MAP) == with_probes(MAP)


def test_probes_are_asked_once_the_sides_agree() -> None:
    program, found = Judge(Model(), WrongPages(), ALONE).check_with_probes(
        parse("s2 1\nmap ipa=0x201000 size=8K phys=0x80000000 prot=r mc=4\n")
    )
    assert isinstance(found, Verdict)
    assert found.bucket == "translation-probe-write_faults"
    assert len(program.ops) > 1
    assert Judge(Model(), Model()).check_with_probes(MAP) == (MAP, None)


def test_what_was_judged_is_told() -> None:
    text = "s2 1\nguest = on\nmap ipa=0x42000000 size=4K phys=0x42000000 prot=rw mc=4\nread ipa=0x42000000\n"
    look = Judge(Model(), Model()).look_deeper(with_probes(parse(text)))
    assert look.judged is not None
    assert (look.judged.unprobed, look.judged.accesses) == (None, 1)
    assert Judge(Model(), Model(), judging=Judging.NONE).look_deeper(MAP).judged is None


def test_accesses_that_may_be_stale_are_counted_and_probes_are_none() -> None:
    program = with_probes(read(SEEDS / "guest_needs_a_flush.s2"))
    judged = Judge(Model(), Model()).look_deeper(program).judged
    assert judged is not None
    assert (judged.accesses, judged.maybe_stale) == (4, 1)
    other_tree = "map ipa=0x1000 size=4K phys=0x42000000 prot=rw mc=4\ndestroy\ninit\nprobe ipa=0x1000\n"
    judged = Judge(Model(), Model()).look_deeper(parse(f"s2 1\nguest = on\n{other_tree}")).judged
    assert judged is not None
    assert (judged.accesses, judged.maybe_stale) == (0, 0)


def test_what_an_access_may_have_gone_by_is_shown(kernels: Executor) -> None:
    program = read(SEEDS / "guest_needs_a_flush.s2")
    told = observation_text(program, Model().observe(program)).partition("What a TLB may still hold:\n")[2]
    assert told.startswith("  op 4: may-be-stale: 0x42001000\n    the entry of level 3 for 0x1000")
    assert "op 6" not in told, "it has been flushed"
    witnessed = observation_text(program, kernels.observe(program))
    assert "  op 4: a TLB served it here: 0x42001000\n" in witnessed
    assert "TLB" not in observation_text(MAP, Model().observe(MAP))
