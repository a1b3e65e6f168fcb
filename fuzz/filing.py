"""From a verdict to a finding's directory, and from a finding back to the sides it was found with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz.sides import Side, follow, from_configuration, to_configuration
from harness.compare import ALL_TIERS, Tier, format_tiers, parse_tiers
from harness.errors import BadInput
from harness.executor import Executor
from harness.finding import Finding, save
from harness.judge import Verdict
from harness.program import Program
from harness.report import verdict_report, verified_against


class Filer:
    """Files findings of one run below `out`. `origin` is how the run came by its programs, for the record; `tiers` is
    what the run compares."""

    def __init__(
        self,
        out: Path,
        sides: tuple[Side, Side],
        executors: tuple[Executor, Executor],
        origin: Mapping[str, Any],
        tiers: frozenset[Tier] = ALL_TIERS,
    ) -> None:
        self.out = out
        self.sides = sides
        self.executors = executors
        self.origin = origin
        self.tiers = tiers
        self.filed: list[dict[str, Any]] = []
        """Of every finding filed: class, bucket, directory, ops. The shortest of a bucket comes first."""

    def report(self, program: Program, verdict: Verdict) -> str:
        """The text that `file` puts into the directory."""
        left, right = self.executors
        return verdict_report(
            program, verdict, (left.name, right.name), verified_against([left.identity, right.identity])
        )

    def file(self, program: Program, verdict: Verdict) -> Path:
        """Write the finding's directory, and return it. Raises OSError when it cannot be written."""
        left, right = self.executors
        names: dict[Path, str] = {}
        for side in self.sides:
            for path in (*side.patches, side.pgtable):
                if path is not None:
                    names.setdefault(path, f"kernel/{len(names)}-{path.name}")
        configuration = {
            "left": to_configuration(self.sides[0], names),
            "origin": dict(self.origin),
            "right": to_configuration(self.sides[1], names),
            "tiers": format_tiers(self.tiers),
        }
        directory = save(
            self.out,
            program,
            verdict,
            self.report(program, verdict),
            configuration,
            {"left": dict(left.identity), "right": dict(right.identity)},
            {name.removeprefix("kernel/"): path.read_bytes() for path, name in names.items()},
        )
        entry = {
            "bucket": verdict.bucket,
            "class": verdict.kind,
            "directory": str(directory),
            "ops": len(program.ops),
        }
        if entry not in self.filed:
            self.filed.append(entry)
            buckets = list(dict.fromkeys(one["bucket"] for one in self.filed))
            self.filed.sort(key=lambda one: (buckets.index(one["bucket"]), one["ops"]))
        return directory


def sides_of(finding: Finding) -> tuple[Side, Side]:
    """The sides a finding was found with; its kernel files are those kept beside it. Raises BadInput."""
    try:
        left, right = finding.configuration["left"], finding.configuration["right"]
    except KeyError as error:
        raise BadInput(f"{finding.directory}: the configuration lacks {error}") from error
    sides = from_configuration(left, finding.directory), from_configuration(right, finding.directory)
    kept = finding.directory / "kernel"
    for side in sides:
        for path in (*side.patches, side.pgtable):
            if path is not None and path.parent != kept:  # it came from somebody else, perhaps
                raise BadInput(f"{finding.directory}: {path} is not one of the finding's own files")
    return sides


def tiers_of(finding: Finding) -> frozenset[Tier]:
    """The tiers a finding was found with; all, where it does not say. Raises BadInput."""
    return parse_tiers(str(finding.configuration.get("tiers", format_tiers(ALL_TIERS))))


def with_kernel(sides: tuple[Side, Side], linux: str | None, patches: tuple[Path, ...], pgtable: Path | None) -> Any:
    """The same sides with another kernel on the last kernel side, for `replay --linux fixed-tree`. A model among them
    becomes the one that follows another version's kernel."""
    chosen = list(sides)
    index = max((i for i, side in enumerate(chosen) if side.is_kernel), default=None)
    if index is None:
        raise BadInput("--linux, --patch and --pgtable need a kernel among the finding's sides")
    what = chosen[index].what if linux is None else linux
    chosen[index] = replace(chosen[index], what=what, patches=patches, pgtable=pgtable)
    if linux is not None:
        chosen = [follow(side, linux) for side in chosen]
    return chosen[0], chosen[1]
