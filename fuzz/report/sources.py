"""Source files with what a campaign's inputs reach of them, line by line and function by function."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import pgtable
from fuzz.campaign.ledger import Ledger
from fuzz.campaign.setup import CampaignSetup
from fuzz.campaign.work_directory import WorkDirectory
from fuzz.coverage.kernel_lines import reached_lines
from fuzz.coverage.model_lines import ModelLines
from fuzz.coverage.unreached import conditions, function_lines
from fuzz.sides import Side
from harness.errors import BadInput, ToolFailure
from harness.program.granule import granule_named
from harness.program.program import Program
from reference.probe.lines import FileLines, sum_of

HIT: Final = "hit"
MISS: Final = "miss"
NO_CODE: Final = "none"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line: `state` is HIT, MISS or NO_CODE; `count` how often it was executed, None where that is not known; `why`
    it cannot be reached, where that is known."""

    number: int
    text: str
    state: str
    count: int | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class FunctionLines:
    """A function: lines with code that were reached, of how many, and the numbers of the others, as ranges."""

    name: str
    reached: int
    total: int
    missing: str


@dataclass(frozen=True, slots=True)
class Source:
    """A file. `missing` says why nothing is known of it; then there are no lines."""

    title: str
    lines: tuple[SourceLine, ...] = ()
    functions: tuple[FunctionLines, ...] = ()
    missing: str = ""

    @property
    def reached(self) -> int:
        """Lines that were."""
        return sum(line.state == HIT for line in self.lines)

    @property
    def total(self) -> int:
        """Lines with code."""
        return sum(line.state != NO_CODE for line in self.lines)


def kernel_sources(place: WorkDirectory, setup: CampaignSetup, say: Callable[[str], None]) -> Iterator[Source]:
    """The files under test of every kernel, by running the whole corpus on kernels that count lines. `say` hears of
    each."""
    kernels: dict[Side, list[int]] = {}
    for number, one in enumerate(setup.work):
        for side in one.sides:
            if side.kind == "kernel":
                kernels.setdefault(side, []).append(number)
    for side, numbers in kernels.items():
        try:
            counted = [_counted(side, place, setup, number, say) for number in numbers]
            yield from [_kernel_source(side, sum_of(parts)) for parts in zip(*counted, strict=True)]
        except (BadInput, ToolFailure, OSError) as error:
            yield Source(side.name, missing=f"its lines could not be counted: {error}")


def _counted(
    side: Side, place: WorkDirectory, setup: CampaignSetup, number: int, say: Callable[[str], None]
) -> tuple[FileLines, ...]:
    store = setup.open_store(number, place)
    names = store.names()
    granule = granule_named(setup.work[number].granule)
    say(f"counting the lines of {side.name} that {len(names)} inputs reach, pages of {granule.name}")

    def programs() -> Iterator[Program]:
        for name in names:
            yield store.program(name)

    return reached_lines(side, granule, programs())


def _kernel_source(side: Side, found: FileLines) -> Source:
    text = found.path.read_text(errors="replace")
    known = conditions(text, side.kernel_object)
    lines = tuple(
        SourceLine(
            number,
            line.expandtabs(8),
            NO_CODE if number not in found.lines else HIT if found.lines[number] else MISS,
            found.lines.get(number),
            known.get(number, ""),
        )
        for number, line in enumerate(text.splitlines(), start=1)
    )
    owners = {number: function for number, _, function in function_lines(text) if function}
    # A campaign's copy of a user's file has its digest before its name.
    name = re.sub(r"^[0-9a-f]{16}-", "", found.path.name)
    return Source(f"{name} of {side.name}", lines, tuple(_functions(lines, owners)))


def model_sources(ledger: Ledger) -> Iterator[Source]:
    """The files of the model, by what the ledger says that the corpus reaches."""
    tracked = ModelLines()
    code = tracked.missing()
    tracked.know(ledger.rows("SELECT file, line FROM model_lines"))
    missing = tracked.missing()
    for path in sorted(Path(pgtable.__file__).parent.glob("*.py")):
        text = path.read_text()
        lines = tuple(
            SourceLine(number, line, _state((path.name, number), code, missing))
            for number, line in enumerate(text.splitlines(), start=1)
        )
        if any(line.state != NO_CODE for line in lines):
            owners = dict(_python_functions(ast.parse(text), ""))
            yield Source(f"pgtable/{path.name}", lines, tuple(_functions(lines, owners)))


def _state(line: tuple[str, int], code: set[tuple[str, int]], missing: set[tuple[str, int]]) -> str:
    if line not in code:
        return NO_CODE
    return MISS if line in missing else HIT


def _python_functions(node: ast.AST, prefix: str) -> Iterator[tuple[int, str]]:
    """Each line of a function with the function's name; of one within another, the inner one's comes last."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef):
            name = f"{prefix}{child.name}"
            if isinstance(child, ast.FunctionDef):
                yield from ((number, name) for number in range(child.lineno, (child.end_lineno or child.lineno) + 1))
            yield from _python_functions(child, f"{name}.")
        else:
            yield from _python_functions(child, prefix)


def _functions(lines: Iterable[SourceLine], owners: Mapping[int, str]) -> Iterator[FunctionLines]:
    by_function: dict[str, list[SourceLine]] = {}
    for line in lines:
        if line.state != NO_CODE and line.number in owners:
            by_function.setdefault(owners[line.number], []).append(line)
    for name, own in by_function.items():
        missed = [line.number for line in own if line.state == MISS]
        yield FunctionLines(name, len(own) - len(missed), len(own), ranges(missed))


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers as people write them: `3, 7-9`."""
    parts = []
    for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        first, *rest = [number for _, number in run]
        parts.append(f"{first}-{rest[-1]}" if rest else str(first))
    return ", ".join(parts)
