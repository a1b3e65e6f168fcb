"""Which findings of a run a change introduced, and which were there before."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from fuzz.triage.filed import Filed
from fuzz.triage.recorded import Sides, recorded_sides_of, with_kernel
from fuzz.triage.replaying import look_again
from fuzz.triage.result import Result
from harness.errors import BadInput
from harness.findings.finding import Finding, load
from harness.outside import read_plain_text, shown
from harness.program.granule import Granule
from harness.verdict.buckets import check_buckets, listed_buckets
from harness.verdict.verdicts import BOTH_SIDES

_MAX_FILE: Final = 16 << 20
"""Bytes of a list of buckets."""


class Base:
    """What the change is a change of: a kernel, or its pgtable.c alone, on which a finding that is there as well is
    known, or a file that lists known buckets."""

    def __init__(self, text: str, linux: str | None) -> None:
        """`text` as the user gave it, `linux` the kernel under test. Raises BadInput."""
        self.text = text
        self.buckets: frozenset[str] | None = None
        self.kernel: str | None = None
        self.pgtable: Path | None = None
        self._before: dict[Sides, Sides] = {}
        if Path(text).is_file() and text.endswith(".c"):
            self.kernel, self.pgtable = linux, Path(text)
        elif Path(text).is_file():
            self.buckets = _buckets_in(Path(text))
        else:
            self.kernel = _kernel_of(text, linux)

    def build(self, pairs: Iterable[Sides], granules: Sequence[Granule], say: Callable[[str], None]) -> None:
        """Find out before the run whether the kernel can be had. Raises BadInput or ToolFailure."""
        if self.buckets is not None:
            return
        try:
            for sides in pairs:
                for side in self._of(sides):
                    side.open(say, granules).close()
        except BadInput as error:  # of a kernel, which does not know by which option it was chosen
            raise BadInput(f"--base {shown(self.text)}: {error}") from error

    def _of(self, sides: Sides) -> Sides:
        """The same comparison before the change, whose kernels are prepared once."""
        if sides not in self._before:
            self._before[sides] = with_kernel(sides, self.kernel, (), self.pgtable)
        return self._before[sides]

    def why_known(self, finding: Finding) -> str:
        """Why a finding is none of the change's; empty where it is new, or where the base cannot tell."""
        if self.buckets is not None:
            return f"{self.text} lists it" if finding.bucket in self.buckets else ""
        try:
            seen = look_again(finding, self._of(recorded_sides_of(finding)))
        except BadInput:  # the base lacks what the program asks for
            return ""
        is_there = seen.verdict is not None and seen.verdict.bucket == finding.bucket
        return f"it is on {self.text} as well" if is_there else ""


def _kernel_of(text: str, linux: str | None) -> str:
    """A kernel as for `--linux`, or a revision of the repository that the kernel under test is in."""
    if Path(text).is_dir() or "@" in text or re.fullmatch(r"[0-9]+(\.[0-9]+)+", text):
        return text
    head = (linux or "").rpartition("@")[0]
    for folder in (linux, head):
        if folder and Path(folder).is_dir():
            return f"{Path(folder).resolve()}@{text}"
    raise BadInput(f"--base {shown(text)}: no file, no kernel, and no revision either, as --linux names no repository")


def _buckets_in(path: Path) -> frozenset[str]:
    """The buckets that a file lists: one a line, with comments, or the line that `smoke --json` prints."""
    try:
        text = read_plain_text(path, _MAX_FILE, "a list of buckets")
    except OSError as error:
        raise BadInput(f"--base {shown(path)}: {error.strerror}") from error
    except BadInput as error:
        raise BadInput(f"--base {error}") from error
    if not text.lstrip().startswith("{"):
        check_buckets(text, f"--base {shown(path)}")
        return listed_buckets(text)
    try:
        return frozenset(str(finding["bucket"]) for finding in json.loads(text)["findings"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"--base {shown(path)}: not what `smoke --json` prints: {error!r}") from error


def results_of(findings: Iterable[Filed], base: Base | None, strict: bool = False) -> list[Result]:
    """The run's findings, each with whether the base has it. Without a base, a promise that both sides break alike is
    none of the change's, unless `strict`. Raises as `look_again` does."""
    found = [load(one.directory) for one in findings]
    return [Result(finding, _why_known(finding, base, strict)) for finding in found]


def _why_known(finding: Finding, base: Base | None, strict: bool) -> str:
    if base is not None:
        return base.why_known(finding)
    return "both sides break it; --strict counts that" if BOTH_SIDES in finding.blamed and not strict else ""
