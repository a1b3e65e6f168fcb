"""The tests that a fuzzing run comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from fuzz.engine.smoke import SmokeProgress
from fuzz.results.outcome import Comparison, Status, Test, bucket_test
from fuzz.sides import side_to_json
from fuzz.triage.result import Result
from harness.findings.finding import Finding

FUZZING: Final = "fuzzing"
"""The test that the fuzzing itself is: it passes where it came to its end, whatever it found."""


def fuzzing_tests(comparisons: Sequence[Comparison], results: Sequence[Result], progress: SmokeProgress) -> list[Test]:
    """The tests that a fuzzing run comes to: of each comparison the fuzzing itself, and one for each bucket. Raises
    OSError."""
    sides = {_alike(*map(side_to_json, one.sides)): one.sides for one in comparisons}
    found: dict[tuple[str, str], dict[str, list[Result]]] = {(one.name, one.granule): {} for one in comparisons}
    places = {(one.name, one.granule): one for one in comparisons}
    for result in results:
        finding = result.finding
        place = Comparison(sides[_sides_key(finding)], finding.program.machine.granule.name)
        places.setdefault((place.name, place.granule), place)
        found.setdefault((place.name, place.granule), {}).setdefault(finding.bucket, []).append(result)
    tests = []
    for key, place in places.items():
        cut_short = _why_cut_short(place, progress)
        status = Status.SKIPPED if cut_short else Status.PASSED
        tests.append(Test(FUZZING, place, status, cut_short, seconds=progress.seconds))
        tests += [bucket_test(place, of_bucket) for of_bucket in found[key].values()]
    return tests


def _why_cut_short(place: Comparison, progress: SmokeProgress) -> str:
    """Why the fuzzing did not take its time; empty where it did. A finding may end all of it before a granule's turn
    comes: no kernel of that was booted then."""
    if progress.interrupted:
        return "interrupted"
    kernel = place.kernel
    booted = {(identity.get("pgtable_sha256"), identity.get("granule")) for identity in progress.identities}
    if not progress.findings or kernel is None:
        return ""
    has_run = (kernel.prepared().tree.pgtable_sha256, place.granule) in booted
    return "" if has_run else "not run: what was found before ended it"


def _sides_key(finding: Finding) -> tuple[Any, ...]:
    return _alike(finding.configuration["left"], finding.configuration["right"])


def _alike(*sides: Mapping[str, Any]) -> tuple[Any, ...]:
    """What sides and those that a finding of theirs has in its record share: all but where their files are."""
    return tuple(
        (side["kind"], side["what"], side["flavour"], side["object"], len(side["patches"]), side["pgtable"] is None)
        for side in sides
    )
