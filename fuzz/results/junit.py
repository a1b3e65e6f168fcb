"""JUnit XML, as most continuous integration shows it."""

from __future__ import annotations

from typing import Final

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from fuzz.results.outcome import Outcome, Status, Test, others
from harness.outside import printable

_RESULTS: Final = {Status.FAILED: Failure, Status.SKIPPED: Skipped, Status.BROKEN: Error}


def render(outcome: Outcome) -> str:
    """The run as a suite, with a test for each bucket: what several findings of it have in common fails once."""
    suite = TestSuite("s2fuzz")
    for test in outcome.merged():
        suite.add_testcase(_case(outcome.command, test))
    for key, value in outcome.about.items():
        suite.add_property(key, printable(value))
    xml = JUnitXml()
    xml.add_testsuite(suite)
    xml.update_statistics()  # type: ignore[no-untyped-call]
    text: bytes = xml.tostring()  # type: ignore[no-untyped-call]
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text.decode()}\n'


def _case(command: str, test: Test) -> TestCase:
    case = TestCase(printable(test.name), classname=f"s2fuzz.{command}", time=test.seconds)
    if test.status in _RESULTS:
        result = _RESULTS[test.status](printable(test.why), test.findings[0].finding.kind if test.findings else None)
        if test.status is not Status.SKIPPED:
            result.text = "\n".join([test.report, *others(test)])
        case.result = [result]
    return case
