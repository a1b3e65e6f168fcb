"""Planted bugs that the hardware alone sees: with every other tier switched off."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from planted import kernel_options, load_all

from fuzz.sides import choose_sides
from fuzz.triage.minimise import minimise
from harness.findings.report import verdict_report
from harness.observation.executor import Executor
from harness.program.probing import PROBE
from harness.program.text import parse
from harness.verdict.judge import Judge
from harness.verdict.judging import Judging
from harness.verdict.tiers import ORDER_EXPECTED, Tier
from harness.verdict.verdicts import Verdict

ALONE = frozenset({Tier.TRANSLATION})


@contextmanager
def sides(name: str, work: Path) -> Iterator[tuple[Executor, Executor]]:
    """The model, and a kernel with the planted bug of that name."""
    options = kernel_options(next(one for one in load_all() if one.name == name), work)
    left, right = (side.open() for side in choose_sides(str(options["linux"]), pgtable=Path(options["pgtable"])))
    with closing(left), closing(right):
        yield left, right


@pytest.mark.parametrize(
    ("bug", "text", "bucket"),
    [
        (
            "write-permission-lost",
            "map ipa=0x201000 size=4K phys=0x80000000 prot=rw mc=4\n",
            "translation-probe-write_faults",
        ),
        (
            "device-becomes-nc",
            "map ipa=0x201000 size=4K phys=0x80000000 prot=rw+device mc=4\n",
            "translation-probe-read_attributes",
        ),
        (
            "hyp-read-only-device-writable",
            "stage = 1\nhyp_map va=0x201000 size=4K phys=0x80000000 prot=r+device\n",
            "translation-probe-write_faults",
        ),
    ],
)
def test_wrong_tables_are_seen_by_the_hardware_alone(bug: str, text: str, bucket: str, tmp_path: Path) -> None:
    program = parse(f"s2 1\n{text}")
    with sides(bug, tmp_path) as (left, right):
        assert Judge(left, right, ALONE, Judging.NONE).check_with_probes(program) == (program, None)
        judge = Judge(left, right, ALONE)
        probed, found = judge.check_with_probes(program)
        assert isinstance(found, Verdict)
        assert (found.kind, found.bucket) == ("divergence", bucket)
        report = verdict_report(probed, found, (left.name, right.name))
        if program.machine["stage"] == 2:  # of hyp's devices QEMU tells another shareability besides
            assert f"The hardware and {right.name}'s table agree: the table is another one." in report
        smaller = minimise(probed, judge).program
        assert [op.definition is PROBE for op in smaller.ops] == [False, True], "one probe is left"


def test_what_a_tlb_may_hold_is_seen_without_events(tmp_path: Path) -> None:
    block = "map ipa=0x200000 size=2M phys=0x80000000 prot=rw mc=4\n"
    page = "map ipa=0x201000 size=4K phys=0x90000000 prot=rw mc=4\n"
    program = parse(f"s2 1\n{block}{page}get_leaf ipa=0x0\n")
    with sides("event-bbm-tlbi-dropped", tmp_path) as (left, right):
        for tiers in (ALONE, ORDER_EXPECTED - {Tier.EFFECTS}):
            found = Judge(left, right, tiers).check(program)
            assert isinstance(found, Verdict)
            assert (found.kind, found.bucket) == ("stale", "stale-map-bbm-not-invalidated-level2")
            assert (found.record, found.blamed, found.confirmed) == (2, right.name, 3)
        assert Judge(left, right, ALONE, Judging.NONE).check(program) is None
        report = verdict_report(program, found, (left.name, right.name))
        assert f"{right.name}: " in report
        assert "Arm ARM" in report
        smaller = minimise(program, Judge(left, right, ALONE))
        assert (smaller.verdict.bucket, len(smaller.program.ops)) == (found.bucket, 2)
