"""Of a bucket's programs, one is preferred in which what differs matters."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from executors import AnyOwner, Patched

from fuzz.engine.assignment import Assignment
from fuzz.engine.worker import Worker
from fuzz.sides import choose_sides
from fuzz.triage.minimise import minimise
from fuzz.triage.telling import is_telling, telling_variant
from harness.findings.finding import load
from harness.model.executor import Model
from harness.program.codec import encode
from harness.program.program import Program
from harness.program.text import parse
from harness.verdict.judge import Judge
from harness.verdict.verdicts import Verdict
from pgtable.tlb import Instruction, TlbMaintenance

_TTL_1: Final = 1 << 37
"""The level that a range's operand hints."""
_RIGHT: Final = TlbMaintenance._pages


def hinting(self: TlbMaintenance, start: int, scale: int, units: int) -> Instruction:
    right = _RIGHT(self, start, scale, units)
    return right._replace(operand=right.operand | _TTL_1) if self._geometry.page_shift == 14 else right


def wrong() -> Model:
    """Hints level 1 for ranges of 16K pages, which says something with LPA2 only."""
    return Patched(TlbMaintenance, "_pages", hinting)


RANGE = "s2 1\n{}\nget_leaf ipa=0x0\ntlb_flush_vmid_range ipa=0x10000 size=128K\nget_leaf ipa=0x0"
PLAIN, WIDE = (parse(RANGE.format(knobs)) for knobs in ("granule = 16k", "granule = 16k\nlpa2 = on"))


@pytest.fixture
def judge() -> Judge:
    return Judge(Model(), wrong())


def verdict_on(program: Program, judge: Judge) -> Verdict:
    verdict = judge.verdict(program)
    assert verdict is not None
    return verdict


@pytest.mark.parametrize(("program", "telling"), [(PLAIN, False), (WIDE, True)])
def test_what_matters(program: Program, telling: bool, judge: Judge) -> None:
    assert is_telling(verdict_on(program, judge), program.machine) == telling


def test_any_other_difference_matters() -> None:
    program = parse("s2 1\nset_owner ipa=0x0 size=4K owner=77")
    judge = Judge(Model(), AnyOwner())
    verdict = verdict_on(program, judge)
    assert is_telling(verdict, program.machine)
    assert telling_variant(program, verdict, judge) is None, "nothing to be improved"


def test_another_machine_tells(judge: Judge) -> None:
    before = verdict_on(PLAIN, judge)
    found = telling_variant(PLAIN, before, judge)
    assert found is not None
    program, verdict = found
    assert program.machine == PLAIN.machine.replace("lpa2", 1)
    assert (verdict.bucket, is_telling(verdict, program.machine)) == (before.bucket, True)


@pytest.mark.parametrize("program", [PLAIN, WIDE])
def test_minimising_keeps_what_matters(program: Program, judge: Judge) -> None:
    result = minimise(program, judge)
    assert result.complete
    assert len(result.program.ops) == 1
    assert is_telling(result.verdict, result.program.machine)
    assert result.program.machine.changed().keys() == {"granule", "lpa2"}


def test_what_never_matters_is_minimised_all_the_same() -> None:
    """Bits that are reserved: no machine has them mean anything."""

    def odd(self: TlbMaintenance, address: int) -> Instruction:
        right = by_page(self, address)
        return right._replace(operand=right.operand | 1 << 60)

    by_page = TlbMaintenance._page
    judge = Judge(Model(), Patched(TlbMaintenance, "_page", odd))
    program = replace(parse("s2 1\nlpa2 = on\nget_leaf ipa=0x0\ntlb_flush_vmid_range ipa=0x1000 size=4K"))
    assert not is_telling(verdict_on(program, judge), program.machine)
    result = minimise(program, judge)
    assert (len(result.program.ops), result.program.machine.changed()) == (1, {})


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    work = Assignment(
        choose_sides(sides="model:6.12,model:6.12"), tmp_path / "out", (), 0, None, None, True, None, granule="16k"
    )
    yield Worker(work, executors=(Model(), wrong()))


def test_what_is_filed_tells(worker: Worker) -> None:
    worker.run_one(encode(PLAIN, worker.dialect))
    (filed,) = worker.filer.filed
    finding = load(filed.directory)
    assert finding.program.machine["lpa2"] == 1
    report = (finding.directory / "report.txt").read_text()
    assert "0x10000 to 0x2ffff of 16K, inner shareable\n" in report
    assert "0x10000 to 0x2ffff at level 1 of 16K, inner shareable\n" in report
