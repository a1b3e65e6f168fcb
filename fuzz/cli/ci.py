"""What continuous integration wants of a smoke: which findings a change introduced, and files that its pages show."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from fuzz import __version__
from fuzz.triage.filing import recorded_sides_of, sides_of, with_kernel
from fuzz.triage.replaying import Sides, look_again
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import Finding, load, report_in
from harness.outside import printable, read_plain, shown
from harness.program.granule import Granule
from harness.program.ops import INIT
from reference.build.hosted import PGTABLE
from reference.build.sources import KernelChoice, prepare

_MAX_FILE: Final = 16 << 20
_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


@dataclass(frozen=True, slots=True)
class Result:
    """A finding of the run; `known` is why it is not the change's doing, empty where it is."""

    finding: Finding
    known: str = ""

    @property
    def report(self) -> str:
        """The report in its directory, fit for a page. Raises OSError."""
        return "\n".join(map(printable, report_in(self.finding.directory).splitlines()))

    @property
    def headline(self) -> str:
        return f"{self.finding.kind}: {self.finding.bucket}"


class Base:
    """What the change is a change of: a kernel, or its pgtable.c alone, on which a finding that is there as well is
    known, or a file that lists known buckets."""

    def __init__(self, text: str, linux: str | None) -> None:
        """`text` as the user gave it, `linux` the kernel under test. Raises BadInput."""
        self.text = text
        self.buckets: frozenset[str] | None = None
        self.kernel: str | None = None
        self.pgtable: Path | None = None
        if Path(text).is_file() and text.endswith(".c"):
            self.kernel, self.pgtable = linux, Path(text)
        elif Path(text).is_file():
            self.buckets = _buckets_in(Path(text))
        else:
            self.kernel = _kernel_of(text, linux)

    def build(self, pairs: Iterable[Sides], granules: Sequence[Granule], say: Callable[[str], None]) -> None:
        """Find out before the run whether the kernel can be had. Raises BadInput or ToolFailure."""
        if self.buckets is None:
            for sides in pairs:
                for side in self._of(sides):
                    side.open(say, granules).close()

    def _of(self, sides: Sides) -> Sides:
        """The same comparison before the change."""
        left, right = with_kernel(sides, self.kernel, (), self.pgtable)
        return left, right

    def why_known(self, finding: Finding) -> str:
        """Why a finding is none of the change's; empty where it is new, or where the base cannot tell."""
        if self.buckets is not None:
            return f"{self.text} lists it" if finding.bucket in self.buckets else ""
        try:
            seen = look_again(finding, self._of(recorded_sides_of(finding)))
        except BadInput:  # the base lacks what the program asks for
            return ""
        is_there = seen.verdict is not None and seen.verdict.bucket == finding.bucket
        return f"it is on {self.text} as well" if is_there else ""


def _kernel_of(text: str, linux: str | None) -> str:
    """A kernel as for `--linux`, or a revision of the repository that the kernel under test is in."""
    if Path(text).is_dir() or "@" in text or re.fullmatch(r"[0-9]+(\.[0-9]+)+", text):
        return text
    head = (linux or "").rpartition("@")[0]
    for folder in (linux, head):
        if folder and Path(folder).is_dir():
            return f"{Path(folder).resolve()}@{text}"
    raise BadInput(f"--base {shown(text)}: no file, no kernel, and no revision either, as --linux names no repository")


def _buckets_in(path: Path) -> frozenset[str]:
    """The buckets that a file lists: one a line, with comments, or the line that `smoke --json` prints."""
    try:
        text = read_plain(path, _MAX_FILE, "a list of buckets").decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"--base {shown(path)}: {printable(str(error))}") from error
    if not text.lstrip().startswith("{"):
        lines = (line.partition("#")[0].strip() for line in text.splitlines())
        return frozenset(line for line in lines if line)
    try:
        return frozenset(str(finding["bucket"]) for finding in json.loads(text)["findings"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"--base {shown(path)}: not what `smoke --json` prints: {error!r}") from error


def results_of(findings: Iterable[Mapping[str, Any]], base: Base | None) -> list[Result]:
    """The run's findings, each with whether the base has it. Raises as `look_again` does."""
    found = [load(Path(finding["directory"])) for finding in findings]
    return [Result(finding, base.why_known(finding) if base else "") for finding in found]


def write_junit(path: Path, name: str, results: Sequence[Result], about: Mapping[str, str], seconds: float) -> None:
    """The run as a suite: one test that passes unless there is something new, and one for every finding. A known one
    counts as skipped. Raises OSError."""
    suite = TestSuite("s2fuzz")
    whole = TestCase(name, classname="s2fuzz.smoke", time=seconds)
    new = [result for result in results if not result.known]
    if new:
        whole.result = [Failure(f"{len(new)} new {'finding' if len(new) == 1 else 'findings'}")]
    suite.add_testcase(whole)
    for result in results:
        case = TestCase(result.finding.directory.name, classname="s2fuzz.finding")
        if result.known:
            case.result = [Skipped(f"{result.headline}: {result.known}")]
        else:
            failure = Failure(result.headline, result.finding.kind)
            failure.text = result.report
            case.result = [failure]
        suite.add_testcase(case)
    for key, value in about.items():
        suite.add_property(key, printable(value))
    xml = JUnitXml()
    xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    xml.write(str(path))


def write_sarif(path: Path, results: Sequence[Result]) -> None:
    """The findings as SARIF 2.1.0, each at the function of pgtable.c that the op calls. Raises OSError."""
    rules = sorted({result.finding.bucket: result for result in results}.items())
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "s2fuzz",
                        "version": __version__,
                        "rules": [
                            {"id": bucket, "shortDescription": {"text": result.headline}} for bucket, result in rules
                        ],
                    }
                },
                "results": [_sarif(result) for result in results],
            }
        ],
    }
    path.write_text(json.dumps(log, indent=2, sort_keys=True) + "\n")


def _sarif(result: Result) -> dict[str, Any]:
    finding = result.finding
    region = {} if (line := _line_of(finding)) is None else {"region": {"startLine": line}}
    entry = {
        "ruleId": finding.bucket,
        "level": "note" if result.known else "error",
        "kind": "fail",
        "message": {"text": "\n".join(filter(None, [result.known, result.report]))},
        "baselineState": "unchanged" if result.known else "new",
        "partialFingerprints": {"bucket/v1": finding.bucket},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": str(PGTABLE)}, **region}}],
        "properties": {"directory": finding.directory.name},
    }
    return dict(sorted(entry.items()))


def _line_of(finding: Finding) -> int | None:
    """Where pgtable.c defines what the finding's op calls; None where that is not to be found."""
    record = finding.record
    ops = finding.program.ops
    functions = ops[record - 1].definition.functions if 0 < record <= len(ops) else INIT.functions
    kernel = next((side for side in reversed(sides_of(finding)) if side.is_kernel), None)
    if kernel is None or not functions:
        return None
    try:
        text = prepare(KernelChoice(kernel.what, kernel.patches, kernel.pgtable)).pgtable.read_text(errors="replace")
    except (BadInput, ToolFailure):
        return None
    for function in functions:
        if match := re.search(rf"^[\w \t*]+\b{function}\(", text, re.MULTILINE):
            return text.count("\n", 0, match.start()) + 1
    return None
