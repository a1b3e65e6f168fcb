"""What EL1 really sees of entries that a TLB still holds is what the judge of stale translations allows."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import planted
import pytest

from harness.observation.layout import Witness
from harness.program.granule import GRANULE_4K
from harness.program.guest import DATA, PIECE, STUB, WINDOW
from harness.program.text import parse, read
from harness.verdict.tlb.judge import allowed_outcomes, stale_problems
from reference.link.executor import Reference

PAGE = f"guest = on\nmap ipa=0x1000 size=8K phys={WINDOW:#x} prot=rwx mc=3\nwrite ipa=0x1000 value=0x5\n"
WITNESSED = {
    "a page taken by another": ("plant ipa=0x1000 level=3 pte=0x0", "read ipa=0x1000", (0, 0x5)),
    "a table taken by another": ("plant ipa=0x0 level=2 pte=0x0", "read ipa=0x1000", (0, 0x5)),
    "write permission taken": ("wrprotect ipa=0x1000 size=4K", "write ipa=0x1000 value=0x6", (0, WINDOW)),
    "an access flag taken": ("test_clear_young ipa=0x1000 size=4K mkold=on", "exec ipa=0x1000", (0, WINDOW)),
    "an invalidation skipped": (
        f"map ipa=0x1000 size=4K phys={WINDOW + PIECE:#x} prot=rwx flags=skip_bbm_tlbi",
        "read ipa=0x1000",
        (0, 0x5),
    ),
    "the guest's own page": (f"plant ipa={STUB:#x} level=3 pte=0x0", "read ipa=0x1000", (0, 0x5)),
}


@pytest.mark.parametrize("way", WITNESSED)
def test_what_el1_sees_is_allowed_and_nothing_else(kernel: Reference, way: str) -> None:
    change, access, seen_by_el1 = WITNESSED[way]
    program = parse(f"s2 1\n{PAGE}{change}\n{access}")
    seen = kernel.observe(program)
    (witness,) = seen.witnesses
    assert (witness.esr, witness.told) == seen_by_el1
    assert stale_problems(program, seen) == []
    allowed = allowed_outcomes(program, seen)[-1]
    assert not allowed.is_fresh_only
    assert allowed.reasons
    if not allowed.is_anything:
        elsewhere = replace(seen, witnesses=(replace(witness, told=WINDOW + 7 * PIECE + DATA),))
        assert [one.what for one in stale_problems(program, elsewhere)] == ["witness-not-allowed"]


def test_behind_an_invalidation_el1_sees_the_table(kernel: Reference) -> None:
    program = parse(f"s2 1\n{PAGE}wrprotect ipa=0x1000 size=4K\ntlb_flush_vmid\nwrite ipa=0x1000 value=0x6")
    seen = kernel.observe(program)
    assert not seen.witnesses
    assert allowed_outcomes(program, seen)[-1].is_fresh_only


def test_what_a_destroyed_table_said_is_gone_before_another_one_lies_there(kernel: Reference) -> None:
    program = parse(f"s2 1\n{PAGE}read ipa=0x1000\ndestroy\nmmu_again\nread ipa=0x1000")
    seen = kernel.observe(program)
    assert seen.roots  # at the address of the one before, so that VTTBR_EL2 is the same
    assert not seen.witnesses
    assert stale_problems(program, seen) == []


SAME_ASID = planted.ROOT / "corpora" / "seeds" / "vcpu_same_asid.s2"
IN_TURNS = 8
"""The op by which vCPU 1 reads where vCPU 0 has read."""


def test_a_vcpu_never_sees_another_one_s_stage_1(kernel: Reference) -> None:
    program = read(SAME_ASID)
    seen = kernel.observe(program)
    assert not seen.witnesses
    assert allowed_outcomes(program, seen)[1].is_fresh_only
    assert stale_problems(program, seen) == []


def test_without_the_flush_it_does_as_the_judge_predicts(tmp_path: Path) -> None:
    """The rule is left out: a kernel whose flush leaves stage 1 alone."""
    mutant = planted.load(planted.HERE / "vcpu-stage-1-left.toml")
    program = read(SAME_ASID)
    with closing(planted.sides_of(mutant, tmp_path)[1].open_for(GRANULE_4K)) as kernel:
        seen = kernel.observe(program)
    (witness,) = seen.witnesses
    assert (witness.record, witness.esr, witness.told) == (IN_TURNS, 0, WINDOW + 2 * PIECE + DATA)
    assert seen.records[IN_TURNS].outs[-1] == WINDOW + PIECE + DATA
    predicted = next(one for one in allowed_outcomes(program, seen) if one.record == IN_TURNS)
    assert not predicted.is_anything
    assert [one.told for one in predicted.outcomes] == [WINDOW + PIECE + DATA, WINDOW + 2 * PIECE + DATA]
    assert [one.what for one in stale_problems(program, seen)] == ["loaded-stage-1-left"]


def test_what_another_vcpu_s_stage_1_does_not_say_is_not_allowed(kernel: Reference) -> None:
    program = read(SAME_ASID)
    seen = kernel.observe(program)
    other = Witness(IN_TURNS, 0, WINDOW + 2 * PIECE + DATA)
    assert [one.what for one in stale_problems(program, replace(seen, witnesses=(other,)))] == ["witness-not-allowed"]
