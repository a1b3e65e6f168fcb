"""The findings that a campaign keeps: of every bucket a few, of all workers together."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.assignment import KEPT_PER_BUCKET
from fuzz.sides import Side, side_to_json
from fuzz.triage.filing import FLAKY
from harness.errors import BadInput
from harness.findings.finding import Finding, adopt, load
from harness.findings.place import is_finding
from harness.outside import shown

Key = tuple[int | None, str]
"""A comparison's number, where it is one of the campaign's, and a bucket."""


class KeptFindings:
    """Those in findings/ and flaky/, counted. `say` hears of the first of each bucket; where it is not minimised,
    `minimise` has it."""

    def __init__(
        self,
        place: WorkDirectory,
        setup: CampaignSetup,
        say: Callable[[str], None],
        minimise: Callable[[Path], None],
    ) -> None:
        self._place = place
        self._setup = setup
        self._say = say
        self._minimise = minimise
        self.buckets: Counter[Key] = Counter()
        self.flaky: Counter[Key] = Counter()

    def count(self) -> None:
        """Know those that are there."""
        for finding in self.all():
            buckets = self.flaky if self.is_flaky(finding) else self.buckets
            key = self.key(finding)
            buckets[key] += 1
            if buckets is self.buckets and buckets[key] == 1 and not finding.minimised:
                self._minimise(finding.directory)

    def all(self) -> Iterator[Finding]:
        """All that can be read, flaky ones last."""
        yield from self.confirmed()
        yield from self._kept_in(self._place.flaky)

    def confirmed(self) -> Iterator[Finding]:
        """Those that are not flaky, and can be read."""
        yield from self._kept_in(self._place.findings)

    def by_bucket(self) -> dict[str, list[Path]]:
        """Where those are that are not flaky, nor known to the user; the shortest of a bucket, and of all, first."""
        known = self._place.known_buckets()
        found: dict[str, list[Path]] = {}
        for finding in sorted(self.confirmed(), key=lambda one: len(one.program.ops)):
            if finding.bucket not in known:
                found.setdefault(finding.bucket, []).append(finding.directory)
        return found

    def is_flaky(self, finding: Finding) -> bool:
        """Whether it is kept among those."""
        return finding.directory.parent == self._place.flaky

    def key(self, finding: Finding) -> Key:
        """Findings with the same key are the same."""
        for number, work in enumerate(self._setup.work):
            sides = [finding.configuration.get(name) for name in ("left", "right")]
            if finding.program.machine.granule.name == work.granule and all(map(_is_of, sides, work.sides)):
                return number, finding.bucket
        return None, finding.bucket

    def take(self, folder: Path) -> Iterator[Finding]:
        """Move what a process filed in `folder` to where it is kept, unless enough of its bucket are there. Yields
        what is new."""
        for path in _entries(folder):
            if path.name == FLAKY:
                for one in _entries(path):
                    yield from self._adopt(one, self._place.flaky, self.flaky)
            else:
                yield from self._adopt(path, self._place.findings, self.buckets)

    def _adopt(self, path: Path, home: Path, buckets: Counter[Key]) -> Iterator[Finding]:
        if not is_finding(path):
            return
        try:
            finding = load(path)
        except BadInput as error:
            target = free_name(self._place.damaged / path.name)
            path.rename(target)
            self._say(f"{error}; put aside as {shown(target)}")
            return
        key = self.key(finding)
        if buckets[key] >= KEPT_PER_BUCKET or (home / path.name).exists():
            shutil.rmtree(path)
            return
        kept = adopt(path, home)
        buckets[key] += 1
        yield replace(finding, directory=kept)
        if buckets[key] == 1:
            what = "flaky: " if buckets is self.flaky else ""
            self._say(f"{what}{finding.kind} {finding.bucket}: {shown(kept)}")
            if not what:
                self._minimise(kept)

    def _kept_in(self, home: Path) -> Iterator[Finding]:
        for path in _entries(home):
            try:
                yield load(path)
            except BadInput as error:
                self._say(f"left out: {error}")


def _is_of(side: Any, of: Side) -> bool:
    """Whether a side in a finding's configuration is that one, whatever its files are called there."""
    mine = side_to_json(of, {path: "" for path in (*of.patches, of.pgtable) if path is not None})
    return isinstance(side, dict) and all(side.get(key) == mine[key] for key in ("flavour", "kind", "object", "what"))


def _entries(folder: Path) -> Iterator[Path]:
    """In order of their names, but for what is being written, and links that lead elsewhere."""
    try:
        yield from sorted(path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_symlink())
    except FileNotFoundError:
        return


def free_name(target: Path) -> Path:
    """`target`, or one like it that is not taken; its folder is made."""
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 0
    while (free := target.with_name(f"{target.name}{f'-{number}' if number else ''}")).exists():
        number += 1
    return free
