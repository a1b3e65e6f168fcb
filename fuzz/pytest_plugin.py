"""Programs as tests: `pytest -p fuzz.pytest_plugin DIR` runs every *.s2 file below DIR on both sides.

A program on which they differ fails, with the report; one that a side cannot run is skipped. `s2_judge` is the fixture
for tests of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fuzz.sides import choose_sides
from harness.errors import BadInput
from harness.findings.report import verdict_report
from harness.findings.verified import verified_against
from harness.outside import printable
from harness.program.program import Program
from harness.program.text import parse, read
from harness.settings import refuse_empty
from harness.verdict.judge import Judge
from harness.verdict.judging import Judging
from harness.verdict.tiers import DEFAULT_TIERS, format_tiers, parse_tiers
from harness.verdict.verdicts import Inconclusive, Unconfirmed
from reference.build.series import files_of, read_series


class Runner:
    """Judges programs on the sides that the options choose, which are opened when the first comes."""

    def __init__(self, config: pytest.Config) -> None:
        for name in ("linux", "sides", "pgtable", "tiers", "patch"):
            given = config.getoption(f"s2_{name}")
            for value in given if isinstance(given, list) else [given]:
                if value is not None:
                    refuse_empty(f"--s2-{name}", value)
        linux, sides = config.getoption("s2_linux"), config.getoption("s2_sides")
        patches = read_series(files_of([Path(name) for name in config.getoption("s2_patch")])).paths
        pgtable = config.getoption("s2_pgtable")
        options = {} if linux is None else {"linux": linux}
        chosen = choose_sides(
            **options, patches=patches, pgtable=None if pgtable is None else Path(pgtable), sides=sides
        )
        judging = Judging(config.getoption("s2_judge"))
        self.left, self.right = (side.open() for side in chosen)
        self.capabilities = [(side.capabilities, side.name) for side in (self.left, self.right)]
        self.judge = Judge(self.left, self.right, parse_tiers(config.getoption("s2_tiers")), judging)

    def refusal(self, program: Program) -> str | None:
        """Why one of the sides does not run a program; None where both do."""
        try:
            for capabilities, name in self.capabilities:
                capabilities.check(program, name)
        except BadInput as error:
            return str(error)
        return None

    def report(self, program: Program) -> str | None:
        """What is wrong with a program; None where the sides agree. Raises as `Judge.check` does."""
        try:
            program, verdict = self.judge.check_with_probes(program)
        except Unconfirmed as error:
            return f"flaky: seen was {error}, on fresh targets {error.outcomes}"
        if verdict is None:
            return None
        names = (self.left.name, self.right.name)
        if isinstance(verdict, Inconclusive):
            return f"inconclusive, its budget is too small: {verdict.cut.describe(names)}"
        notes = verified_against([self.left.identity, self.right.identity])
        return verdict_report(program, verdict, names, notes)

    def close(self) -> None:
        """End both sides."""
        with closing(self.left), closing(self.right):
            pass


_RUNNER: Final = pytest.StashKey[Runner]()


def _runner(config: pytest.Config) -> Runner:
    if _RUNNER not in config.stash:
        try:
            config.stash[_RUNNER] = Runner(config)
        except BadInput as error:
            raise pytest.UsageError(str(error)) from error
    return config.stash[_RUNNER]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("s2fuzz")
    group.addoption("--s2-linux", metavar="KERNEL", help="the kernel under test, as `s2fuzz run --linux`")
    group.addoption("--s2-patch", metavar="FILE", action="append", default=[], help="a patch on top of it")
    group.addoption("--s2-pgtable", metavar="FILE", help="a file in place of its pgtable.c")
    group.addoption("--s2-sides", metavar="A,B", help="any two sides instead, as `s2fuzz run --sides`")
    group.addoption("--s2-tiers", metavar="TIER,…", default=format_tiers(DEFAULT_TIERS), help="what is compared")
    every = [one.value for one in Judging]
    group.addoption("--s2-judge", choices=every, default=Judging.ALL.value, help="which programs the hardware judges")


def pytest_unconfigure(config: pytest.Config) -> None:
    if _RUNNER in config.stash:
        config.stash[_RUNNER].close()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A kernel that cannot be had ends the session before it begins."""
    if any(isinstance(item, ProgramItem) for item in items):
        _runner(config)


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    return ProgramFile.from_parent(parent, path=file_path) if file_path.suffix == ".s2" else None


class ProgramFile(pytest.File):
    """A *.s2 file."""

    def collect(self) -> Iterator[pytest.Item]:
        yield ProgramItem.from_parent(self, name=printable(self.path.stem))


class Differs(Exception):
    """The sides differ; the message is the report."""


class ProgramItem(pytest.Item):
    """The program in it, as a test."""

    def runtest(self) -> None:
        program, runner = read(self.path), _runner(self.config)
        if refusal := runner.refusal(program):
            pytest.skip(refusal)
        report = runner.report(program)
        if report is not None:
            raise Differs(report)

    def repr_failure(  # type: ignore[override]
        self, excinfo: pytest.ExceptionInfo[BaseException], style: None = None
    ) -> object:
        if isinstance(excinfo.value, Differs | BadInput):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"program {self.name}"


@pytest.fixture(scope="session")
def s2_judge(pytestconfig: pytest.Config) -> Callable[[str | Path | Program], None]:
    """A function that runs a program, its text or its file on both sides, and fails the test where they differ."""

    def judge(what: str | Path | Program) -> None:
        program = read(what) if isinstance(what, Path) else parse(what) if isinstance(what, str) else what
        report = _runner(pytestconfig).report(program)
        if report is not None:
            pytest.fail(report, pytrace=False)

    return judge
