"""Broken promises as findings: on one side, on both, and of a kernel alone; and what is known of Linux."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from executors import AnyOwner, Patched
from planted import load_all

from fuzz.cli.known import known
from fuzz.cli.smoke import smoke
from fuzz.sides import choose_sides
from fuzz.triage.baseline import results_of
from fuzz.triage.filing import Filer
from harness.errors import BadInput
from harness.findings.finding import load, report_in
from harness.model.executor import Model
from harness.observation.executor import Executor
from harness.program.text import parse
from harness.verdict.contracts.blame import KNOWN
from harness.verdict.contracts.families import violations
from harness.verdict.contracts.listed import listed, read_listed
from harness.verdict.judge import Judge
from harness.verdict.verdicts import BOTH_SIDES, Verdict
from pgtable import Stage2
from reference.build.sources import KernelChoice, prepare

PROGRAM = parse("s2 1\n\nmap ipa=0x0 size=4K phys=0x80000000 prot=rw mc=4\nunmap ipa=0x0 size=4K\n")
BUCKET = "contract-unmap-unmap-removes-all-of-its-range"


def keeps_all() -> Patched:
    """A model whose unmap does nothing."""
    return Patched(Stage2, "unmap", lambda _self, _ipa, _size: 0)


def filed(tmp_path: Path, left: Executor, right: Executor) -> Filer:
    """What is filed of the program that these two run."""
    filer = Filer(tmp_path / "out", choose_sides(sides="model:6.12,model:6.12"), (left, right), {})
    verdict = Judge(left, right).check(PROGRAM)
    assert isinstance(verdict, Verdict)
    filer.file(PROGRAM, verdict)
    return filer


@pytest.mark.parametrize("wrong", ["left", "right"])
def test_of_two_sides_that_differ_the_one_that_breaks_a_promise_is_named(tmp_path: Path, wrong: str) -> None:
    sides: list[Executor] = [Model(), keeps_all()]
    if wrong == "left":
        sides.reverse()
    finding = load(filed(tmp_path, *sides).filed[0].directory)
    assert finding.kind == "divergence"
    assert len(finding.blamed) == 1
    report = " ".join(report_in(finding.directory).split())
    assert f"{finding.blamed[0]} breaks a promise, unmap-removes-all-of-its-range" in report
    assert report.count("breaks a promise") <= 3


def test_where_neither_breaks_one_it_is_a_change_of_behaviour(tmp_path: Path) -> None:
    program = parse("s2 1\n\nset_owner ipa=0x0 size=4K mc=4 owner=33\n")
    left, right = Model(), AnyOwner()
    verdict = Judge(left, right).check(program)
    assert isinstance(verdict, Verdict)
    filer = Filer(tmp_path, choose_sides(sides="model:6.12,model:6.12"), (left, right), {})
    report = filer.report(program, verdict)
    assert "Neither side breaks a promise that the other keeps (docs/contracts.md): a change of behaviour." in report


def test_what_both_break_is_kept_and_counts_where_it_is_asked_to(tmp_path: Path) -> None:
    filer = filed(tmp_path, keeps_all(), keeps_all())
    assert [one.bucket for one in filer.filed] == [BUCKET]
    assert load(filer.filed[0].directory).blamed == (BOTH_SIDES,)
    assert [bool(result.known) for result in results_of(filer.filed, None)] == [True]
    assert [bool(result.known) for result in results_of(filer.filed, None, strict=True)] == [False]


def test_what_was_added_is_known(tmp_path: Path) -> None:
    directory, folder = filed(tmp_path, keeps_all(), keeps_all()).filed[0].directory, tmp_path / "known"
    words = ["add", str(directory), "--verdict", "kernel bug", "--reason", "unmap keeps all.", "--folder", str(folder)]
    assert CliRunner().invoke(known, words, standalone_mode=False).exit_code == 0
    broken = violations(PROGRAM, keeps_all().observe(PROGRAM))[0]
    entries = read_listed(folder)
    assert listed(broken, ["6.12"], entries) is entries[0]
    assert listed(broken, ["6.12", "6.1"], entries) is None, "an entry is for kernels that it names"
    shown = CliRunner().invoke(known, ["list", "--folder", str(folder)], standalone_mode=False).stdout
    assert "(kernel bug; 6.12)\n  unmap keeps all." in shown
    again = CliRunner().invoke(known, words, standalone_mode=False)
    assert isinstance(again.exception, BadInput)
    assert "is there already" in str(again.exception)


def test_only_promises_can_be_known(tmp_path: Path) -> None:
    directory = filed(tmp_path, Model(), keeps_all()).filed[0].directory
    result = CliRunner().invoke(
        known, ["add", str(directory), "--verdict", "kernel bug", "--reason", "x"], standalone_mode=False
    )
    assert isinstance(result.exception, BadInput)


def alone(tmp_path: Path, *options: str) -> Result:
    """A kernel is fuzzed alone, by its promises."""
    words = ["--oracle", "contracts", "--granule", "4k", "--no-compile", "--seconds", "60", "--json"]
    words += ["--executions", "150", "--seed", "1", "--out", str(tmp_path / "out"), *options]
    words += [] if "--corpora" in options else ["--no-corpora"]
    return CliRunner().invoke(smoke, words, standalone_mode=False)


def test_a_kernel_alone_keeps_its_promises(tmp_path: Path) -> None:
    result = alone(tmp_path)
    assert result.return_value == 0, result.output
    assert json.loads(result.stdout.splitlines()[-1])["executions"] >= 150


def test_a_kernel_alone_breaks_one(tmp_path: Path) -> None:
    mutant = next(one for one in load_all() if one.name == "write-permission-lost")
    pgtable = tmp_path / "pgtable.c"
    pgtable.write_text(mutant.apply(prepare(KernelChoice()).pgtable.read_text()))
    result = alone(tmp_path, "--pgtable", str(pgtable))
    assert result.return_value == 1, result.output
    findings = json.loads(result.stdout.splitlines()[-1])["findings"]
    assert [one["bucket"] for one in findings] == ["contract-map-map-shows-what-was-asked"]


def test_what_a_kernel_breaks_no_more_is_told_and_passes(tmp_path: Path) -> None:
    walk = "\tr = _kvm_pgtable_walk(pgt, &walk_data);"
    text = prepare(KernelChoice()).pgtable.read_text()
    assert text.count(walk) == 1
    pgtable = tmp_path / "pgtable.c"
    pgtable.write_text(text.replace(walk, f"\tif (addr + size < addr)\n\t\treturn -EINVAL;\n{walk}"))
    result = alone(tmp_path, "--corpora", str(KNOWN), "--pgtable", str(pgtable))
    assert result.return_value == 0, result.output
    (line,) = json.loads(result.stdout.splitlines()[-1])["mended"]
    assert line.startswith("known violation range_that_wraps: kernel:6.12")
    assert line in result.stderr
