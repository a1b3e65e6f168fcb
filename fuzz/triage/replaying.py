"""Findings on disk, looked at again: still there or gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from fuzz.triage.recorded import Sides, as_recorded, recorded_sides_of, sides_of, tiers_of, with_kernel
from harness.amounts import counted
from harness.errors import BadInput, ToolFailure
from harness.files import DIGITS, HOSTED_FILES, parse_files, same_code
from harness.findings.finding import Finding, load
from harness.findings.verified import MAX_FILES, verified_against
from harness.observation.executor import Executor
from harness.outside import shown
from harness.verdict.judge import Judge
from harness.verdict.judging import Judging
from harness.verdict.tiers import Tier
from harness.verdict.verdicts import Inconclusive, Verdict


@dataclass(frozen=True, slots=True)
class Seen:
    """What a finding's program comes to: the verdict with its report, or None where the sides agree; `notes` are to be
    said about the sides then. `untold` says why that they agree does not mean that it is gone: they are not those that
    it was found with, although nobody chose others, or were cut before the end, or it was flaky to begin with. `sides`
    ran, and `names` are theirs. `often` is how many times it was seen."""

    verdict: Verdict | None
    report: str
    notes: list[str]
    untold: str
    names: tuple[str, str]
    sides: Sides
    often: int


def look_again(
    finding: Finding,
    sides: Sides | None = None,
    tiers: frozenset[Tier] | None = None,
    say: Callable[[str], None] = lambda _: None,
    times: int = 1,
    judging: Judging = Judging.ALL,
) -> Seen:
    """Run a finding's program on fresh targets, so many times: on the sides and in the tiers that it was found with, or
    on others. What is seen is the finding itself, if it shows at all, or else the first other thing that does.

    Of its own sides, the commits that were recorded run, where they can be had. Raises BadInput for other sides that
    cannot be, ToolFailure where it cannot be run.
    """
    compared = tiers or tiers_of(finding)
    with opened(finding, sides, say) as (_, chosen, left, right):
        identities = {"left": left.identity, "right": right.identity}
        unlike = _unlike(finding.identities, identities) if sides is None else ""
        names = left.name, right.name
        judge = Judge(left, right, compared, judging)
        outcomes = [judge.examine(finding.program) for _ in range(times)]
        verdicts = [outcome for outcome in outcomes if isinstance(outcome, Verdict)]
        notes = verified_against([left.identity, right.identity])
        if not verdicts:
            cut = next((outcome.cut for outcome in outcomes if isinstance(outcome, Inconclusive)), None)
            if cut is not None:
                unlike = unlike or f"its budget is too small, {cut.describe(names)}"
            elif finding.is_flaky:
                seen, of = finding.reliability
                unlike = unlike or f"it was flaky, seen {seen} of {counted(of, 'time')}"
            return Seen(None, "", notes, unlike, names, chosen, 0)
        verdict = next((one for one in verdicts if one.bucket == finding.bucket), verdicts[0])
        often = sum(one.bucket == verdict.bucket for one in verdicts)
        from harness.findings.report import verdict_report  # noqa: PLC0415  (of what is gone, there is none)

        report = verdict_report(finding.program, verdict, names, notes)
        return Seen(verdict, report, [], unlike, names, chosen, often)


def _unlike(recorded: Mapping[str, Mapping[str, str]], here: Mapping[str, Mapping[str, str]]) -> str:
    """In which kernels what was recorded of a finding is not what is here; empty where it is all the same."""
    different = []
    for side, identity in here.items():
        before = recorded.get(side, {})
        if "pgtable_sha256" not in identity:  # a model
            continue
        same = same_code(parse_files(before.get(HOSTED_FILES, "")), parse_files(identity.get(HOSTED_FILES, "")))
        if before.get("pgtable_sha256") != identity["pgtable_sha256"] or same is False:
            different.append(f"seen on {_source(before)}, this is {_source(identity)}")
    return "; ".join(different)


def _source(identity: Mapping[str, str]) -> str:
    """What a kernel was built from, in words."""
    source, commit = identity.get("source", "a kernel that was not recorded"), identity.get("commit", "")
    words = [source, *([f"commit {commit[:12]}"] if commit and commit[:12] not in source else [])]
    if changed := identity.get("commit_changed", "").split():
        words.append(f"with changes to {', '.join(changed[:MAX_FILES])}" + (" and more" if changed[MAX_FILES:] else ""))
    if "pgtable_sha256" in identity:
        words.append(f"pgtable.c {identity['pgtable_sha256'][:DIGITS]}")
    return ", ".join(words)


def report_of(directory: Path, linux: str | None = None) -> str | None:
    """The report on a finding that is still there, on another kernel if `linux` says so; None where it is gone.

    Raises as `look_again` does, BadInput for what is no finding, and ToolFailure where the kernel that it was found on
    cannot be had, and it does not show on the one that can.
    """
    finding = load(directory)
    sides = None if linux is None else with_kernel(recorded_sides_of(finding), linux, (), None)
    seen = look_again(finding, sides)
    if seen.verdict is None and seen.untold:
        raise ToolFailure(f"{shown(directory)}: not seen here, which does not mean that it is gone: {seen.untold}")
    return None if seen.verdict is None else seen.report


@contextmanager
def opened(
    finding: Finding, sides: Sides | None, say: Callable[[str], None]
) -> Iterator[tuple[Sides, Sides, Executor, Executor]]:
    """Its own sides; those that run: `sides`, or else its own, as they were if that can be; and executors of these for
    its program. That its own sides cannot be had here is nobody's bad input."""
    stored = sides_of(finding)
    choices = dict.fromkeys([as_recorded(finding, stored), stored] if sides is None else [sides])
    for number, chosen in enumerate(choices, start=1):
        try:
            left, right = (side.open(say, [finding.program.machine.granule]) for side in chosen)
        except BadInput as error:
            if sides not in (None, stored):
                raise
            if number == len(choices):
                raise ToolFailure(f"the finding cannot be run again here: {error}") from error
            say(f"what it was found on cannot be had: {error}")
            continue
        with closing(left), closing(right):
            yield stored, chosen, left, right
        return
