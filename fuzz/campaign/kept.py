"""The findings that a campaign keeps: of every bucket a few, of all workers, slices and runs together.

What is kept is what lies in the campaign's folder; nothing here remembers more than a look at that folder tells. So a
run that follows one that was killed decides as that one would have.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.engine.assignment import KEPT_PER_BUCKET
from fuzz.sides import Side, side_to_json
from fuzz.triage.filed import FLAKY
from harness.errors import BadInput
from harness.findings.finding import ORIGINAL, Finding, adopt, load
from harness.findings.place import is_finding
from harness.outside import shown
from harness.program.program import Program
from harness.program.text import format_program, read
from harness.verdict.verdicts import BOTH_SIDES

Key = tuple[int | None, str]
"""A comparison's number, where it is one of the campaign's, and a bucket."""


def canonical(program: Program) -> str:
    """The text that programs have in common which are the same but for what is said about them."""
    return format_program(replace(program, comment=""))


def is_wanted(program: Program, kept: Sequence[Finding]) -> bool:
    """Whether a bucket of which those are `kept` takes in a finding with that program."""
    return len(kept) < KEPT_PER_BUCKET and not any(canonical(program) in _texts(one) for one in kept)


def _texts(finding: Finding) -> Iterator[str]:
    """Of its program, and of that which it was found with."""
    yield canonical(finding.program)
    original = finding.directory / ORIGINAL
    if original.is_file():
        with suppress(BadInput):  # it was tampered with, and is not needed
            yield canonical(read(original))


def to_minimise(kept: Sequence[Finding]) -> Finding | None:
    """Which of a bucket's findings is to be minimised: the shortest, where none is yet."""
    if not kept or any(one.minimised for one in kept):
        return None
    return min(kept, key=lambda one: (len(one.program.ops), one.directory.name))


def copies(kept: Sequence[Finding]) -> list[Finding]:
    """Of a bucket's findings, those whose program another was minimised to: they say nothing more."""
    minimal = {canonical(one.program) for one in kept if one.minimised}
    return [one for one in kept if not one.minimised and canonical(one.program) in minimal]


class KeptFindings:
    """Those in findings/ and flaky/. `say` hears of the first of each bucket; `minimise` has those that are to be
    minimised, and then `minimised` is to be told."""

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
        self._kept: dict[Path, dict[Key, list[Finding]]] = {place.findings: {}, place.flaky: {}}

    def look(self) -> None:
        """See what is there."""
        for home, buckets in self._kept.items():
            buckets.clear()
            for finding in self._read(home):
                buckets.setdefault(self.key(finding), []).append(finding)

    def count(self) -> None:
        """See what is there, and have minimised what that calls for."""
        self.look()
        for key in self._kept[self._place.findings]:
            self._drop_copies(key)
            self._have_minimised(key)

    @property
    def buckets(self) -> Counter[Key]:
        """How many there are of each that is not flaky."""
        return self._counted(self._place.findings)

    @property
    def flaky(self) -> Counter[Key]:
        """The same of those that are."""
        return self._counted(self._place.flaky)

    def of(self, key: Key) -> list[Finding]:
        """Those that are not flaky."""
        return list(self._kept[self._place.findings].get(key, ()))

    def filed(self, comparison: int) -> dict[str, int]:
        """How many there are of each bucket of a comparison."""
        return {bucket: count for (number, bucket), count in self.buckets.items() if number == comparison}

    def _counted(self, home: Path) -> Counter[Key]:
        return Counter({key: len(kept) for key, kept in self._kept[home].items() if kept})

    def all(self) -> Iterator[Finding]:
        """All that can be read, flaky ones last."""
        for buckets in self._kept.values():
            for kept in buckets.values():
                yield from kept

    def by_bucket(self) -> dict[str, list[Path]]:
        """Where those are that are not flaky, nor known to the user, nor promises that both sides break alike, by
        bucket, and comparison where there are several; the shortest of each, and of all, first."""
        known = self._place.known_buckets()
        found: dict[str, list[Path]] = {}
        kept = [(key, one) for key, of_it in self._kept[self._place.findings].items() for one in of_it]
        for key, finding in sorted(kept, key=lambda pair: len(pair[1].program.ops)):
            if finding.bucket not in known and BOTH_SIDES not in finding.blamed:
                found.setdefault(self._named(key), []).append(finding.directory)
        return found

    def _named(self, key: Key) -> str:
        """A bucket, with its comparison where that says something."""
        number, bucket = key
        labels = self._setup.labels()
        if number is None:
            return f"{bucket} (other sides)"
        return bucket if len(labels) == 1 else f"{bucket} ({labels[number]})"

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
        """Move what a process filed in `folder` to where it is kept, unless enough of its bucket are there, or one with
        the same program. Yields what is new."""
        for path in _entries(folder):
            if path.name == FLAKY:
                for one in _entries(path):
                    yield from self._adopt(one, self._place.flaky)
            else:
                yield from self._adopt(path, self._place.findings)

    def minimised(self, directory: Path) -> None:
        """Minimising one of them has ended, whatever came of it: look at it again."""
        for key, kept in self._kept[self._place.findings].items():
            if any(one.directory == directory for one in kept):
                kept[:] = [load(one.directory) if one.directory == directory else one for one in _still_there(kept)]
                self._drop_copies(key)

    def _adopt(self, path: Path, home: Path) -> Iterator[Finding]:
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
        kept = self._kept[home].setdefault(key, [])
        kept[:] = _still_there(kept)
        if (home / path.name).exists() or not is_wanted(finding.program, kept):
            shutil.rmtree(path)
            return
        finding = replace(finding, directory=adopt(path, home))
        kept.append(finding)
        yield finding
        if len(kept) == 1:
            what = "flaky: " if home == self._place.flaky else ""
            self._say(f"{what}{finding.kind} {self._named(key)}: {shown(finding.directory)}")
            if not what:
                self._have_minimised(key)

    def _have_minimised(self, key: Key) -> None:
        finding = to_minimise(self._kept[self._place.findings][key])
        if finding is not None:
            self._minimise(finding.directory)

    def _drop_copies(self, key: Key) -> None:
        kept = self._kept[self._place.findings][key]
        for finding in copies(kept):
            self._say(f"{shown(finding.directory)}: another was minimised to its program, so it goes")
            shutil.rmtree(finding.directory)
            kept.remove(finding)

    def _read(self, home: Path) -> Iterator[Finding]:
        for path in _entries(home):
            try:
                yield load(path)
            except BadInput as error:
                self._say(f"left out: {error}")


def _still_there(kept: Sequence[Finding]) -> list[Finding]:
    """Those that nobody has taken away."""
    return [one for one in kept if is_finding(one.directory)]


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
