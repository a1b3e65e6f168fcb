"""From a finding back to the sides and tiers that it was found with."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from fuzz.sides import Side, follow, side_from_json
from harness.errors import BadInput
from harness.findings.finding import Finding
from harness.outside import read_plain, shown
from harness.verdict.tiers import DEFAULT_TIERS, Tier, format_tiers, parse_tiers
from reference.build.naming import repository_of

Sides = tuple[Side, Side]

_MAX_KERNEL_FILE: Final = 16 << 20
"""Bytes of a file that came with a finding."""


def sides_of(finding: Finding) -> Sides:
    """The sides a finding was found with; its kernel files are those kept beside it. Raises BadInput."""
    try:
        left, right = finding.configuration["left"], finding.configuration["right"]
    except KeyError as error:
        raise BadInput(f"{shown(finding.directory)}: the configuration lacks {error}") from error
    sides = side_from_json(left, finding.directory), side_from_json(right, finding.directory)
    kept = finding.directory / "kernel"
    for side in sides:
        for path in (*side.patches, side.pgtable):
            if path is None:
                continue
            if path.parent != kept:  # it came from somebody else, perhaps
                raise BadInput(f"{shown(finding.directory)}: {shown(path)} is not one of the finding's own files")
            if os.path.lexists(path):
                read_plain(path, _MAX_KERNEL_FILE, "a kernel's file", finding.directory)
    return sides


def recorded_sides_of(finding: Finding) -> Sides:
    """The same, with the commits that ran in place of a branch, which may have moved since, or of a working tree that
    was as in its commit. Raises BadInput."""
    return as_recorded(finding, sides_of(finding))


def kernel_of(finding: Finding) -> Side | None:
    """Of `recorded_sides_of` a finding the last one that is a kernel: the one under test. Raises BadInput."""
    return next((side for side in reversed(recorded_sides_of(finding)) if side.kind == "kernel"), None)


def as_recorded(finding: Finding, stored: Sides) -> Sides:
    """Of `sides_of` a finding, those of `recorded_sides_of`: the same ones where there is no other commit."""
    left, right = stored
    return _at_commit(left, finding.identities.get("left", {})), _at_commit(right, finding.identities.get("right", {}))


def _at_commit(side: Side, identity: Mapping[str, str]) -> Side:
    commit, repository = identity.get("commit", ""), repository_of(side.what)
    known = side.kind == "kernel" and repository is not None and re.fullmatch(r"[0-9a-f]{40,64}", commit)
    return replace(side, what=f"{repository}@{commit}") if known and not identity.get("commit_changed") else side


def tiers_of(finding: Finding) -> frozenset[Tier]:
    """The tiers a finding was found with; all, where it does not say. Raises BadInput."""
    return parse_tiers(str(finding.configuration.get("tiers", format_tiers(DEFAULT_TIERS))))


def with_kernel(sides: Sides, linux: str | None, patches: tuple[Path, ...], pgtable: Path | None) -> Sides:
    """The same sides with another kernel on the last kernel side, for `replay --linux fixed-tree`. A model among them
    becomes the one that follows another version's kernel."""
    chosen = list(sides)
    index = max((i for i, side in enumerate(chosen) if side.is_kernel), default=None)
    if index is None:
        raise BadInput("there is no kernel among the sides in whose place another could be put")
    what = chosen[index].what if linux is None else linux
    kernel = chosen[index] = replace(chosen[index], what=what, patches=patches, pgtable=pgtable)
    if linux is not None:
        chosen = [follow(side, kernel) for side in chosen]
    return chosen[0], chosen[1]
