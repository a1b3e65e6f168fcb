"""A smoke's findings in the files that continuous integration shows on its pages: JUnit XML, SARIF."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from junitparser import Failure, JUnitXml, Skipped, TestCase, TestSuite

from fuzz import __version__
from fuzz.sides import Side
from fuzz.triage.baseline import Result
from fuzz.triage.filing import sides_of
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import Finding
from harness.outside import printable
from harness.program.ops import INIT
from reference.build.hosted import PGTABLE

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


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
    kernels: dict[Side, Side] = {}
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
                "results": [_sarif(result, kernels) for result in results],
            }
        ],
    }
    path.write_text(json.dumps(log, indent=2, sort_keys=True) + "\n")


def _sarif(result: Result, kernels: dict[Side, Side]) -> dict[str, Any]:
    finding = result.finding
    region = {} if (line := _line_of(finding, kernels)) is None else {"region": {"startLine": line}}
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


def _line_of(finding: Finding, kernels: dict[Side, Side]) -> int | None:
    """Where pgtable.c defines what the finding's op calls; None where that is not to be found. `kernels` are those that
    were looked at before, each prepared once."""
    record = finding.record
    ops = finding.program.ops
    functions = ops[record - 1].definition.functions if 0 < record <= len(ops) else INIT.functions
    kernel = next((side for side in reversed(sides_of(finding)) if side.is_kernel), None)
    if kernel is None or not functions:
        return None
    try:
        text = kernels.setdefault(kernel, kernel).prepared().tree.pgtable.read_text(errors="replace")
    except (BadInput, ToolFailure):
        return None
    for function in functions:
        if match := re.search(rf"^[\w \t*]+\b{function}\(", text, re.MULTILINE):
            return text.count("\n", 0, match.start()) + 1
    return None
