"""The files that other programs read, each read by somebody else's parser: what is in them, and where they go."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import kcidb_io
import kunit_tool
import pytest
from junitparser import Error, Failure, JUnitXml
from planted import HERE, load
from sarif_pydantic import Sarif

from fuzz.cli.main import status_of
from fuzz.cli.result_files import ResultFiles, result_options
from fuzz.engine.smoke import SmokeProgress
from fuzz.results import outcome as results
from fuzz.results.formats import FORMATS
from fuzz.results.fuzzing import FUZZING, fuzzing_tests
from fuzz.results.kcidb import EXCERPT, excerpt
from fuzz.sides import Side, choose_sides
from fuzz.triage.result import Result
from harness.findings.finding import load as load_finding
from reference.build.hosted import PGTABLE
from reference.build.sources import KernelChoice, prepare

PROGRAMS = {
    "leak": "map ipa=0x0 size=4K phys=0x0 prot=r mc=2\nmap ipa=0x0 size=2M phys=0x0 prot=r\n",
    "leak_higher": "map ipa=0x200000 size=4K phys=0x0 prot=r mc=2\nmap ipa=0x200000 size=2M phys=0x0 prot=r\n",
    "leak_16k": "granule = 16k\nmap ipa=0x0 size=16K phys=0x0 prot=r mc=3\nmap ipa=0x0 size=32M phys=0x0 prot=r\n",
    "write": "map ipa=0x0 size=4K phys=0x0 prot=rw mc=2\n",
    "fine": "map ipa=0x0 size=4K phys=0x0 prot=r mc=2\n",
}
"""Three of one bucket, one of another, and one that is fine."""
LEAK, WRITE = "accounting-map-pages_freed", "tables-map-entry-level3"


@dataclass
class Ran:
    """What `s2fuzz run` came to."""

    folder: Path
    status: int

    def text(self, name: str) -> str:
        return (self.folder / name).read_text()

    def findings(self) -> list[Path]:
        return sorted((self.folder / "out").iterdir())


@pytest.fixture(scope="module")
def bugs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pgtable.c with two planted bugs."""
    text = prepare(KernelChoice()).pgtable.read_text()
    for name in ("merge-leaks-table", "write-permission-lost"):
        text = load(HERE / f"{name}.toml").apply(text)
    path = tmp_path_factory.mktemp("bugs") / "after.c"
    path.write_text(text)
    return path


def in_folder(folder: Path, *words: str | Path) -> int:
    """The status of a command that runs there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return status_of([str(word) for word in words])


@pytest.fixture(scope="module")
def ran(bugs: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    folder = tmp_path_factory.mktemp("run")
    for name, text in PROGRAMS.items():
        (folder / f"{name}.s2").write_text(f"s2 1\n{text}")
    files = [word for one in FORMATS for word in (f"--{one.name}", one.name)]
    programs = [f"{name}.s2" for name in PROGRAMS]
    tiers = ("--tiers", "results,tables,accounting", "--kcidb-origin", "my_ci")
    return Ran(folder, in_folder(folder, "run", *programs, "--out", "out", "--pgtable", bugs, *tiers, *files))


@pytest.fixture(scope="module")
def fuzzed(ran: Ran, bugs: Path) -> results.Outcome:
    """What a smoke comes to that has found the same, and whose last granule's turn did not come."""
    sides = choose_sides(pgtable=bugs)
    found = [Result(load_finding(path)) for path in ran.findings()]
    progress = SmokeProgress(seconds=9.5, compared=[(dict(one.finding.identities["right"]),) for one in found])
    progress.findings = [None] * len(found)  # type: ignore[list-item]  # their number is all that matters
    comparisons = [results.Comparison(sides, name) for name in ("4k", "16k", "64k")]
    tests = fuzzing_tests(comparisons, found, progress)
    return results.Outcome("smoke", tuple(tests), datetime.now(UTC), {"seed": "3"})


def rendered(outcome: results.Outcome, name: str) -> str:
    return next(one for one in FORMATS if one.name == name).render(outcome)


# KTAP, by the kernel's own parser


def tree(test: Any) -> Any:
    """A test of the kernel's parser: its name, status, and its subtests or log."""
    return test.name, test.status.name, [tree(one) for one in test.subtests]


def parsed(text: str) -> Any:
    """The tree of all tests, which the parser must find without fault."""
    found = kunit_tool.parse(text)
    assert found.counts.errors == 0, text
    return found


def test_ktap_of_programs(ran: Ran) -> None:
    assert ran.status == 1
    (pair,) = parsed(ran.text("ktap")).subtests
    assert tree(pair) == (
        "model:6.12 against kernel:6.12+after.c",
        "FAILURE",
        [
            (
                "pages of 4k",
                "FAILURE",
                [
                    ("leak.s2", "FAILURE", []),
                    ("leak_higher.s2", "FAILURE", []),
                    ("write.s2", "FAILURE", []),
                    ("fine.s2", "SUCCESS", []),
                ],
            ),
            ("pages of 16k", "FAILURE", [("leak_16k.s2", "FAILURE", [])]),
        ],
    )
    log = [line.strip() for line in pair.subtests[0].subtests[0].log]
    assert "#   First differing op: op 2: map ipa=0x0 size=2M phys=0x0 prot=r" in log


def test_ktap_of_fuzzing(fuzzed: results.Outcome) -> None:
    (pair,) = parsed(rendered(fuzzed, "ktap")).subtests
    four, sixteen, sixty_four = (tree(granule)[1:] for granule in pair.subtests)
    assert four == ("FAILURE", [(FUZZING, "SUCCESS", []), (LEAK, "FAILURE", []), (WRITE, "FAILURE", [])])
    assert sixteen == ("FAILURE", [(FUZZING, "SUCCESS", []), (LEAK, "FAILURE", [])])
    assert sixty_four[1] == [(FUZZING, "SKIPPED", [])]


def test_ktap_of_odd_names(fuzzed: results.Outcome) -> None:
    """A name may hold what begins a directive, a report what begins a subtest."""
    odd = replace(fuzzed.tests[1], name="a # SKIP b\nok 1 c", why="# x", report="Subtest: x\nKTAP version 1\n1..3")
    found = parsed(rendered(replace(fuzzed, tests=(odd,)), "ktap"))
    assert tree(found.subtests[0].subtests[0])[1:] == ("FAILURE", [("a ? SKIP b?ok 1 c", "FAILURE", [])])


# KCIDB, by KernelCI's own schema


def kcidb(text: str) -> dict[str, Any]:
    report = json.loads(text)
    kcidb_io.schema.LATEST.validate(report)
    assert report["version"]["major"] == 5
    return report


def test_kcidb_of_programs(ran: Ran) -> None:
    report = kcidb(ran.text("kcidb"))
    (checkout,) = report["checkouts"]
    assert checkout["valid"] and checkout["comment"] == "kernel:6.12+after.c"
    builds = {build["id"]: build for build in report["builds"]}
    assert {build["config_name"]: build["status"] for build in builds.values()} == {
        "s2fuzz-host-4k": "PASS",
        "s2fuzz-host-16k": "PASS",
    }
    assert all(build["checkout_id"] == checkout["id"] for build in builds.values())
    tests = {test["path"]: test for test in report["tests"]}
    assert {path: test["status"] for path, test in tests.items()} == {
        **{f"s2fuzz.run.{name}": "FAIL" for name in ("leak", "leak_higher", "leak_16k", "write")},
        "s2fuzz.run.fine": "PASS",
    }
    assert builds[tests["s2fuzz.run.leak_16k"]["build_id"]]["config_name"] == "s2fuzz-host-16k"
    assert tests["s2fuzz.run.leak"]["misc"]["bucket"] == LEAK
    assert PROGRAMS["leak"] in tests["s2fuzz.run.leak"]["misc"]["program"]
    everything = [*report["checkouts"], *report["builds"], *report["tests"]]
    assert {one["origin"] for one in everything} == {"my_ci"}
    assert len({one["id"] for one in everything}) == len(everything)


def test_kcidb_of_a_kernel_that_cannot_be_built(tmp_path: Path) -> None:
    """The checkout is there, the build failed, and its test was not run."""
    (tmp_path / "broken.c").write_text("#error no\n")
    (tmp_path / "fine.s2").write_text(f"s2 1\n{PROGRAMS['fine']}")
    assert in_folder(tmp_path, "run", "fine.s2", "--pgtable", "broken.c", "--kcidb", "k", "--ktap", "t") == 2
    report = kcidb((tmp_path / "k").read_text())
    (build,), (test,) = report["builds"], report["tests"]
    assert (build["status"], test["status"]) == ("FAIL", "ERROR")
    assert "error" in build["log_excerpt"] and "error" in test["log_excerpt"]
    assert "not ok 1 fine.s2 # ERROR " in (tmp_path / "t").read_text()


def test_kcidb_of_models_alone(fuzzed: results.Outcome) -> None:
    models = results.Comparison((Side("model", "6.1"), Side("model", "6.12")), "4k")
    report = kcidb(rendered(replace(fuzzed, tests=(results.Test(FUZZING, models),)), "kcidb"))
    assert report["checkouts"][0]["comment"] == "model:6.12" and "valid" not in report["checkouts"][0]


def test_excerpts_of_logs_have_both_ends() -> None:
    text = "first\n" + "x" * 3 * EXCERPT + "\nlast\x00"
    assert len(excerpt(text)) <= EXCERPT == 16_384
    assert excerpt(text).startswith("first\n") and excerpt(text).endswith("\nlast?")
    assert excerpt("short") == "short"


# JUnit and SARIF: a bucket is one thing


def test_a_bucket_is_one_test_of_junit(fuzzed: results.Outcome) -> None:
    (suite,) = JUnitXml.fromstring(rendered(fuzzed, "junit").encode())
    cases = {case.name: case for case in suite}
    assert set(cases) == {FUZZING, LEAK, WRITE} and len(suite) == 3
    assert (suite.failures, suite.skipped, suite.errors) == (2, 0, 0)
    assert cases[FUZZING].is_passed and cases[FUZZING].time == 9.5
    (failure,) = cases[LEAK].result
    assert isinstance(failure, Failure) and failure.text.count("\nalso accounting-map-pages_freed-") == 2
    assert "pages of 16k" in failure.text


def test_programs_are_tests_of_junit(ran: Ran) -> None:
    (suite,) = JUnitXml.fromfile(str(ran.folder / "junit"))
    kinds = {case.name: [type(one) for one in case.result] for case in suite}
    failed = {f"{name}.s2": [Failure] for name in ("leak", "leak_higher", "leak_16k", "write")}
    assert kinds == {**failed, "fine.s2": []}


@pytest.mark.parametrize("of", ["run", "smoke"])
def test_a_bucket_is_one_result_of_sarif(ran: Ran, fuzzed: results.Outcome, bugs: Path, of: str) -> None:
    log = json.loads(ran.text("sarif") if of == "run" else rendered(fuzzed, "sarif"))
    Sarif.model_validate(log)
    found = {one["partialFingerprints"]["bucket/v1"]: one for one in log["runs"][0]["results"]}
    assert len(log["runs"][0]["results"]) == len(found) == 2 and set(found) == {LEAK, WRITE}
    assert {rule["id"] for rule in log["runs"][0]["tool"]["driver"]["rules"]} == set(found)
    assert len(found[LEAK]["relatedLocations"]) == 2 and "relatedLocations" not in found[WRITE]
    assert {one["granule"] for one in found[LEAK]["properties"]["findings"]} == {"4k", "16k"}
    for place in [*found[LEAK]["locations"], *found[LEAK]["relatedLocations"]]:
        where = place["physicalLocation"]
        assert where["artifactLocation"]["uri"] == str(PGTABLE)
        line = bugs.read_text().splitlines()[where["region"]["startLine"] - 1]
        assert line.startswith("int kvm_pgtable_stage2_map(")


def test_what_is_known_does_not_fail(fuzzed: results.Outcome) -> None:
    """Where all of a bucket is."""
    tests = tuple(
        results.bucket_test(test.comparison, [replace(one, known="so they say") for one in test.findings])
        for test in fuzzed.tests
        if test.findings
    )
    known = replace(fuzzed, tests=tests)
    (suite,) = JUnitXml.fromstring(rendered(known, "junit").encode())
    assert (suite.failures, suite.skipped) == (0, 2)
    assert parsed(rendered(known, "ktap")).counts.failed == 0
    states = {one["baselineState"] for one in json.loads(rendered(known, "sarif"))["runs"][0]["results"]}
    assert states == {"unchanged"}
    assert {test["status"] for test in kcidb(rendered(known, "kcidb"))["tests"]} == {"SKIP"}


def test_text_of_a_report_cannot_break_the_files(ran: Ran, fuzzed: results.Outcome) -> None:
    place = next(path for path in ran.findings() if path.name.startswith(WRITE))
    report = (place / "report.txt").read_text()
    (place / "report.txt").write_text("]]> & <b> \x1b[2J \x00 é\n")
    try:
        test = results.bucket_test(fuzzed.tests[0].comparison, [Result(load_finding(place))])
    finally:
        (place / "report.txt").write_text(report)
    outcome = replace(fuzzed, tests=(test,), about={"a": "\x07<"})
    (suite,) = JUnitXml.fromstring(rendered(outcome, "junit").encode())
    assert [one.text for case in suite for one in case.result] == ["]]> & <b> ?[2J ? é"]
    assert "\\u001b" not in rendered(outcome, "sarif")
    kcidb(rendered(outcome, "kcidb"))
    assert "\x1b" not in rendered(outcome, "ktap")


# Replaying, and where files go


def test_a_finding_that_is_replayed(ran: Ran, bugs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    finding = next(path for path in ran.findings() if path.name.startswith(WRITE))
    assert in_folder(ran.folder, "replay", finding, "--ktap", "-", "--junit", "j.xml") == 1
    said = capsys.readouterr()
    assert tree(parsed(said.out).subtests[0].subtests[0])[2] == [(WRITE, "FAILURE", [])]
    assert said.out.startswith("KTAP version 1\n") and "still there" in said.err
    (suite,) = JUnitXml.fromfile(str(ran.folder / "j.xml"))
    assert suite.failures == 1
    assert in_folder(ran.folder, "replay", finding, "--linux", "6.12", "--ktap", "-") == 0
    assert parsed(capsys.readouterr().out).counts.passed == 1


def test_two_things_do_not_go_to_one_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "fine.s2").write_text(f"s2 1\n{PROGRAMS['fine']}")
    cases: list[tuple[tuple[str, ...], int, str]] = [
        (("run", "fine.s2", "--ktap", "-", "--kcidb", "-"), 2, "cannot both go to stdout"),
        (("run", "fine.s2", "--ktap", "x", "--junit", "x"), 2, "cannot both go to x"),
        (("smoke", "--json", "--ktap", "-"), 2, "--json prints to stdout, too"),
        (("run", "fine.s2", "--kcidb", "k", "--kcidb-origin", "My CI"), 2, "small letters"),
        (("run", "fine.s2", "--junit", "no/such/folder.xml"), 2, "no/such is no folder"),
    ]
    for words, status, text in cases:
        assert in_folder(tmp_path, *words) == status
        assert text in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine.s2"], "nothing is left behind"


def test_what_could_not_run_is_told(tmp_path: Path) -> None:
    """A program that is malformed is an error, one that a side cannot run is skipped."""
    for name, text in {"old": "is_young ipa=0x0\n", "bad": "nonsense\n", "fine": PROGRAMS["fine"]}.items():
        (tmp_path / f"{name}.s2").write_text(f"s2 1\n{text}")
    words = ("old.s2", "bad.s2", "fine.s2", "--ktap", "t", "--kcidb", "k", "--junit", "j")
    assert in_folder(tmp_path, "run", *words) == 2
    tests = {test["path"]: test["status"] for test in kcidb((tmp_path / "k").read_text())["tests"]}
    assert tests == {"s2fuzz.run.old": "SKIP", "s2fuzz.run.bad": "ERROR", "s2fuzz.run.fine": "PASS"}
    (granule,) = parsed((tmp_path / "t").read_text()).subtests[0].subtests
    assert {one.name: one.status.name for one in granule.subtests} == {
        "old.s2": "SKIPPED",
        "bad.s2": "FAILURE",
        "fine.s2": "SUCCESS",
    }
    (suite,) = JUnitXml.fromfile(str(tmp_path / "j"))
    assert (suite.tests, suite.skipped, suite.errors, suite.failures) == (3, 1, 1, 0)


def test_what_was_interrupted_is_told(tmp_path: Path) -> None:
    sides = Side("model", "6.1"), Side("model", "6.12")
    planned = [results.Test(name, results.Comparison(sides, "4k")) for name in ("one", "two")]

    @click.command()
    @result_options
    def command(files: ResultFiles) -> None:
        files.begin("run", planned)
        files.tell(planned[:1])
        raise KeyboardInterrupt

    path = tmp_path / "t"
    with pytest.raises(click.Abort):
        command.main(["--ktap", str(path)], standalone_mode=False)
    assert "ok 1 one\n" in path.read_text() and "ok 2 two # SKIP interrupted\n" in path.read_text()


def test_a_run_that_breaks_says_so(fuzzed: results.Outcome) -> None:
    """In every format: an empty file, or none, would pass for a run without findings."""
    broken = replace(fuzzed, tests=(results.broken(fuzzed.tests[0], OSError("the disk\nis full")),))
    (suite,) = JUnitXml.fromstring(rendered(broken, "junit").encode())
    ((case,),) = ([*suite],)
    assert [type(one) for one in case.result] == [Error] and case.result[0].text == "the disk\nis full"
    assert parsed(rendered(broken, "ktap")).counts.failed == 1
    invocation = json.loads(rendered(broken, "sarif"))["runs"][0]["invocations"][0]
    assert invocation["executionSuccessful"] is False
    assert invocation["toolExecutionNotifications"][0]["message"]["text"] == "the disk\nis full"
    assert kcidb(rendered(broken, "kcidb"))["tests"][0]["status"] == "ERROR"


@pytest.mark.parametrize(
    ("statuses", "together"),
    [
        ("PASSED SKIPPED", "PASSED"),
        ("SKIPPED SKIPPED", "SKIPPED"),
        ("PASSED FAILED SKIPPED", "FAILED"),
        ("FAILED BROKEN", "BROKEN"),
    ],
)
def test_what_several_come_to_together(statuses: str, together: str) -> None:
    assert results.worst(results.Status[name] for name in statuses.split()) is results.Status[together]
