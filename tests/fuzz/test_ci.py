"""What CI reads: JUnit and SARIF, what counts as a change's own, and programs as pytest tests."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from junitparser import Failure, JUnitXml, Skipped
from planted import HERE, load
from processes import SMOKE, s2fuzz
from sarif_pydantic import Sarif

from fuzz.cli import main as cli
from fuzz.sides import Side
from fuzz.triage.baseline import Base, _buckets_in
from harness.errors import BadInput
from harness.program.granule import GRANULE_4K
from reference.build.hosted import PGTABLE
from reference.build.sources import KernelChoice, prepare


def with_bugs(path: Path, *names: str) -> Path:
    """A pgtable.c with some planted bugs."""
    text = prepare(KernelChoice()).pgtable.read_text()
    for name in names:
        text = load(HERE / f"{name}.toml").apply(text)
    path.write_text(text)
    return path


LEAK = """\
s2 1
map ipa=0x0 size=4K phys=0x0 prot=r mc=2
map ipa=0x0 size=2M phys=0x0 prot=r
"""
WRITE = """\
s2 1
map ipa=0x0 size=4K phys=0x0 prot=rw mc=2
"""


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """Two programs: one shows the bug that leaks a table, the other one that loses a permission."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "leak.s2").write_text(LEAK)
    (folder / "write.s2").write_text(WRITE)
    return folder


def smoke(cwd: Path, *options: str | Path) -> subprocess.CompletedProcess[str]:
    """A run that replays the corpora and little else."""
    few = ("--executions", "1", "--seed", "1", "--corpora", "programs", "--tiers", "tables,accounting")
    return s2fuzz(*SMOKE, *few, *options, cwd=cwd)


def test_only_what_the_change_introduced_counts(corpora: Path, tmp_path: Path) -> None:
    before = with_bugs(tmp_path / "before.c", "merge-leaks-table")
    after = with_bugs(tmp_path / "after.c", "merge-leaks-table", "write-permission-lost")
    files = ("--junit", "out.xml", "--sarif", "out.sarif")
    result = smoke(tmp_path, "--pgtable", after, "--base", before, *files)
    assert result.returncode == 1, result.stderr
    assert "known: divergence accounting-map-pages_freed: it is on " in result.stdout
    assert "\ndivergence tables-map-entry-level3: s2fuzz-out/tables-map-entry-level3-" in result.stdout
    assert "s2fuzz replay s2fuzz-out/tables-map-entry-level3-" in result.stdout

    (suite,) = JUnitXml.fromfile(str(tmp_path / "out.xml"))
    cases = {case.name: case for case in suite if case.classname == "s2fuzz.smoke"}
    assert isinstance(cases["tables-map-entry-level3"].result[0], Failure)
    assert "First differing op" in cases["tables-map-entry-level3"].result[0].text
    assert isinstance(cases["accounting-map-pages_freed"].result[0], Skipped)
    assert (suite.failures, suite.skipped, suite.tests) == (1, 1, 3)

    log = json.loads((tmp_path / "out.sarif").read_text())
    Sarif.model_validate(log)
    results = {one["ruleId"]: one for one in log["runs"][0]["results"]}
    assert {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]} == set(results)
    states = {bucket: (one["baselineState"], one["level"]) for bucket, one in results.items()}
    assert states == {
        "accounting-map-pages_freed": ("unchanged", "note"),
        "tables-map-entry-level3": ("new", "error"),
    }
    place = results["tables-map-entry-level3"]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == str(PGTABLE)
    line = after.read_text().splitlines()[place["region"]["startLine"] - 1]
    assert line.startswith("int kvm_pgtable_stage2_map(")


def test_a_change_without_findings_of_its_own_is_fine(corpora: Path, tmp_path: Path) -> None:
    after = with_bugs(tmp_path / "after.c", "merge-leaks-table")
    known = tmp_path / "known.txt"
    known.write_text("# everybody knows these\naccounting-map-pages_freed   # since 6.12\n\n")
    listed = smoke(tmp_path, "--pgtable", after, "--base", known, "--json")
    assert listed.returncode == 0, listed.stderr
    (finding,) = json.loads(listed.stdout)["findings"]
    assert (finding["bucket"], finding["new"]) == ("accounting-map-pages_freed", False)
    (tmp_path / "earlier.json").write_text(listed.stdout)
    assert smoke(tmp_path, "--pgtable", after, "--base", "earlier.json").returncode == 0
    alone = smoke(tmp_path, "--pgtable", after, "--base", "6.12")
    assert alone.returncode == 1, "on the packaged kernel it is not"


def test_a_clean_run_is_a_suite_that_passes(corpora: Path, tmp_path: Path) -> None:
    result = smoke(tmp_path, "--junit", "out.xml", "--sarif", "out.sarif")
    assert result.returncode == 0, result.stderr
    (suite,) = JUnitXml.fromfile(str(tmp_path / "out.xml"))
    (case,) = suite
    assert (case.name, case.classname, case.is_passed) == ("fuzzing", "s2fuzz.smoke", True)
    assert {one.name: one.value for one in suite.properties()}["executions"] == "1"
    log = json.loads((tmp_path / "out.sarif").read_text())
    Sarif.model_validate(log)
    assert log["runs"][0]["results"] == []


def test_bad_bases_are_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"findings": [3]}')
    for base, said in (("v6.1", "--linux names no repository"), ("bad.json", "not what `smoke --json` prints")):
        result = s2fuzz("smoke", "--base", base, cwd=tmp_path)
        assert (result.returncode, said in result.stderr) == (2, True), result.stderr
    result = s2fuzz("smoke", "--junit", "no/such/folder.xml", cwd=tmp_path)
    assert result.returncode == 2


def test_a_revision_is_one_of_the_repository_under_test(tmp_path: Path) -> None:
    assert Base("v6.12", str(tmp_path)).kernel == f"{tmp_path}@v6.12"
    assert Base("HEAD~3", f"{tmp_path}@topic").kernel == f"{tmp_path}@HEAD~3"
    assert Base("6.1", None).kernel == "6.1"
    with pytest.raises(BadInput):
        Base("v6.12", "6.12")


def test_a_base_that_is_no_revision_is_blamed_itself(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    sides = Side("model", "6.12"), Side("kernel", f"{tmp_path}@HEAD")
    with pytest.raises(BadInput) as error:
        Base("NOREV", str(tmp_path)).build([sides], [GRANULE_4K], lambda _: None)
    assert str(error.value).startswith(f"--base NOREV: {tmp_path}@NOREV: the repository has no revision `NOREV`")
    assert "--linux" not in str(error.value)


def test_lists_of_buckets_are_bounded_data(tmp_path: Path) -> None:
    path = tmp_path / "known"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BadInput, match=r"^--base .*known: not text \(byte 0 is not UTF-8\), so not a list of buckets"):
        _buckets_in(path)
    path.write_text("# seen before\ntabels-map-entry-level2\n")
    with pytest.raises(BadInput, match=r"^--base .*known:2: `tabels-map-entry-level2` is no bucket: .* `tables`"):
        _buckets_in(path)
    path.write_text("{" * 5000)
    with pytest.raises(BadInput, match="not what"):
        _buckets_in(path)


def pytest_with(cwd: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "fuzz.pytest_plugin", "-v"]
    return subprocess.run(
        [*command, *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def test_a_folder_of_programs_is_a_suite(corpora: Path, tmp_path: Path) -> None:
    (corpora / "needs.s2").write_text("s2 1\nis_young ipa=0x0\n")
    good = pytest_with(tmp_path, corpora)
    assert good.returncode == 0, good.stdout
    assert "2 passed, 1 skipped" in good.stdout

    (corpora / "malformed.s2").write_text("s2 1\nnonsense\n")
    bad = pytest_with(tmp_path, corpora, "--s2-pgtable", with_bugs(tmp_path / "b.c", "merge-leaks-table"))
    assert bad.returncode == 1
    assert "2 failed, 1 passed, 1 skipped" in bad.stdout
    assert "divergence: accounting-map-pages_freed" in bad.stdout and "malformed.s2:2:1: expected an op" in bad.stdout
    assert "Traceback" not in bad.stdout

    assert pytest_with(tmp_path, corpora, "--s2-linux", "5.4").returncode == 4
    assert shutil.which("pytest", path=str(Path(sys.executable).parent))


def test_programs_in_tests_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        f"def test_fine(s2_judge):\n    s2_judge({WRITE!r})\n\ndef test_leak(s2_judge):\n    s2_judge({LEAK!r})\n"
    )
    result = pytest_with(tmp_path, "--s2-pgtable", with_bugs(tmp_path / "b.c", "merge-leaks-table"))
    assert "1 failed, 1 passed" in result.stdout, result.stdout
    assert "First differing op: op 2: map" in result.stdout


def test_the_documented_jobs_use_options_that_exist() -> None:
    text = (Path(__file__).parents[2] / "docs/ci.md").read_text()
    known = {option for parameter in cli.cli.commands["smoke"].params for option in parameter.opts}
    commands = re.findall(r"s2fuzz smoke ((?:.|\n)+?)(?:\n\n|\n +- |\n +artifacts|\n  [a-z])", text)
    used = [set(re.findall(r"--[a-z-]+", command)) for command in commands if "`" not in command]  # jobs, not prose
    assert len([options for options in used if options >= {"--linux", "--base", "--junit", "--sarif"}]) == 3
    assert all(options <= known for options in used)
