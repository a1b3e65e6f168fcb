"""SARIF 2.1.0, as code scanning shows it: findings at the functions of pgtable.c."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from fuzz import __version__
from fuzz.results.outcome import Outcome, Status, Test, others
from fuzz.sides import Side
from fuzz.triage.recorded import sides_of
from fuzz.triage.result import Result
from harness.errors import BadInput, ToolFailure
from harness.findings.finding import Finding
from harness.outside import printable
from harness.program.ops import INIT
from reference.build.hosted import PGTABLE

_SCHEMA: Final = "https://json.schemastore.org/sarif-2.1.0.json"


def render(outcome: Outcome) -> str:
    """What was found: one result for each bucket, at the function of pgtable.c that the op calls. Its other findings
    are related locations. Raises OSError."""
    kernels: dict[Side, Side] = {}
    tests = sorted(_buckets(outcome), key=lambda test: test.bucket)
    failed = [test for test in outcome.tests if test.status is Status.BROKEN]
    invocation: dict[str, Any] = {"executionSuccessful": not failed, "startTimeUtc": f"{outcome.began:%FT%TZ}"}
    if failed:
        messages = dict.fromkeys(test.report for test in failed)
        invocation["toolExecutionNotifications"] = [{"level": "error", "message": {"text": text}} for text in messages]
    driver = {
        "name": "s2fuzz",
        "version": __version__,
        "rules": [{"id": test.bucket, "shortDescription": {"text": test.findings[0].headline}} for test in tests],
    }
    results = [_result(test, kernels) for test in tests]
    run = {"tool": {"driver": driver}, "invocations": [invocation], "results": results}
    return json.dumps({"$schema": _SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, sort_keys=True) + "\n"


def _buckets(outcome: Outcome) -> list[Test]:
    """The tests with findings, each bucket once, whatever programs it was seen with."""
    named = (replace(test, name=test.bucket) for test in outcome.tests if test.findings)
    return replace(outcome, tests=tuple(named)).merged()


def _result(test: Test, kernels: dict[Side, Side]) -> dict[str, Any]:
    first, *more = test.findings
    known = test.status is Status.SKIPPED
    entry: dict[str, Any] = {
        "ruleId": test.bucket,
        "level": "note" if known else "error",
        "kind": "fail",
        "message": {"text": "\n".join(filter(None, [first.known, test.report, *others(test)]))},
        "baselineState": "unchanged" if known else "new",
        "partialFingerprints": {"bucket/v1": test.bucket},
        "locations": [_location(first.finding, kernels)],
        "properties": {"directory": first.finding.directory.name, "findings": _records(test.findings)},
    }
    if more:
        entry["relatedLocations"] = [
            {"id": number, "message": {"text": line}, **_location(result.finding, kernels)}
            for number, (result, line) in enumerate(zip(more, others(test), strict=True), start=1)
        ]
    return entry


def _records(results: Sequence[Result]) -> list[dict[str, Any]]:
    return [
        {
            "directory": result.finding.directory.name,
            "granule": result.finding.program.machine.granule.name,
            "known": printable(result.known),
            "ops": len(result.finding.program.ops),
        }
        for result in results
    ]


def _location(finding: Finding, kernels: dict[Side, Side]) -> dict[str, Any]:
    region = {} if (line := _line_of(finding, kernels)) is None else {"region": {"startLine": line}}
    return {"physicalLocation": {"artifactLocation": {"uri": str(PGTABLE)}, **region}}


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
