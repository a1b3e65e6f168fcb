"""What a finding's directory has for people who were not there: a README, a pytest test and a KUnit test case."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import Template
from typing import Final

from fuzz import __version__
from fuzz.sides import Side
from fuzz.triage.kunit.case import kunit_case
from fuzz.triage.kunit.detection import shown_instead
from harness.errors import BadInput, ToolFailure
from harness.files import brief
from harness.findings.finding import ORIGINAL
from harness.findings.place import PROGRAM
from harness.findings.writing import Contents, name_of
from harness.outside import printable
from harness.program.text import format_program
from reference.build.naming import DEFAULT_LINUX


def kernel_under_test(sides: Sequence[Side]) -> Side:
    """The last kernel among the sides; of two models, the default one."""
    return next((side for side in reversed(sides) if side.is_kernel), Side("kernel", DEFAULT_LINUX))


def documents(kernel: Side, contents: Contents) -> dict[str, str]:
    """Further files for the finding's directory, by name; `kernel` is that under test. Where its headers cannot be
    read, there is no C."""
    test = re.sub(r"\W", "_", name_of(contents))
    files = {f"test_{test}.py": Template(_TEST).substitute(name=test, what=_what(contents))}
    forms = _forms(kernel)
    if forms is not None:
        files[_REPRODUCER] = kunit_case(contents.program, contents.verdict, forms, _about(contents))
    return {"README": _readme(contents, [*files]), **files}


def _what(contents: Contents) -> str:
    return f"{contents.verdict.kind} {re.sub(r'[^A-Za-z0-9_.-]', '_', contents.verdict.bucket)}"


def _forms(kernel: Side) -> Mapping[str, bool] | None:
    """How the kernel's header has what differs between versions."""
    try:
        return kernel.prepared().declared.forms
    except (BadInput, ToolFailure):
        return None


def _about(contents: Contents) -> dict[str, str]:
    about = {"found by": f"s2fuzz {__version__}, from the program below"}
    for side in ("left", "right"):
        identity = contents.identities.get(side, {})
        keys = [key for key in ("linux", "source", "pgtable_sha256", "version") if key in identity]
        about[f"{'expected' if side == 'left' else 'seen'} on"] = (
            ", ".join(f"{key.replace('_', ' ')} {identity[key]}" for key in keys) or "unknown"
        )
    return about


def _readme(contents: Contents, files: Sequence[str]) -> str:
    verdict = contents.verdict
    seen, again = (
        f"{verdict.confirmed} of {verdict.confirmed}",
        "replay .                          # 1: still there, 0: gone",
    )
    if contents.outcomes:  # it is flaky
        seen = f"{contents.outcomes.count(verdict.bucket)} of {len(contents.outcomes)}"
        again = "replay . --times 20               # 1: seen at least once"
    lines = [
        f"{verdict.kind}: {verdict.bucket}",
        "",
        "A finding of s2fuzz, a differential fuzzer for KVM/arm64's page-table code.",
        f"Seen on {seen} fresh kernels.",
        "",
        "To run it again, from this folder:",
        "",
        f"    s2fuzz {again}",
        "    s2fuzz replay . --linux ~/src/linux      # on another kernel",
        "",
        "Files:",
        "",
        f"    {PROGRAM}, and {ORIGINAL} once it was minimised",
        "    report.txt, left.txt, right.txt, finding.json",
        *(f"    {name}: {_EXPLAINED[name.partition('.')[2]]}" for name in files),
        *_beside_the_reproducer(contents, files),
        "",
        "The program:",
        "",
        *(f"    {line}".rstrip() for line in format_program(contents.program).splitlines()),
        "",
    ]
    for side, identity in sorted(contents.identities.items()):
        lines += [
            f"What ran on the {side}:",
            "",
            *(f"    {key}: {value}" for key, value in sorted(brief(identity).items())),
            "",
        ]
    text = "\n".join(map(printable, lines))
    return f"{text}\n{contents.report}"


def _beside_the_reproducer(contents: Contents, files: Sequence[str]) -> list[str]:
    """What there is to say of a KUnit test case that passes with the bug."""
    instead = shown_instead(contents.program, contents.verdict) if _REPRODUCER in files else []
    return ["", f"Of {_REPRODUCER}:", *instead] if instead else []


_REPRODUCER: Final = "reproducer.c"
_EXPLAINED: Final = {
    "py": "a pytest test that fails while the bug is there; S2FUZZ_LINUX chooses another kernel",
    "c": "the program as a KUnit test case, for a kernel tree",
}

_TEST: Final = '''\
"""$what: fails while the bug is there. Needs s2fuzz; S2FUZZ_LINUX is another kernel to try it on, as `--linux`."""

from pathlib import Path

from fuzz.triage.replaying import report_of
from harness.settings import setting


def test_$name() -> None:
    report = report_of(Path(__file__).parent, setting("S2FUZZ_LINUX"))
    assert report is None, report
'''
