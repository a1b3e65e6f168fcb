"""KCIDB's JSON, version 5.3, as the `kcidb-io` package has its schema: what KernelCI's database takes.

A checkout is the source of a kernel under test, a build that source compiled for one granule, and the tests ran on it.
A checkout's name follows from its source, and is the same in every run; those of builds and tests are new.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from fuzz import __version__
from fuzz.results.outcome import Comparison, Outcome, Status, Test, others
from fuzz.sides import Side
from harness.errors import BadInput, ToolFailure
from harness.files import brief
from harness.outside import printable_lines
from harness.program.granule import granule_named
from harness.program.text import format_program

EXCERPT: Final = 16_384
"""Characters of a log that the schema allows."""
_CUT: Final = "\n[cut]\n"
_VERSION: Final = {"major": 5, "minor": 3}
_STATUSES: Final = {
    Status.PASSED: "PASS",
    Status.FAILED: "FAIL",
    Status.SKIPPED: "SKIP",
    Status.BROKEN: "ERROR",
}
_MACHINE: Final = "linux,dummy-virt"
"""What QEMU's virt machine is called in its own device tree."""


def render(outcome: Outcome) -> str:
    """The run's tests, with the builds and checkouts that they are of. Builds nothing that the run has built."""
    checkouts: dict[Side, dict[str, Any]] = {}
    builds: dict[tuple[Side, str], dict[str, Any]] = {}
    tests = []
    for number, test in enumerate(outcome.tests):
        kernel, granule = _under_test(test.comparison), test.comparison.granule
        if kernel not in checkouts:
            checkouts[kernel] = _checkout(outcome, kernel)
        if (kernel, granule) not in builds:
            builds[kernel, granule] = _build(outcome, kernel, granule, checkouts[kernel]["id"])
        tests.append(_test(outcome, test, number, builds[kernel, granule]["id"]))
    report = {
        "version": _VERSION,
        "checkouts": [*{one["id"]: one for one in checkouts.values()}.values()],
        "builds": [*builds.values()],
        "tests": tests,
    }
    return json.dumps(report, indent=2, sort_keys=True) + "\n"


def _under_test(comparison: Comparison) -> Side:
    """The kernel under test; of two models, the last."""
    return comparison.kernel or comparison.sides[-1]


def _checkout(outcome: Outcome, kernel: Side) -> dict[str, Any]:
    entry: dict[str, Any] = {"origin": outcome.origin, "comment": kernel.full_name, "start_time": _time(outcome)}
    if not kernel.is_kernel:
        return {"id": _named(outcome, kernel.full_name), **entry}
    try:
        tree = kernel.prepared().tree
    except (BadInput, ToolFailure) as error:
        name = _named(outcome, kernel.full_name, _time(outcome))
        return {"id": name, "valid": False, "log_excerpt": excerpt(str(error)), **entry}
    patches = [hashlib.sha256(path.read_bytes()).hexdigest() for path in kernel.patches]
    entry["misc"] = {"linux": tree.version, "pgtable_sha256": tree.pgtable_sha256, "source": tree.description}
    if re.fullmatch("[0-9a-f]{40}", tree.commit):
        entry["git_commit_hash"] = tree.commit
    if kernel.pgtable is None:
        entry["patchset_hash"] = _hash_of(patches)
    name = _named(outcome, tree.commit or tree.version, tree.description, tree.pgtable_sha256, *patches)
    return {"id": name, "valid": True, **entry}


def _hash_of(patches: Sequence[str]) -> str:
    """A patchset's hash by KCIDB's rule: that of the hashes, a line each; empty for no patches."""
    return hashlib.sha256("".join(f"{one}\n" for one in patches).encode()).hexdigest() if patches else ""


def _build(outcome: Outcome, kernel: Side, granule: str, checkout: str) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "id": _named(outcome, kernel.full_name, granule, _time(outcome)),
        "checkout_id": checkout,
        "origin": outcome.origin,
        "architecture": "arm64",
        "comment": f"{kernel.full_name}, hosted by a test kernel, pages of {granule}",
        "config_name": f"s2fuzz-{kernel.kernel_object}-{granule}",
    }
    if not kernel.is_kernel:
        return {**entry, "comment": f"{kernel.full_name}: no kernel took part"}
    try:
        identity = kernel.image(lambda _: None, granule_named(granule)).identity
    except (BadInput, ToolFailure) as error:
        return {**entry, "status": "FAIL", "log_excerpt": excerpt(str(error))}
    return {**entry, "status": "PASS", "compiler": identity["compiler"], "misc": brief(identity)}


def _test(outcome: Outcome, test: Test, number: int, build: str) -> dict[str, Any]:
    left, right = (side.full_name for side in test.comparison.sides)
    misc: dict[str, Any] = {"left": left, "right": right, "s2fuzz": __version__, **outcome.about}
    if test.findings:
        misc["bucket"] = test.bucket
        misc["findings"] = [result.finding.directory.name for result in test.findings]
        misc["program"] = format_program(test.findings[0].finding.program)
    entry: dict[str, Any] = {
        "id": _named(outcome, build, str(number), test.comparison.name, test.name),
        "build_id": build,
        "origin": outcome.origin,
        "path": f"s2fuzz.{outcome.command}.{_segment(test.name)}",
        "comment": test.why or f"{test.name}: {test.comparison.name}",
        "environment": {"comment": f"QEMU's virt machine, {test.comparison.name}", "compatible": [_MACHINE]},
        "start_time": _time(outcome),
        "status": _STATUSES[test.status],
        "misc": misc,
    }
    if test.seconds is not None:
        entry["duration"] = test.seconds
    if test.report:
        entry["log_excerpt"] = excerpt("\n".join([test.report, *others(test)]))
    return entry


def excerpt(text: str) -> str:
    """The beginning of a log, and where it is too long its end as well."""
    text = printable_lines(text)
    if len(text) <= EXCERPT:
        return text
    half = (EXCERPT - len(_CUT)) // 2
    return text[:half] + _CUT + text[-half:]


def _segment(name: str) -> str:
    """A name as one step of a path, which has dots between its steps."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name.removesuffix(".s2")).strip("_") or "unnamed"


def _named(outcome: Outcome, *parts: str) -> str:
    digest = hashlib.sha256("\0".join((outcome.command, *parts)).encode()).hexdigest()
    return f"{outcome.origin}:{digest[:32]}"


def _time(outcome: Outcome) -> str:
    return outcome.began.isoformat(timespec="microseconds")
